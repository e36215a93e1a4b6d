"""The memory that a run will take, foretold: one of its steps is computed without values, at no cost."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from facetx.data.sample import FIELDS
from facetx.nn.dropout import Dropout
from facetx.nn.memory import AsOn, Held
from facetx.nn.meta import without_values
from facetx.processes import count, own
from facetx.tasks.base import Task
from facetx.training.build import Run

MOMENTS = {"sgd": 1}
"""How many numbers an optimizer keeps of each weight, where it is not two."""


class Foretold(NamedTuple):
    """Bytes of one run on its device.

    Attributes:
        state: What stays from step to step: weights, the optimizer's moments, the moving average.
        step: The most that a step holds beside, with all that is kept for the backward pass, and the gradients.
        whole: Whether that is with the head's part; a head that looks at values cannot be computed without.
    """

    state: int
    step: int
    whole: bool

    @property
    def total(self) -> int:
        return self.state + self.step


def foretell(run: Run) -> Foretold:
    """The memory of a run as its settings are. Nothing is allocated, and the run is not touched."""
    return _foretell(run, _ghost(run), run.settings.optim.accumulate)


def ways_to_fit(run: Run, room: int) -> list[str]:
    """Settings that would bring a run to ``room`` bytes, or nearer, with the GiB that it would take by each.

    They add up, and are in the order in which they should be tried: from the cheapest to the dearest in time.
    """
    ghost, accumulate = _ghost(run), run.settings.optim.accumulate
    before, ways = _foretell(run, ghost, accumulate).total, []

    def tell(setting: str) -> None:
        nonlocal before
        after = _foretell(run, ghost, accumulate).total
        if before > room and after < 0.98 * before:
            ways.append(f"{setting} ({after / 2**30:.1f} GiB)")
            before = after

    for setting, attribute, old, new in (
        ("head.args.engine: chunked", "engine", "full", "chunked"),
        ("model.args.recompute: true", "recompute", False, True),
    ):
        for module in ghost.modules():
            if getattr(module, attribute, None) == old:
                setattr(module, attribute, new)
        tell(setting)
    here = run.settings.train.batch_size // count()
    while before > room and accumulate < here:
        accumulate += 1
        if here % accumulate == 0:
            tell(f"optim.accumulate: {accumulate}")
    return ways


def _ghost(run: Run) -> Task:
    ghost = without_values(run.outline or run.task).train()
    assert isinstance(ghost, Task)
    if run.settings.train.compile:
        for module in ghost.modules():
            if isinstance(module, Dropout):
                module.p = 0  # compiled, it keeps no mask
    return ghost


def _foretell(run: Run, ghost: Task, accumulate: int) -> Foretold:
    moments = MOMENTS.get(run.settings.optim.name, 2)
    parameters = list(run.task.parameters())
    state = sum(4 * own(p).numel() * (1 + moments * p.requires_grad) for p in parameters)
    if run.settings.optim.ema is not None:
        state += sum(4 * own(p).numel() for p in run.task.published().parameters())
    elsewhere = sum(4 * (p.numel() - own(p).numel()) for p in parameters)  # gradients that other processes have
    size = run.settings.train.batch_size // count() // accumulate
    try:
        return Foretold(state, _step_bytes(run, ghost, size) - elsewhere, whole=True)
    except Exception:  # of a head of one's own that looks at values
        return Foretold(state, _step_bytes(run, ghost, size, whole=False), whole=False)


def _step_bytes(run: Run, ghost: Task, size: int, whole: bool = True) -> int:
    device = AsOn(run.device.type, run.precision == "bf16", compiled=bool(run.settings.train.compile))
    with torch.random.fork_rng(devices=[]), Held() as held, device:
        batch = {name: torch.empty(size, *shape, dtype=dtype, device="meta") for name, shape, dtype in _fields(run)}
        loss = ghost(batch)["loss"] if whole else ghost.embed(batch).sum()
        device.end_autocast()
        loss.backward()
    for parameter in ghost.parameters():
        parameter.grad = None
    return held.peak


def _fields(run: Run) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    """Name, shape and type of what an image's batch holds."""
    side = run.backbone.contract.size
    sizes = {"image": (3, side, side), "mask": (side, side), "attributes": (len(run.dataset.attribute_names),)}
    for name in sorted(run.task.needs | {"label"}):
        shape = sizes.get(name, tuple(1 if n is None else n for n in FIELDS[name].shape))
        yield name, shape, torch.from_numpy(np.empty(0, FIELDS[name].dtype)).dtype
