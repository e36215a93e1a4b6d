"""How weights move: parameter groups, optimisers, schedules, moving averages."""

from facetx.optim.groups import OPTIMIZERS, MovingAverage, averaged, gradient_norm, parameter_groups
from facetx.optim.layers import layer_rates
from facetx.optim.schedules import SCHEDULES, Schedule, rate_at

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "MovingAverage",
    "Schedule",
    "averaged",
    "gradient_norm",
    "layer_rates",
    "parameter_groups",
    "rate_at",
]
