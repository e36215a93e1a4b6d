"""Evaluates a checkpoint on LFW's pairs, or on others in LFW's format:

python scripts/eval_lfw.py --checkpoint runs/my_run --images lfw/images --pairs lfw/pairs.txt
"""

import argparse
import sys
from pathlib import Path

from facetx.cli import Parser, embedding_arguments, embedding_options, run_script, say


def main(args: argparse.Namespace) -> int:
    from facetx.nn.compiled import without_compiler

    with without_compiler():
        return measured(args)


def measured(args: argparse.Namespace) -> int:
    from facetx.benchmarks.suite import measure, results_folder, write_outcome
    from facetx.evaluators import build_evaluator
    from facetx.inference.model import load_model
    from facetx.plots.pictures import write_pictures

    model = load_model(args.checkpoint, args.device)
    beside = Path(args.pairs).with_name("landmarks.csv")
    landmarks = args.landmarks or (str(beside) if beside.is_file() else None)
    options = {
        "images": args.images,
        "pairs": args.pairs,
        "landmarks": landmarks if model.backbone.needs_keypoints else None,
        "flip": not args.no_flip,
    }
    evaluator = build_evaluator("lfw", None, options, model.contract.size)
    outcome = measure(
        model.backbone,
        evaluator,
        *("lfw", "LFW", "faces in the wild"),
        pairs=6000,
        landmarks=landmarks,
        seed=model.meta["settings"]["seed"],
        how=embedding_options(args, model.device),
    )
    say(f"{args.checkpoint}, step {model.meta['step']}")
    say("".join(f"\n{table}\n" for table in outcome.result.tables()))
    say("".join(f"warning: {text}\n" for text in outcome.warnings))

    folder = Path(args.out) if args.out else results_folder(args.checkpoint, "lfw")
    pictures = write_pictures(folder, [], {"lfw": outcome.result}, [evaluator])
    facts = {"checkpoint": str(args.checkpoint), "step": model.meta["step"], "input": model.contract.as_dict()}
    write_outcome(folder / "lfw.json", outcome, facts)
    say(f"written: {folder}/lfw.json, {', '.join(p.name for p in pictures)}")
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, help="a run (its best checkpoint, else the last), or one checkpoint"
    )
    parser.add_argument("--images", required=True, help="folder with Name/Name_0001.*, aligned as the model wants")
    parser.add_argument("--pairs", required=True, help="pairs.txt, 10 folds of 300 + 300; or of one fold")
    parser.add_argument(
        "--landmarks", metavar="CSV", help="keypoints (default: landmarks.csv beside the pairs, if any)"
    )
    parser.add_argument("--no-flip", action="store_true", help="leave the mirrored images out")
    parser.add_argument("--out", help="folder for the JSON and the pictures (default: lfw/ in the run's folder)")
    embedding_arguments(parser)
    sys.exit(run_script(parser, main))
