"""Two models asked the same: does int8 decide otherwise than fp32?"""

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators import How, build_evaluator, predictions
from facetx.evaluators.verification import VerificationResult
from facetx.inference.model import FaceModel
from facetx.metrics.significance import mcnemar
from facetx.tables import Table
from facetx.tasks import Task

HEAD = ("question", "decisions", "fp32 right", "int8 right", "fp32 alone", "int8 alone", "p (McNemar)")


def decisions_beside(fine: FaceModel, coarse: FaceModel, dataset: FaceDataset) -> Table:
    """McNemar's exact test of two models on what a data set can ask them: pairs of people, and attributes.

    Raises ``DataError`` where it can ask neither.
    """
    rows = []
    if fine.backbone.embedding_dim and (pairs := _pairs(fine, coarse, dataset)):
        rows.append(_row("pairs", *pairs))
    if dataset.attribute_names and isinstance(fine.model, Task) and fine.meta["exported"]["attributes"]:
        rows.append(_row("attributes", *(_attributes(model, dataset) for model in (fine, coarse))))
    if not rows:
        raise DataError(f"{dataset.name}: has neither people nor attributes that this model could be asked about")
    return Table(HEAD, rows)


def _pairs(
    fine: FaceModel, coarse: FaceModel, dataset: FaceDataset
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    try:
        evaluator = build_evaluator("pairs", dataset, {})
    except DataError:  # too few people
        return None
    results = [model.evaluate(evaluator) for model in (fine, coarse)]
    first, second = (result.right for result in results if isinstance(result, VerificationResult))
    return first, second


def _attributes(model: FaceModel, dataset: FaceDataset) -> NDArray[np.bool_]:
    """Whether each known label of an attribute that both have is met at 0.5."""
    names = model.meta["exported"]["attributes"]
    both = [name for name in dataset.attribute_names if name in names]
    mine, ours = [names.index(name) for name in both], [dataset.attribute_names.index(name) for name in both]
    right = []
    for _, batch, (found,) in predictions(model.model, dataset, How(model.device), fields=frozenset({"attributes"})):
        labels = batch["attributes"][:, ours]
        known = labels.isfinite()
        right.append((((found["attributes"][:, mine] > 0) == (labels > 0.5))[known]).numpy())
    return np.concatenate(right)


def _row(question: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[str, ...]:
    test = mcnemar(a, b)
    shares = (f"{100 * right.mean():.2f} %" for right in (a, b))
    return (question, f"{len(a)}", *shares, f"{test.only_a}", f"{test.only_b}", f"{test.p:.3g}")
