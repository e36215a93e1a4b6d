"""What a run must remember, and how it is put into a checkpoint and taken out again."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetx.checkpoints.format import Checkpoint, load_weights, point, prune, save_checkpoint
from facetx.config import differences
from facetx.errors import CheckpointError
from facetx.optim import MovingAverage
from facetx.training.build import Run
from facetx.training.sinks import Row

log = logging.getLogger("facetx")


@dataclass
class Progress:
    """What a resume needs beside weights and optimizer: the open row of metrics and the counts of bad steps."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: Tensor = field(default_factory=lambda: torch.zeros(()))
    skipped: Tensor = field(default_factory=lambda: torch.zeros(()))
    bad_in_a_row: Tensor = field(default_factory=lambda: torch.zeros(()))
    best: float = -math.inf

    def add(self, scalars: dict[str, Tensor], finite: Tensor) -> None:
        """Takes one step's scalars in, unless it was skipped. Nothing leaves the device."""
        for name, value in scalars.items():
            value = value.detach().float().masked_fill(~finite, 0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted = self.counted.to(finite.device) + finite
        self.skipped = self.skipped.to(finite.device) + ~finite
        self.bad_in_a_row = (self.bad_in_a_row.to(finite.device) + 1).masked_fill(finite, 0)

    def row(self) -> Row:
        """The means over the good steps since the last row, which they close; none where no step was good."""
        count = float(self.counted)
        row = {f"train/{name}": float(value) / count for name, value in self.sums.items()} if count else {}
        self.sums, self.counted = {}, torch.zeros_like(self.counted)
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
    weights = ema.state if ema else run.task.published().state_dict()
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
    before = [head["name"] for head in checkpoint.meta["settings"]["head"]]
    if "center_loss" not in before and "center_loss" in [head.name for head in run.settings.head]:
        raise CheckpointError(
            f"{checkpoint.path}: trained without center_loss, whose centers must follow the embeddings from the first "
            "step; it cannot be switched on later. Begin a new run with it; model.init_from takes the backbone along"
        )
    load_weights(run.task, state["task"], str(checkpoint.path))
    restore_optimizer(run, state["optimizer"], checkpoint)
    if ema:
        if state["ema"] is None:
            raise CheckpointError(f"{checkpoint.path}: has no moving average; set optim.ema: null to resume from it")
        for name, value in state["ema"].items():
            ema.state[name].copy_(value)
    vars(progress).update(state["progress"])
    progress.sums = {k: v.to(run.device) for k, v in progress.sums.items()}
    return checkpoint.step


def restore_optimizer(run: Run, state: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Takes the optimizer's moments up; rates, decays and betas stay those of the settings.

    Raises ``CheckpointError`` where the moments are of another optimizer, or of other parameters.
    """
    optim = checkpoint.meta["settings"]["optim"]["name"]
    groups = run.optimizer.param_groups
    if optim != run.settings.optim.name or [g["names"] for g in state["param_groups"]] != [g["names"] for g in groups]:
        raise CheckpointError(
            f"{checkpoint.path}: its optimizer {optim} is another one, or trained other parameters; resume with its "
            "optim.name, optim.layer_decay, model.freeze and model.lora, or begin a new run with model.init_from"
        )
    ours = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    run.optimizer.load_state_dict(state)
    for group, own in zip(run.optimizer.param_groups, ours):
        group.update(own)
