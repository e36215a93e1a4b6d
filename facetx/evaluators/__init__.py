"""A model and a benchmark in, named numbers out; here the table of the benchmarks.

An evaluator has a ``name``, and ``evaluator(backbone, device=..., batch_size=..., workers=..., amp=...)`` yields
(name, value); its ``result`` takes the same. Where ``needs_head`` is true both take the trained ``head`` too. It prints
and logs nothing.
"""

from collections.abc import Callable

from facetx.evaluators.builders import (
    bin_pairs,
    classification,
    folder_pairs,
    identification,
    lfw,
    synthetic_classification,
    synthetic_pairs,
)
from facetx.evaluators.classification import Classification
from facetx.evaluators.identification import Identification
from facetx.evaluators.templates import TemplateVerification, ijb
from facetx.evaluators.verification import PairVerification
from facetx.registry import Registry

Evaluator = PairVerification | Classification | Identification | TemplateVerification
EVALUATORS: Registry[Callable[..., Evaluator]] = Registry(
    "evaluator",
    [
        lfw,
        bin_pairs,
        folder_pairs,
        synthetic_pairs,
        classification,
        synthetic_classification,
        identification,
        ijb,
    ],
)
