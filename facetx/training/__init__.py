"""The loop, checkpoints, sinks, and the folder of a run."""

from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.format import Checkpoint, find_checkpoint
from facetx.training.build import Run, build
from facetx.training.describe import describe_run
from facetx.training.loop import Outcome, train
from facetx.training.records import DivergedError
from facetx.training.run import start_run

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
