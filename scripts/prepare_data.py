"""Looks through, converts, packs, aligns, splits and compares sets of face images.

A set is a folder with one folder an identity, a RecordIO file (train.rec, or its folder), a verification file (.bin),
WebDataset's tar shards, a packed folder, CelebA's folder, a folder of the datasets library, or a list file of
"path label" lines:

python scripts/prepare_data.py verify data/casia/train.rec --report casia.json
python scripts/prepare_data.py verify 'shards/train-{000..099}.tar' --label identity
python scripts/prepare_data.py convert data/casia/train.rec data/casia_images
python scripts/prepare_data.py convert lfw/images lfw.bin --pairs lfw/pairs.txt
python scripts/prepare_data.py pack data/casia_images data/casia.packed --size 112
python scripts/prepare_data.py align photos aligned --landmarks photos.csv
python scripts/prepare_data.py align photos aligned --detector mtcnn
python scripts/prepare_data.py split data/casia_images data/casia_split --val-identities 0.1
python scripts/prepare_data.py masks CelebAMask-HQ/CelebAMask-HQ-mask-anno CelebAMask-HQ/masks
python scripts/prepare_data.py masks colored masks --classes classes.txt
python scripts/prepare_data.py overlap data/casia_images data/lfw.bin --checkpoint runs/my_run --out data/clean.txt

Results appear whole or not at all. A folder, a packed set or a split that was cut short is gone on with by the same
command, as long as its source has not changed; a .rec, .bin or list is one file, and is begun anew. What was left out,
and why, is printed and in the report (JSON). Exit code 1: verify found images that cannot be read.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from facetx.cli import Parser, embedding_arguments, embedding_options, run_script, say, whole
from facetx.prepare.convert import KINDS

BOUNDS = {
    "residual": "mean distance of the points from a face's, as a share of the side (default: 0.1)",
    "rotation": "degrees (default: 45)",
    "scale": "deviations of the scale from the set's usual one (default: 5)",
    "outside": "share of the aligned picture that lies outside of the photo (default: 0.3)",
}
"""Beyond these an alignment is an outlier: ``facetx.prepare.outliers.Bounds``."""

if TYPE_CHECKING:
    from facetx.inference.detect import MtcnnDetector
    from facetx.prepare.report import Report
    from facetx.prepare.sources import Source


def main(args: argparse.Namespace) -> int:

    out = getattr(args, "out", None)
    args.report = args.report or (f"{out.rstrip('/')}.report.json" if out else None)
    report = run(args)
    say(report.text())
    say(f"report: {args.report}" if args.report else "report: none; --report FILE keeps the names of all")
    return 1 if report.facts.get("undecodable") else 0


def run(args: argparse.Namespace) -> "Report":
    if args.command == "masks":
        from facetx.prepare.masks import convert_masks

        return convert_masks(args.source, args.out, args.classes, args.nearest, args.report)
    from facetx.prepare.sources import open_source

    source = open_source(args.source, args.landmarks, args.root, args.label)
    if args.command == "verify":
        from facetx.prepare.verify import verify

        return verify(source, args.report)
    if args.command == "align":
        from facetx.prepare.align import align_set
        from facetx.prepare.outliers import Bounds

        given = {name: getattr(args, f"max_{name}") for name in BOUNDS}
        bounds = Bounds(**{name: value for name, value in given.items() if value is not None})
        return align_set(source, args.out, args.size, args.jpeg_quality, detector(args), args.report, bounds)
    if args.command == "overlap":
        return overlap(source, args)
    from facetx.prepare import convert as prepare_convert

    if args.command == "split":
        return prepare_convert.split(source, args.out, args.val_identities, args.seed, args.to, args.report)
    if args.command == "pack":
        return prepare_convert.convert(source, args.out, "packed", size=args.size, report_file=args.report)
    return prepare_convert.convert(source, args.out, args.to, args.pairs, args.size, args.report)


def detector(args: argparse.Namespace) -> "MtcnnDetector | None":
    from facetx.errors import ConfigError
    from facetx.inference.detect import MtcnnDetector

    if args.detector is not None:
        return MtcnnDetector(**({} if args.min_probability is None else {"min_probability": args.min_probability}))
    if args.min_probability is not None:
        raise ConfigError("--min-probability is the detector's; it goes with --detector, not with --landmarks")
    return None


def overlap(train: "Source", args: argparse.Namespace) -> "Report":
    from facetx.inference.model import load_model
    from facetx.prepare.overlap import find_overlap
    from facetx.prepare.sources import open_source

    test = open_source(args.test, args.test_landmarks, args.test_root, args.test_label)
    model = load_model(args.checkpoint, args.device)
    return find_overlap(
        model.backbone,
        train,
        test,
        threshold=args.threshold,
        out=args.out,
        report_file=args.report,
        how=embedding_options(args, model.device),
    )


def arguments() -> argparse.ArgumentParser:
    side = whole(1, 4096)
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, out: bool = True, report: str = "OUT.report.json") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("source", help="the set: a folder, .rec, .bin, .tar, packed folder or list file")
        if out:
            sub.add_argument("out", help="what to write; must not exist")
        keypoints = sub.add_mutually_exclusive_group(required=name == "align")
        keypoints.add_argument("--landmarks", help="CSV file of five keypoints an image, in pixels, or CelebA's")
        if name == "align":
            keypoints.add_argument("--detector", choices=["mtcnn"], help="finds them (pip install 'facetx[align]')")
        sub.add_argument("--root", help="of a list: where its paths start; of CelebA: the folder of the images")
        sub.add_argument("--label", help="of shards: suffix or JSON key of the identities; of datasets: their column")
        sub.add_argument("--report", help=f"where to write the report (default: {report})")
        return sub

    command(
        "verify", "read every image; report damage, sizes, doubles, identities, alignment", out=False, report="none"
    )

    sub = command("convert", "any set to any kind of set, image files byte by byte")
    sub.add_argument(
        "--to", choices=KINDS, help="default: by the ending of OUT: .rec, .bin, .packed, .txt, else a folder"
    )
    sub.add_argument("--pairs", help="for a .bin: the pairs file that names the images, LFW's or facetx's")
    sub.add_argument("--size", type=side, help="for a packed set: pixels a side to resize to")

    sub = command("pack", "decode once, into one memory-mapped array")
    sub.add_argument(
        "--size", type=side, help="pixels a side to resize square images to (default: other sizes are dropped)"
    )

    sub = command("align", "five landmarks to the ArcFace template")
    sub.add_argument("--size", type=side, default=112, help="pixels a side (default: 112)")
    sub.add_argument("--jpeg-quality", type=whole(1, 100), help="write JPEGs of this quality (default: PNG)")
    sub.add_argument("--min-probability", type=float, help="less likely faces count as none (default: 0.9)")

    for name, text in BOUNDS.items():
        sub.add_argument(f"--max-{name}", type=float, help=f"leave outliers out: {text}; inf takes all")

    sub = command("split", "train and validation parts that share no identity")
    sub.add_argument(
        "--val-identities",
        type=float,
        default=0.1,
        help="share of the identities (default: 0.1); each is drawn by its name, so of a few it is rarely this share",
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--to", choices=[k for k in KINDS if k != "bin"], default="list", help="default: lists of the files"
    )

    text = "index masks of masks in colors, or of CelebAMask-HQ's files of parts"
    sub = commands.add_parser("masks", help=text, description=text)
    sub.add_argument("source", help="a folder of masks, at any depth")
    sub.add_argument("out", help="the folder to write; must not exist")
    words = "file with a class and its red, green and blue a line, or a known list (default: CelebAMask-HQ's parts)"
    sub.add_argument("--classes", help=words)
    sub.add_argument("--nearest", action="store_true", help="take the class of the nearest color")
    sub.add_argument("--report", help="where to write the report (default: OUT.report.json)")

    text = "identities and faces that a training set shares with a test set"
    sub = command("overlap", text, out=False, report="OUT.report.json with --out, else none")
    sub.add_argument("test", help="the test set, likewise; the first one is the training set")
    sub.add_argument("--test-landmarks", help="CSV file of the test set's keypoints")
    sub.add_argument("--test-root", help="the test set's --root")
    sub.add_argument("--test-label", help="the test set's --label")
    sub.add_argument("--checkpoint", required=True, help="a run's folder (its best checkpoint), or one checkpoint's")
    sub.add_argument("--out", help="write the training set without the identities found: a list (.txt), .rec, ...")
    sub.add_argument("--threshold", type=float, help="cosine (default: by the training set's own impostors)")
    embedding_arguments(sub)
    return parser


if __name__ == "__main__":
    sys.exit(run_script(arguments(), main))
