"""How weights move: parameter groups, optimisers, schedules, moving averages."""

from facetx.optim.groups import OPTIMIZERS, MovingAverage, gradient_norm, parameter_groups
from facetx.optim.schedules import SCHEDULES, Schedule, rate_at

__all__ = ["OPTIMIZERS", "SCHEDULES", "MovingAverage", "Schedule", "gradient_norm", "parameter_groups", "rate_at"]
