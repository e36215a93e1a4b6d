"""Trains the variants of a YAML file in turn, on the same data, budget and seed, and prints one table:

python scripts/compare.py configs/compare_facerec.yaml
python scripts/compare.py configs/compare_losses.yaml train.steps=200 --run-dir runs/short
"""

import argparse
import sys
from pathlib import Path

from facetx.cli import Parser, run_script, say


def main(args: argparse.Namespace) -> int:
    from facetx.config.variants import load_variants
    from facetx.training.sweep import describe_variants, run_variants

    variants = load_variants(args.config, args.overrides, args.plugins)
    folder = Path(args.run_dir or f"runs/{Path(args.config).stem}")
    description = describe_variants(variants)
    if args.dry_run:
        say(description)
        return 0
    comparison = run_variants(variants, folder, args.resume)
    if comparison.signal:
        say(f"stopped by signal {comparison.signal}; the same command goes on from there")
        return 128 + comparison.signal
    say(comparison.table())
    say(f"\nwritten: {folder}/comparison.md, comparison.json, comparison.png, distributions_*.png")
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="YAML file with variants, such as configs/compare_facerec.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, such as train.steps=100")
    parser.add_argument("--run-dir", help="folder of the comparison (default: runs/<name of the file>)")
    parser.add_argument("--resume", default="auto", metavar="auto|never", help="where to begin (default: auto)")
    parser.add_argument("--dry-run", action="store_true", help="check and build every variant, print its cost, stop")
    sys.exit(run_script(parser, main))
