"""Trains what a YAML file describes, or goes on with it: python scripts/train.py --config configs/quickstart.yaml

In several processes: torchrun --nproc-per-node 8 scripts/train.py --config ..., see docs/processes.md.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from facetx.cli import Parser, run_script, say

if TYPE_CHECKING:
    from facetx.config import Settings


def main(args: argparse.Namespace) -> int:
    from facetx.config import load_settings

    settings = load_settings(args.config, args.overrides, args.plugins)
    from facetx.processes import is_first, joined  # PyTorch, after what a typo ends

    with joined(settings.device):
        return train(args, settings, say if is_first() else lambda _: None)


def train(args: argparse.Namespace, settings: "Settings", say: Callable[[str], None]) -> int:
    """Trains, or says what would be trained; returns the exit code."""
    if args.dry_run:
        from facetx.nn.compiled import without_compiler

        with without_compiler():
            from facetx.training import build, describe_run

            say(describe_run(build(settings)))
        return 0
    from facetx.training import start_run

    folder = Path(args.run_dir or f"runs/{settings.name}")
    outcome = start_run(settings, folder, args.resume, args.resume_with_changes)
    if outcome.signal:
        say(f"stopped by signal {outcome.signal} at step {outcome.step}; the same command goes on from there")
        return 128 + outcome.signal
    if not outcome.seconds:
        say(f"nothing was left to train: step {outcome.step} of {outcome.total_steps}")
        return 0
    for name, result in outcome.results.items():
        first = list(result.summary().items())[:2]
        say(f"{name}: {', '.join(f'{key} {value:.4f}' for key, value in first) or 'no numbers for this head'}")
    say(f"done: {folder}/pictures  |  curves: tensorboard --logdir {folder}  |  notebook: notebooks/quickstart.ipynb")
    return 0


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument("--config", required=True, help="YAML file, such as configs/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, such as optim.lr=3e-4")
    parser.add_argument("--run-dir", help="folder of the run (default: runs/<name>)")
    parser.add_argument("--resume", default="auto", metavar="auto|never|PATH", help="where to begin (default: auto)")
    parser.add_argument(
        "--resume-with-changes", action="store_true", help="go on with other settings or data than it was begun with"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and build everything, print its cost, and stop")
    sys.exit(run_script(parser, main))
