"""The loop, checkpoints, sinks, and the folder of a run."""

from facetx.training.build import Run, build, describe_run
from facetx.training.checkpoint import Checkpoint, find_checkpoint
from facetx.training.loop import DivergedError, Outcome, train
from facetx.training.run import start_run
from facetx.training.transfer import build_backbone

__all__ = [
    "Checkpoint",
    "DivergedError",
    "Outcome",
    "Run",
    "build",
    "build_backbone",
    "describe_run",
    "find_checkpoint",
    "start_run",
    "train",
]
