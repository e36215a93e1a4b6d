"""What a run must remember, and how it is put into a checkpoint and taken out again."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from facetx.config import differences
from facetx.errors import CheckpointError
from facetx.optim import MovingAverage
from facetx.training.build import Run
from facetx.training.checkpoint import Checkpoint, load_weights, point, prune, save_checkpoint
from facetx.training.sinks import Row

log = logging.getLogger("facetx")


@dataclass
class Progress:
    """What a resume needs beside weights and optimiser: the open row of metrics and the counts of bad steps."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: Tensor = field(default_factory=lambda: torch.zeros(()))
    skipped: Tensor = field(default_factory=lambda: torch.zeros(()))
    bad_in_a_row: Tensor = field(default_factory=lambda: torch.zeros(()))
    best: float = -math.inf

    def add(self, scalars: dict[str, Tensor], finite: Tensor) -> None:
        """Takes one step's scalars in, unless it was skipped. Nothing leaves the device."""
        for name, value in scalars.items():
            value = torch.where(finite, value.detach().float(), 0.0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted = self.counted.to(finite.device) + finite
        self.skipped = self.skipped.to(finite.device) + ~finite
        self.bad_in_a_row = torch.where(finite, 0.0, self.bad_in_a_row.to(finite.device) + 1)

    def row(self) -> Row:
        """The means since the last row, which they close."""
        count = max(float(self.counted), 1.0)
        row = {f"train/{name}": float(value) / count for name, value in self.sums.items()}
        self.sums, self.counted = {}, torch.zeros(())
        return {**row, "train/skipped": int(self.skipped)}


def save(
    run: Run, ema: MovingAverage | None, progress: Progress, folder: Path, done: int, rows: list[Row], must: bool
) -> None:
    """Writes a checkpoint. A disk that is full for the moment does not stop a run, unless it ``must`` be written."""
    state = {
        "task": run.task.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "ema": ema.state if ema else None,
        "progress": vars(progress),
    }
    metrics = {k: v for row in rows for k, v in row.items()}
    meta = {
        "settings": run.settings.model_dump(mode="json"),
        "input": run.backbone.contract.as_dict(),
        "num_classes": run.dataset.num_classes,
        "metrics": metrics,
        "torch": torch.__version__,
    }
    weights = ema.state if ema else run.backbone.state_dict()
    checkpoints = folder / "checkpoints"
    try:
        checkpoint = save_checkpoint(checkpoints, done, weights, state, meta)
    except CheckpointError as error:
        if must:
            raise
        log.warning("%s", error)
        return
    if metrics.get("best"):
        point(checkpoints, "BEST", checkpoint.path.name)
    prune(checkpoints, run.settings.train.keep)


def restore(run: Run, ema: MovingAverage | None, progress: Progress, checkpoint: Checkpoint) -> int:
    """Takes everything up where the checkpoint left it, and returns its step."""
    ours = run.settings.model_dump(mode="json")
    changed = [f"{k}: {a} -> {b}" for k, a, b in differences(checkpoint.meta["settings"], ours)]
    if changed:
        log.warning(
            "settings differ from the checkpoint's, so this is not the run that it began: %s", "; ".join(changed)
        )
    if checkpoint.step >= run.total_steps:
        log.warning("%s has all %d steps already", checkpoint.path, run.total_steps)
    state = checkpoint.state()
    load_weights(run.task, state["task"], str(checkpoint.path))
    try:
        run.optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: its optimiser is another one ({error})") from error
    if ema:
        if state["ema"] is None:
            raise CheckpointError(f"{checkpoint.path}: has no moving average; set optim.ema: null to resume from it")
        for name, value in state["ema"].items():
            ema.state[name].copy_(value)
    vars(progress).update(state["progress"])
    progress.sums = {k: v.to(run.device) for k, v in progress.sums.items()}
    return checkpoint.step
