"""What a run must remember, and how it is put into a checkpoint and taken out again.

A checkpoint's weights are what the task publishes, or their moving average. Its state has, by name,

- ``task``: the task's state dict; without what is published, unless an average is published in its place,
- ``averaged``: whether it is,
- ``moments``: for each trained parameter what the optimizer keeps of it, None before its first gradient,
- ``progress``: the open row of metrics and the counts of bad steps.

Each part says by its own state dict what must be there. All is compared by names, shapes and types before anything is
loaded: fused optimizers write beyond the end of moments that are too small.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from facetx.checkpoints.format import Checkpoint
from facetx.checkpoints.task import within
from facetx.checkpoints.weights import check_fit, load_weights
from facetx.config import create
from facetx.errors import CheckpointError, some
from facetx.optim import OPTIMIZERS, MovingAverage
from facetx.processes import gathered, is_first, is_split, own, split_as
from facetx.training.build import Run
from facetx.training.sinks import Row

_PARTS = {"task": dict, "averaged": bool, "moments": dict, "progress": dict}


@dataclass
class Progress:
    """What a resume needs beside weights and optimizer: the open row of metrics, counts of bad steps and of images."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: Tensor = field(default_factory=lambda: torch.zeros(()))
    skipped: Tensor = field(default_factory=lambda: torch.zeros(()))
    bad_in_a_row: Tensor = field(default_factory=lambda: torch.zeros(()))
    best: float = -math.inf
    images: int = 0

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

    def state(self) -> dict[str, Any]:
        """Plain values."""
        counts = {name: float(getattr(self, name)) for name in ("counted", "skipped", "bad_in_a_row", "best", "images")}
        return {"sums": {name: float(value) for name, value in self.sums.items()}, **counts}

    def load(self, state: Mapping[str, Any], device: torch.device, where: str) -> None:
        """Takes up what ``state`` gave. Raises ``CheckpointError`` where it is something else."""
        numbers = [*state["sums"].values()] if isinstance(state.get("sums"), dict) else [None]
        numbers += [value for name, value in state.items() if name != "sums"]
        if state.keys() != self.state().keys() or not all(isinstance(n, float) for n in numbers):
            raise CheckpointError(f"{where}: its progress is damaged, it has {some(state)}")
        self.sums = {name: torch.tensor(value, device=device) for name, value in state["sums"].items()}
        self.best, self.images = state["best"], int(state["images"])
        self.counted, self.skipped, self.bad_in_a_row = (
            torch.tensor(state[name], device=device) for name in ("counted", "skipped", "bad_in_a_row")
        )


def weights_and_state(
    run: Run, ema: MovingAverage | None, progress: Progress
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is published, and all else that an exact resume needs; see the head of this file.

    What is split over processes is put together, one tensor at a time, so all must call it; it is whole on the CPU of
    the first process, and the others get nothing of it.
    """
    task = _whole(run.task.state_dict())
    published = _published(run)
    state = {
        "task": task if ema else {name: value for name, value in task.items() if name not in published},
        "averaged": ema is not None,
        "moments": {
            name: kept and _whole(kept, run.split.get(name)) for name, kept in moments_of(run.optimizer).items()
        },
        "progress": progress.state(),
    }
    return _whole(ema.state if ema else run.task.published().state_dict()), state


def _whole(values: Mapping[str, Any], like: Tensor | None = None) -> dict[str, Any]:
    """Those that are split, or that are parts of what is split as ``like``, put together."""
    whole = {}
    for name, value in values.items():
        whole[name] = value
        if isinstance(value, Tensor) and (like is not None or is_split(value)):
            value = gathered(value, value if like is None else like)
            whole[name] = value.cpu() if is_first() else value.new_empty(0)
    return whole


def restore(run: Run, ema: MovingAverage | None, progress: Progress, checkpoint: Checkpoint) -> None:
    """Takes everything up where the checkpoint left it; nothing of it where one part does not fit.

    Raises ``CheckpointError`` that names what is missing, unexpected, or of another shape or type.
    """
    where = str(checkpoint.path)
    weights, state = checkpoint.weights(), checkpoint.state()
    if wrong := [name for name, kind in _PARTS.items() if not isinstance(state.get(name), kind)]:
        raise CheckpointError(f"{where}: its training state is incomplete: {some(wrong)} is missing or of another kind")
    if ema and not state["averaged"]:
        raise CheckpointError(f"{where}: has no moving average; set optim.ema: null to resume from it")
    here = run.task.state_dict()
    task = state["task"] if state["averaged"] else {**within(run.task, weights), **state["task"]}
    check_fit(here, task, where, _OTHER_PARTS)
    if ema:
        check_fit(ema.state, weights, where)
    check_moments(run, state["moments"], where)
    moments = {name: kept and _parts(kept, run.split.get(name)) for name, kept in state["moments"].items()}
    seen = float(checkpoint.meta.step * run.settings.train.batch_size)  # in states of earlier versions it is not
    found = Progress()
    found.load({"images": seen, **state["progress"]}, run.device, where)

    load_weights(run.task, task, where)
    vars(progress).update(vars(found))
    load_moments(run.optimizer, moments)
    if ema:
        for name, value in weights.items():
            ema.state[name].copy_(split_as(value, ema.state[name]))
    same_question = checkpoint.meta.settings.model_dump(mode="json").get("select") == run.settings.select
    progress.best = progress.best if same_question else -math.inf
    metrics = checkpoint.meta.metrics
    if same_question and metrics.get("best") is True:  # which was known after the state was written
        progress.best = float(metrics.get(run.settings.select or "", progress.best))


_OTHER_PARTS = (
    "of another model than the settings build; what a part has learned from its first step cannot be missing, so none "
    "is switched on later: begin a new run, model.init_from takes the backbone along"
)


def _parts(kept: Mapping[str, Any], like: Tensor | None) -> dict[str, Any]:
    """What this process holds of the moments of a parameter that is split as ``like``."""
    if like is None:
        return dict(kept)
    return {
        name: own(split_as(value, like)) if isinstance(value, Tensor) and value.shape == like.shape else value
        for name, value in kept.items()
    }


def _published(run: Run) -> set[str]:
    """The names in the task's state dict of what it publishes."""
    return {*within(run.task, run.task.published().state_dict())}


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any] | None]:
    """What the optimizer keeps of each parameter, by its name; None before its first gradient."""
    return {name: optimizer.state.get(parameter) or None for name, parameter in _named(optimizer).items()}


def check_moments(run: Run, moments: Mapping[str, Any], where: str) -> None:
    """Raises ``CheckpointError`` where moments are of another optimizer, or of other parameters."""
    trained = {**_named(run.optimizer), **run.split}
    asked = "resume with its optim.name and model.freeze, or begin a new run with model.init_from"
    check_fit(dict.fromkeys(trained), dict.fromkeys(moments), where, f"its optimizer trained other parameters; {asked}")
    tried: dict[tuple[int, torch.dtype], dict[str, Any]] = {}
    for name, parameter in trained.items():
        key = (parameter.ndim, parameter.dtype)
        tried[key] = tried[key] if key in tried else _tried(run, *key)
        if moments[name] is not None:
            kept = moments[name] if isinstance(moments[name], dict) else {"": moments[name]}
            expected = {k: _as_for(value, parameter) for k, value in tried[key].items()}
            check_fit(expected, kept, where, f"its optimizer is another one, see {name}; {asked}")


_SIZES = (5, 7, 11, 13, 17, 19)
"""Of the dimensions of a parameter to try an optimizer on; no two are equal, so that each is known again."""


def _tried(run: Run, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    """What the run's optimizer keeps of a parameter after one step, found by trying it on a small one."""
    parameter = nn.Parameter(torch.zeros(_SIZES[:ndim], dtype=dtype))
    parameter.grad = torch.ones_like(parameter)
    groups = [{"params": [parameter], "names": ["tried"]}]
    optimizer: torch.optim.Optimizer = create(OPTIMIZERS, run.settings.optim)(groups, lr=run.settings.optim.lr)
    optimizer.step()
    return dict(optimizer.state[parameter])


def _as_for(value: Any, parameter: nn.Parameter) -> Any:
    """What is kept of the small parameter, as it is kept of this one; a tensor without values."""
    if not isinstance(value, Tensor):
        return value
    sizes = dict(zip(_SIZES, parameter.shape))
    return torch.empty([sizes.get(size, size) for size in value.shape], dtype=value.dtype, device="meta")


def load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, dict[str, Any] | None]) -> None:
    """Takes the optimizer's moments up; rates, decays and betas stay those of the settings."""
    kept = {
        number: optimizer.state.get(parameter) if moments[name] is None else moments[name]
        for number, (name, parameter) in enumerate(_named(optimizer).items())
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {n: s for n, s in kept.items() if s is not None}, "param_groups": groups})


def _named(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """The parameters by their names, in the optimizer's order."""
    return {
        name: parameter for group in optimizer.param_groups for name, parameter in zip(group["names"], group["params"])
    }
