"""Evaluates a checkpoint on the field's benchmarks, as far as their files are there, and on any folder of identities:

python scripts/evaluate.py --checkpoint runs/my_run --benchmarks lfw cfp_fp ijbc --data-root data
python scripts/evaluate.py --checkpoint runs/my_run --identification my_faces
python scripts/evaluate.py --list --data-root data
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from facetx.cli import run_script


def main(args: argparse.Namespace) -> int:
    from facetx.analysis.page import write_page
    from facetx.errors import ConfigError, DataError
    from facetx.evaluators.cache import EmbeddingCache
    from facetx.evaluators.catalog import BENCHMARKS, get_benchmark, how_to_get
    from facetx.evaluators.embedding import embed_views
    from facetx.evaluators.groups import groups_table, read_groups
    from facetx.evaluators.suite import find_benchmarks, run_benchmark, run_identification, tables, write_outcome
    from facetx.inference import load_model

    if args.data_root is None and args.identification is None:
        raise ConfigError("nothing to evaluate on: name --data-root, --identification, or both")
    there, missing = [], []
    if args.data_root is not None:
        there, absent = find_benchmarks([get_benchmark(name) for name in args.benchmarks or BENCHMARKS], args.data_root)
        missing = [how_to_get(benchmark, args.data_root) for benchmark in absent]
    if args.list:
        print("\n".join([*(f"{f.benchmark.title}: {f.path}" for f in there), *missing]))
        return 0
    if not there and args.identification is None:
        raise DataError(f"{args.data_root}: holds none of the benchmarks\n  " + "\n  ".join(missing))
    if args.checkpoint is None:
        raise ConfigError("--checkpoint is missing: a run's folder, or one checkpoint's")

    labels = read_groups(args.groups) if args.groups else None
    model = load_model(args.checkpoint, args.device)
    how = {
        "flip": not args.no_flip,
        "seed": model.meta["settings"]["seed"],
        "embed": EmbeddingCache(args.cache) if args.cache else embed_views,
        "device": model.device,
        "batch_size": args.batch_size,
        "workers": args.workers,
    }
    todo = {f"{f.benchmark.title}, {f.path}": partial(run_benchmark, model.backbone, f, labels=labels) for f in there}
    if args.identification is not None:
        marks = args.landmarks if model.backbone.needs_keypoints else None
        of_folder = partial(run_identification, model.backbone, args.identification, landmarks=marks)
        todo[f"identification, {args.identification}"] = of_folder

    folder = Path(args.out or Path(args.checkpoint) / "benchmarks")
    facts = {"checkpoint": str(args.checkpoint), "step": model.meta["step"], "input": model.contract.as_dict()}
    name = str(model.meta["settings"]["name"])
    outcomes, failed = [], []
    for title, run in todo.items():
        print(f"{title} ...", file=sys.stderr)
        try:
            outcomes.append(run(**how))
        except DataError as error:  # the others still count
            failed.append(f"{title}: failed: {error}")
            continue
        write_outcome(folder / f"{outcomes[-1].name}.json", outcomes[-1], facts)
    missing = failed + missing
    if not outcomes:
        raise DataError("none of the benchmarks could be run\n  " + "\n  ".join(failed))
    parts = tables(outcomes, name)
    parts += [groups_table(f"{o.title}, {a}", g) for o in outcomes for a, g in o.groups.items()]
    parts += [f"warning: {o.title}: {text}" for o in outcomes for text in o.warnings] + missing
    text = "\n\n".join(parts)
    (folder / "results.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    write_page(folder / "results.html", name, {**facts, "weights": outcomes[0].receipt.weights}, outcomes, missing)
    print(f"{text}\n\nwritten: {folder}/results.md, results.html, a JSON file for each benchmark")
    return 2 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a run's folder (its best checkpoint), or one checkpoint's")
    parser.add_argument("--benchmarks", nargs="+", metavar="NAME", help="such as lfw cfp_fp (default: what is there)")
    parser.add_argument("--data-root", help="folder of <name>.bin files, or <name>/images and pairs.txt")
    parser.add_argument("--identification", metavar="DIR", help="1:N and clustering on a folder with one an identity")
    parser.add_argument("--landmarks", metavar="CSV", help="keypoints of that folder, for a model that takes them")
    parser.add_argument("--groups", metavar="CSV", help="labels of images (image,race,...) for results by group")
    parser.add_argument("--no-flip", action="store_true", help="leave the mirrored images out")
    parser.add_argument("--cache", metavar="DIR", help="keep embeddings there, and take them from there the next time")
    parser.add_argument("--out", help="folder for the results (default: benchmarks/ beside the checkpoint)")
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing, and stop")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="processes that read images")
    sys.exit(run_script(parser, main))
