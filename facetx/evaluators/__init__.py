"""A model and a benchmark in, named numbers out; here the table of the benchmarks.

An evaluator has a ``name``, and ``evaluator(backbone, device=..., batch_size=..., workers=..., amp=...)`` yields
(name, value). It prints and logs nothing.
"""

from collections.abc import Callable

from facetx.evaluators.benchmarks import folder_pairs, lfw, synthetic_pairs
from facetx.evaluators.verification import PairVerification
from facetx.registry import Registry

EVALUATORS: Registry[Callable[..., PairVerification]] = Registry("evaluator", [lfw, folder_pairs, synthetic_pairs])
