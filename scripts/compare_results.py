"""Says whether one model is better than another, from the files of two results on the same benchmark:

python scripts/compare_results.py runs/a/lfw/lfw.json runs/b/lfw/lfw.json
"""

import argparse
import json
import sys
from pathlib import Path

from facetx.cli import Parser, run_script, say


def main(args: argparse.Namespace) -> int:
    from facetx.benchmarks.paired import compare_results
    from facetx.benchmarks.results import read_result

    comparison = compare_results(*read_result(args.a), *read_result(args.b))
    say(f"A: {args.a}\nB: {args.b}\n\n{comparison.text()}")
    if args.out:
        Path(args.out).write_text(json.dumps(comparison.as_dict(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument(
        "a", metavar="A.json", help="a result of pairs or of masks that evaluate.py or eval_lfw.py wrote"
    )
    parser.add_argument("b", metavar="B.json", help="another, on the same benchmark")
    parser.add_argument("--out", metavar="FILE", help="write the comparison as JSON too")
    sys.exit(run_script(parser, main))
