"""Learning-rate schedules as pure functions of the step.

Each builder gives a function from progress to a factor on the base rate. Warm-up is counted in steps, never in
epochs: a whole epoch at a millionth of the rate is how the published Face Transformer code loses its first hours.
"""

import math
from collections.abc import Callable, Sequence

from facetx.registry import Function, Registry

Schedule = Callable[[int, int], float]
"""(step, total steps), both counted after the warm-up -> factor on the base learning rate, usually in [0, 1]."""


def constant() -> Schedule:
    """The base rate throughout."""
    return lambda step, total: 1.0


def cosine(final: float = 0.0) -> Schedule:
    """Half a cosine from 1 down to ``final`` (SGDR, arXiv 1608.03983, equation 5, without restarts)."""
    return lambda step, total: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(step / max(total, 1), 1.0)))


def poly(power: float = 2.0, final: float = 0.0) -> Schedule:
    """``(1 - step / total) ** power``, InsightFace's schedule; power 1 is linear."""
    return lambda step, total: final + (1 - final) * max(0.0, 1 - step / max(total, 1)) ** power


def multi_step(milestones: Sequence[float] = (0.5, 0.75, 0.9), gamma: float = 0.1) -> Schedule:
    """Times ``gamma`` at each milestone, a share of the run in 0..1."""
    return lambda step, total: gamma ** sum(step >= m * total for m in milestones)


def warm_restarts(period: int = 1000, multiply: int = 1, final: float = 0.0) -> Schedule:
    """Cosine that starts anew after ``period`` steps, then ``period * multiply``, ... (SGDR, arXiv 1608.03983)."""
    if period < 1 or multiply < 1:
        raise ValueError(f"warm_restarts needs a period and a multiply of at least 1, got {period} and {multiply}")

    def factor(step: int, total: int) -> float:
        start, length = 0, period
        while step >= start + length:
            start, length = start + length, length * multiply
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (step - start) / length))

    return factor


SCHEDULES: Registry[Callable[..., Schedule]] = Registry(
    "schedule", [constant, cosine, poly, multi_step, warm_restarts], base=Function
)


def rate_at(schedule: Schedule, step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """The factor on the base rate at ``step`` in 0..total_steps - 1: linear warm-up, then ``schedule``.

    The first step of a warm-up of W steps has 1 / W of the rate, the W-th all of it.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return schedule(step - warmup_steps, total_steps - warmup_steps)
