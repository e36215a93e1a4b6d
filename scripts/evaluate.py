"""Evaluates a checkpoint on the field's benchmarks, as far as their files are there, and on any set of faces:

python scripts/evaluate.py --checkpoint runs/my_run --benchmarks lfw cfp_fp ijbc --data-root data
python scripts/evaluate.py --checkpoint runs/my_run --identification my_faces
python scripts/evaluate.py --checkpoint runs/my_run --data packed --data-args path=faces.packed --ask pairs
python scripts/evaluate.py --checkpoint runs/my_run --data celeba --data-args root=CelebA --crop --ask attributes
python scripts/evaluate.py --checkpoint runs/my_run --data lapa --data-args root=LaPa part=test --ask parsing
python scripts/evaluate.py --list --data-root data
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetx.cli import Parser, embedding_arguments, embedding_options, run_script, say

if TYPE_CHECKING:
    from facetx.benchmarks.suite import Outcome
    from facetx.evaluators import Model
    from facetx.inference.model import FaceModel


def main(args: argparse.Namespace) -> int:
    from facetx.nn.compiled import without_compiler

    with without_compiler():
        return measured(args)


def measured(args: argparse.Namespace) -> int:
    from facetx.benchmarks.catalog import BENCHMARKS, benchmarks_table, get_benchmark, how_to_get
    from facetx.benchmarks.groups import read_groups
    from facetx.benchmarks.suite import (
        QUESTIONS,
        find_benchmarks,
        results_folder,
        run_benchmark,
        run_identification,
        write_outcome,
    )
    from facetx.errors import ConfigError, DataError, FacetxError, own_words
    from facetx.plots.page import write_results

    if args.data_root is None and (args.benchmarks or args.groups):
        raise ConfigError("--benchmarks and --groups are about what lies below --data-root, which is missing")
    if args.data is None and (args.data_args or args.ask or args.ask_args or args.crop):
        raise ConfigError(
            "--data-args, --crop, --ask and --ask-args are about the data set that --data names, which is missing"
        )
    asked = [get_benchmark(name) for name in args.benchmarks or BENCHMARKS]
    there, absent = find_benchmarks(asked, args.data_root) if args.data_root else ([], asked)
    if args.list:
        say(benchmarks_table(asked, there).text())
        say("\n".join(["", *(how_to_get(benchmark, args.data_root or "DATA_ROOT") for benchmark in absent)]))
        return 0
    if not there and args.identification is None and args.data is None:
        if args.data_root is None:
            raise ConfigError("nothing to evaluate on: name --data-root, --identification or --data, or several")
        raise DataError("\n  ".join([f"{args.data_root}: holds none of the benchmarks",
                                    *(how_to_get(b, args.data_root) for b in absent)]))  # fmt: skip
    if args.checkpoint is None:
        raise ConfigError("--checkpoint is missing: a run's folder, or one checkpoint's")
    from facetx.inference.model import load_model

    labels = read_groups(args.groups) if args.groups else None
    model = load_model(args.checkpoint, args.device)
    more = {
        "flip": not args.no_flip,
        "seed": model.meta["settings"]["seed"],
        "how": embedding_options(args, model.device),
    }
    todo = {f"{f.benchmark.title}, {f.path}": partial(run_benchmark, model.backbone, f, labels=labels) for f in there}
    if args.identification is not None:
        of_folder = partial(run_identification, model.backbone, args.identification, landmarks=args.landmarks)
        todo[f"1:N, {args.identification}"] = of_folder
    if args.data is not None:
        for question in args.ask or QUESTIONS:
            todo[f"{args.data}, {question}"] = partial(ask, model, question, args)

    folder = Path(args.out) if args.out else results_folder(args.checkpoint, "benchmarks")
    facts = {"checkpoint": str(args.checkpoint), "step": model.meta["step"], "input": model.contract.as_dict()}
    say(f"{args.checkpoint}, step {model.meta['step']}", sys.stderr)
    outcomes, failed = [], []
    for title, run in todo.items():
        say(f"{title} ...", sys.stderr)
        try:
            outcomes.append(run(**more))
        except FacetxError as error:  # the others still count
            failed.append(f"{title}: failed: {own_words(error)}")
            continue
        write_outcome(folder / f"{outcomes[-1].name}.json", outcomes[-1], facts)
    if not outcomes:
        raise DataError("none of the benchmarks could be run\n  " + "\n  ".join(failed))
    if args.benchmarks:
        missing = [how_to_get(benchmark, args.data_root) for benchmark in absent]
    else:
        names = ", ".join(benchmark.name for benchmark in absent)
        missing = [f"not there: {names}; --list says how to get them"] if there and absent else []
    stem = "results" if there else "identification" if args.identification else f"{args.data}"
    text = write_results(folder / stem, str(model.meta["settings"]["name"]), facts, outcomes, failed + missing)
    say(f"{text}\n\nwritten: {folder}/{stem}.md, {stem}.html, a JSON file for each benchmark")
    return 2 if failed else 0


def ask(model: "FaceModel", question: str, args: argparse.Namespace, **more: Any) -> "Outcome":
    """A question of the data set that ``--data`` names."""
    from facetx.benchmarks.suite import run_question
    from facetx.config.dataset import open_dataset
    from facetx.config.overrides import args_of
    from facetx.config.parts import Part
    from facetx.evaluators import data_size
    from facetx.inference.model import load_task

    def asked(whole: bool) -> "Model":
        return load_task(args.checkpoint).to(model.device) if whole else model.model

    data = Part(name=args.data, args=args_of(args.data_args))
    dataset = open_dataset(data, data_size(question, model.contract.size), args.crop)
    return run_question(asked, question, dataset, f"{args.data}_{question}", args=ask_args(args, question), **more)


def ask_args(args: argparse.Namespace, question: str) -> dict[str, Any]:
    """What ``--ask-args`` says to a question. Raises ``ConfigError`` for arguments that it does not take."""
    from facetx.config.overrides import args_of
    from facetx.config.parts import Part, checked_args
    from facetx.evaluators import EVALUATORS

    given = args_of(args.ask_args)
    return checked_args(EVALUATORS, Part(name=question, args=given), ("dataset",)) if given else {}


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("--checkpoint", help="a run (its best checkpoint, else the last), or one checkpoint")
    parser.add_argument("--benchmarks", nargs="+", metavar="NAME", help="such as lfw cfp_fp (default: what is there)")
    parser.add_argument("--data-root", help="folder of <name>.bin files, or <name>/images and pairs.txt")
    parser.add_argument("--identification", metavar="DIR", help="1:N and clustering on a folder with one an identity")
    parser.add_argument(
        "--landmarks",
        metavar="CSV",
        help="its keypoints: to check the alignment, and for a model that takes them",
    )
    parser.add_argument("--data", metavar="NAME", help="a data set of docs/settings.md, such as packed or recordio")
    parser.add_argument("--data-args", nargs="+", metavar="KEY=VALUE", help="its arguments, such as path=faces.packed")
    parser.add_argument(
        "--crop",
        nargs="?",
        const=True,
        default=False,
        choices=["face"],
        help="cut its images to squares where they are not square; face: cut the face out by its keypoints",
    )
    parser.add_argument(
        "--ask",
        nargs="+",
        metavar="EVALUATOR",
        help="what to ask of it: evaluators that take a data set (default: pairs identification)",
    )
    parser.add_argument("--ask-args", nargs="+", metavar="KEY=VALUE", help="arguments of what is asked, such as name=x")
    parser.add_argument(
        "--groups",
        metavar="CSV",
        help="results by group: a header like image,race, and a row an image or person",
    )
    parser.add_argument("--no-flip", action="store_true", help="leave the mirrored images out")
    parser.add_argument("--out", help="folder for the results (default: benchmarks/ in the run's folder)")
    parser.add_argument(
        "--list",
        action="store_true",
        help="which benchmarks there are, where they lie, how to get the others",
    )
    embedding_arguments(parser)
    sys.exit(run_script(parser, main))
