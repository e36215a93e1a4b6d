"""A model and a question in, named numbers out.

An ``Evaluator`` asks its question of a data set; ``EVALUATORS`` is the table of them.
"""

from facetx.evaluators.base import Evaluator, How, Model, Result
from facetx.evaluators.build import EVALUATORS, args_with_size, build_evaluator, data_size
from facetx.evaluators.prediction import predictions

__all__ = [
    "EVALUATORS",
    "Evaluator",
    "How",
    "Model",
    "Result",
    "args_with_size",
    "build_evaluator",
    "data_size",
    "predictions",
]
