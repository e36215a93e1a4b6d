"""Evaluates a checkpoint on LFW's pairs, or on others in LFW's format:

python scripts/eval_lfw.py --checkpoint runs/my_run --images lfw/images --pairs lfw/pairs.txt
"""

import argparse
import sys
from pathlib import Path

from facetx.cli import run_script


def main(args: argparse.Namespace) -> int:
    import numpy as np

    from facetx.analysis.report import write_pictures
    from facetx.evaluators import EVALUATORS
    from facetx.evaluators.cache import EmbeddingCache
    from facetx.evaluators.embedding import embed_views
    from facetx.evaluators.inputs import check_inputs
    from facetx.evaluators.receipt import make_receipt
    from facetx.evaluators.result_file import write_result
    from facetx.inference import load_model

    model = load_model(args.checkpoint, args.device)
    evaluator = EVALUATORS["lfw"](images=args.images, pairs=args.pairs, size=args.size, flip=not args.no_flip)
    embed = EmbeddingCache(args.cache) if args.cache else embed_views
    how = {"device": model.device, "batch_size": args.batch_size, "workers": args.workers, "embed": embed}
    result = evaluator.result(model.backbone, **how)
    used = np.unique([evaluator.first, evaluator.second])
    inputs = check_inputs(model.contract, evaluator.dataset, used)
    print(result.table())
    print("".join(f"\nwarning: {text}" for text in inputs.warnings))

    folder = Path(args.out or Path(args.checkpoint) / "lfw")
    pictures = write_pictures(folder, [], {evaluator.name: result}, [evaluator])
    receipt = make_receipt(evaluator, model.backbone, seed=model.meta["settings"]["seed"])
    facts = {"checkpoint": str(args.checkpoint), "step": model.meta["step"], "input": model.contract.as_dict()}
    write_result(folder / "lfw.json", result, receipt, model=facts, inputs=inputs.as_dict())
    print(f"written: {folder}/lfw.json, {', '.join(p.name for p in pictures)}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a run's folder (its best checkpoint), or one checkpoint's")
    parser.add_argument("--images", required=True, help="folder with Name/Name_0001.*, aligned as the model wants")
    parser.add_argument("--pairs", required=True, help="pairs.txt, 10 folds of 300 + 300")
    parser.add_argument("--size", type=int, help="pixels a side to resize the images to (default: as they are)")
    parser.add_argument("--no-flip", action="store_true", help="leave the mirrored images out")
    parser.add_argument("--cache", metavar="DIR", help="keep embeddings there, and take them from there the next time")
    parser.add_argument("--out", help="folder for the JSON and the pictures (default: lfw/ beside the checkpoint)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="processes that read images")
    sys.exit(run_script(parser, main))
