"""Writes a trained model as a file that other programs run, and checks it against PyTorch:

python scripts/export.py runs/my_run --to onnx
python scripts/export.py runs/my_run --to onnx --quantize int8 --calibrate packed --calibrate-args path=faces.packed
python scripts/export.py runs/my_run --to coreml --out my_run.mlpackage
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from facetx.cli import Parser, run_script, say, whole

if TYPE_CHECKING:
    pass


def main(args: argparse.Namespace) -> int:
    from facetx.benchmarks.suite import results_folder
    from facetx.errors import ConfigError
    from facetx.exporting import TARGETS, export

    if args.quantize and args.to != "onnx":
        raise ConfigError("--quantize int8 is of --to onnx")
    if not args.quantize and (args.calibrate or args.calibrate_args):
        raise ConfigError("--calibrate and --calibrate-args are about --quantize int8, which is missing")
    if args.calibrate_args and not args.calibrate:
        raise ConfigError("--calibrate-args are about the data set that --calibrate names, which is missing")
    out = Path(args.out) if args.out else results_folder(args.checkpoint, "export") / f"model{TARGETS.get(args.to, '')}"
    written = export(args.checkpoint, out, args.to, args.opset)
    facts = written.facts
    say(f"{args.checkpoint}: {facts.task}, {', '.join(f'{n} {list(s)}' for n, s in facts.outputs.items())}")
    say(f"input: {'image and keypoints' if facts.keypoints else 'image'}, {facts.input}; {facts.preprocessing}")
    say(f"check: {written.checked}")
    say(f"written: {out}")
    if args.quantize:
        quantized(out, args)
    return 0


def quantized(path: Path, args: argparse.Namespace) -> None:
    """Writes the int8 file beside the fp32 one, and says whether it decides otherwise."""
    from facetx.config.dataset import open_dataset
    from facetx.config.overrides import args_of
    from facetx.config.parts import Part
    from facetx.data.synthetic.faces import SyntheticFaces
    from facetx.exporting import quantize
    from facetx.exporting.beside import decisions_beside
    from facetx.inference.model import load_model

    fine = load_model(path)
    size = fine.contract.size
    data = None
    if args.calibrate is not None:
        data = open_dataset(Part(name=args.calibrate, args=args_of(args.calibrate_args)), size)
    out = path.with_suffix(".int8.onnx")
    written = quantize(path, out, data, args.images)
    say(f"\nint8: {written.checked}\nwritten: {out}, {out.stat().st_size / path.stat().st_size:.2f} of fp32's bytes\n")
    asked = data or SyntheticFaces(identities=40, images_per_identity=8, first_identity=10_000, size=size)
    tables = decisions_beside(fine, load_model(out), asked)
    say("\n\n".join([*(table.text() for table in tables), f"on {asked.name}"]))


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("checkpoint", metavar="RUN", help="a run (its best checkpoint, else the last), or a checkpoint")
    parser.add_argument("--to", default="onnx", help="onnx (default), coreml, torchscript, or exported (.pt2)")
    parser.add_argument("--out", metavar="FILE", help="default: export/model.onnx or the like in the run's folder")
    parser.add_argument("--opset", type=whole(1), default=20, help="of ONNX (default: 20)")
    parser.add_argument("--quantize", choices=["int8"], help="write an int8 file for CPUs beside it")
    parser.add_argument("--calibrate", metavar="DATA", help="a data set of docs/settings.md (default: drawn faces)")
    parser.add_argument("--calibrate-args", nargs="+", metavar="KEY=VALUE", help="its arguments")
    parser.add_argument("--images", type=whole(1), default=128, help="to calibrate on (default: 128)")
    sys.exit(run_script(parser, main))
