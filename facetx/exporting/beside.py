"""Two models asked the same: does int8 decide otherwise than fp32?"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facetx.benchmarks.paired import compare_masks
from facetx.data.attribute_groups import plain
from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators import How, build_evaluator, predictions
from facetx.evaluators.parsing import ParsingEvaluator
from facetx.evaluators.verification import VerificationResult
from facetx.inference.model import FaceModel
from facetx.metrics.significance import mcnemar
from facetx.tables import Table
from facetx.tasks import Task

HEAD = ("question", "decisions", "fp32 right", "int8 right", "fp32 alone", "int8 alone", "p (McNemar)")


def decisions_beside(fine: FaceModel, coarse: FaceModel, dataset: FaceDataset) -> list[Table]:
    """Two models on what a data set can ask them: pairs of people and attributes by McNemar's exact test, and masks by
    the paired bootstrap of their numbers.

    Raises ``DataError`` where it can ask none of these.
    """
    rows = []
    if fine.backbone.embedding_dim and (pairs := _pairs(fine, coarse, dataset)):
        rows.append(_row("pairs", *pairs))
    if dataset.attribute_names and isinstance(fine.model, Task) and fine.meta["exported"]["attributes"]:
        rows.append(_row("attributes", *(_attributes(model, dataset) for model in (fine, coarse))))
    tables = [Table(HEAD, rows)] if rows else []
    classes = fine.model.mask_classes if isinstance(fine.model, Task) else ()
    if classes and sorted(map(plain, classes)) == sorted(map(plain, dataset.mask_classes)):
        tables.append(_masks(fine, coarse, dataset))
    if not tables:
        raise DataError(f"{dataset.name}: has no people, attributes or masks that this model could be asked about")
    return tables


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


def _masks(fine: FaceModel, coarse: FaceModel, dataset: FaceDataset) -> Table:
    """Of A, fp32, and of B, int8."""
    evaluator = ParsingEvaluator(dataset, name="masks")
    a, b = (evaluator.result(model.model, How(model.device)) for model in (fine, coarse))
    return replace(compare_masks(a, b, []).table(), title="A is fp32, B int8")


def _row(question: str, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[str, ...]:
    test = mcnemar(a, b)
    shares = (f"{100 * right.mean():.2f} %" for right in (a, b))
    return (question, f"{len(a)}", *shares, f"{test.only_a}", f"{test.only_b}", f"{test.p:.3g}")
