"""How weights move: parameter groups, optimizers, schedules, moving averages."""

from facetx.optim.average import MovingAverage, averaged
from facetx.optim.layer_decay import layer_rates
from facetx.optim.optimizers import OPTIMIZERS, gradient_norm, parameter_groups
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
