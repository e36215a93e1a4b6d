"""How weights move: parameter groups, optimisers, schedules, moving averages."""

from facetx.optim.groups import OPTIMIZERS, MovingAverage, averaged, gradient_norm, parameter_groups
from facetx.optim.schedules import SCHEDULES, Schedule, rate_at

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "MovingAverage",
    "Schedule",
    "averaged",
    "gradient_norm",
    "parameter_groups",
    "rate_at",
]
