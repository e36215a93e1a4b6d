"""Looks through, converts, packs, aligns and splits sets of face images.

A set is a folder with one folder an identity, a RecordIO file (train.rec, or its folder), a verification file (.bin),
a packed folder, or a list file of "path label" lines:

python scripts/prepare_data.py verify data/casia/train.rec --report casia.json
python scripts/prepare_data.py convert data/casia/train.rec data/casia_images
python scripts/prepare_data.py convert lfw/images lfw.bin --pairs lfw/pairs.txt
python scripts/prepare_data.py pack data/casia_images data/casia.packed --size 112
python scripts/prepare_data.py align photos aligned --landmarks photos.csv
python scripts/prepare_data.py split data/casia_images data/casia_split --val-identities 0.1

Results appear whole or not at all. What was left out, and why, is printed and in the report (JSON).
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from facetx.cli import run_script

if TYPE_CHECKING:
    from facetx.data.prepare import Report

KINDS = ["folder", "rec", "bin", "packed", "list"]


def main(args: argparse.Namespace) -> int:
    report = run(args)
    print(report.text())
    path = args.report or (f"{str(report.out).rstrip('/')}.report.json" if report.out else None)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        report.write(path)
        print(f"report: {path}")
    return 0


def run(args: argparse.Namespace) -> "Report":
    from facetx.data.sources import open_source

    source = open_source(args.source, args.landmarks)
    if args.command == "verify":
        from facetx.data.prepare_verify import verify

        return verify(source)
    if args.command == "align":
        from facetx.data.prepare_align import align_set

        return align_set(source, args.out, args.size, args.jpeg_quality)
    from facetx.data import prepare_convert

    if args.command == "split":
        return prepare_convert.split(source, args.out, args.val_identities, args.seed, args.to)
    if args.command == "pack":
        return prepare_convert.convert(source, args.out, "packed", size=args.size)
    return prepare_convert.convert(source, args.out, args.to, args.pairs, args.size)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, out: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("source", help="the set: a folder, .rec, .bin, packed folder or list file")
        if out:
            sub.add_argument("out", help="what to write; must not exist")
        sub.add_argument("--landmarks", help="CSV file of five keypoints an image, in pixels", required=name == "align")
        sub.add_argument("--report", help="where to write the report (default: OUT.report.json)")
        return sub

    command("verify", "read every image; report damage, sizes, doubles, identities, alignment", out=False)

    sub = command("convert", "any set to any kind of set, image files byte by byte")
    sub.add_argument(
        "--to", choices=KINDS, help="default: by the ending of OUT: .rec, .bin, .packed, .txt, else a folder"
    )
    sub.add_argument("--pairs", help="for a .bin: the pairs file that names the images")
    sub.add_argument("--size", type=int, help="for a packed set: pixels a side to resize to")

    sub = command("pack", "decode once, into one memory-mapped array")
    sub.add_argument(
        "--size", type=int, help="pixels a side to resize to (default: images of another size are dropped)"
    )

    sub = command("align", "five landmarks to the ArcFace template")
    sub.add_argument("--size", type=int, default=112, help="pixels a side (default: 112)")
    sub.add_argument("--jpeg-quality", type=int, help="write JPEGs of this quality (default: PNG)")

    sub = command("split", "train and validation parts that share no identity")
    sub.add_argument("--val-identities", type=float, default=0.1, help="share of the identities (default: 0.1)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--to", choices=[k for k in KINDS if k != "bin"], default="list", help="default: lists of the files"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_script(arguments(), main))
