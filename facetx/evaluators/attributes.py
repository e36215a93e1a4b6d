"""Attributes: which of them a face has, beside what its labels say."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from facetx.data.attribute_groups import CELEBA, plain, regions_of
from facetx.data.base import Description, FaceDataset
from facetx.data.sample import Sides
from facetx.errors import ConfigError, DataError, some
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.prediction import predictions
from facetx.evaluators.reading import share_of
from facetx.evaluators.terms import Terms
from facetx.files import read_file
from facetx.metrics import attributes as metrics
from facetx.metrics.attributes import Calibration, Rates
from facetx.processes import total
from facetx.tables import Table
from facetx.tasks import Task

Floats = NDArray[np.float32]

DEFINITIONS = {
    "accuracy_micro, recall_micro, specificity_micro, f1_micro": "of all known labels of all attributes as one heap",
    "accuracy_macro, balanced_accuracy, f1_macro": "means over the attributes for which they are defined",
    "balanced_accuracy": "of one attribute: the mean of recall and specificity; not defined where it is constant",
    "map": "mean average precision over the attributes that are not constant",
    "loss": "mean binary cross-entropy of the known labels, in nats",
    "majority": "accuracy_micro of giving each attribute's more frequent answer on these very images",
    "calibration_error": "mean distance of probability and share in 15 equal steps, of all known labels as one heap",
    "intervals": "95 %: of an attribute Wilson's; of means over 1000 draws of the images with replacement",
    "flip": "the logits of an image and of its mirror are averaged",
}
RATES = ("accuracy", "recall", "specificity", "balanced_accuracy", "f1")

PUBLISHED: dict[str, dict[str, float]] = {
    "EfficientFormerV2-S2 with seven heads, 15.6 M": {"accuracy": 90.9, "recall": 73.0, "specificity": 96.3},
    "TransFA": {"accuracy": 91.9},
    "DMM-CNN, 360 M": {"accuracy": 91.7},
    "FaceXFormer": {"accuracy": 91.83},
    "FaRL": {"accuracy": 92.06},
}
"""On CelebA's own test split, in percent. Recall and specificity fit the accuracy as micro means alone."""


@dataclass(frozen=True, eq=False)
class AttributeResult(Result):
    """What came out of one evaluation.

    Attributes:
        name: Of the evaluator.
        attribute_names: (A,) that both the model and the data have.
        logits: (N, A) float32, in the order of the data set's items.
        labels: (N, A) float32: 1, 0, or NaN where that is not known.
        thresholds: (A,) probabilities above which an attribute is said to be there.
        chosen: How the thresholds were chosen, in words.
        notes: What a reader of the numbers has to know.
    """

    name: str
    attribute_names: tuple[str, ...]
    logits: Floats
    labels: Floats
    thresholds: NDArray[np.float64]
    chosen: str = "0.5"
    notes: tuple[str, ...] = ()

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, A)."""
        values: NDArray[np.float64] = torch.from_numpy(self.logits).double().sigmoid().numpy()
        return values

    @cached_property
    def rates(self) -> list[Rates]:
        """Of each attribute."""
        return metrics.rates(self.probabilities, self.labels, self.thresholds)

    @cached_property
    def losses(self) -> NDArray[np.floating]:
        """(N, A) in nats, NaN where the label is not known."""
        return metrics.cross_entropy(self.logits, self.labels)

    @cached_property
    def average_precision(self) -> list[float | None]:
        """Of each attribute; None where it is constant."""
        return metrics.average_precision(self.probabilities, self.labels)

    @cached_property
    def calibration(self) -> Calibration:
        return metrics.calibration(self.probabilities, self.labels)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of means."""
        return metrics.bootstrap(self.probabilities, self.labels, self.thresholds)

    def summary(self) -> dict[str, float]:
        """See ``DEFINITIONS``; without what is not defined on these images."""
        heap = metrics.pooled(self.rates)
        majority = sum(max(r.positives, r.known - r.positives) for r in self.rates) / heap.known
        values = {
            "accuracy_micro": heap.accuracy,
            "accuracy_macro": self.macro("accuracy"),
            "balanced_accuracy": self.macro("balanced_accuracy"),
            "recall_micro": heap.recall,
            "specificity_micro": heap.specificity,
            "f1_micro": heap.f1,
            "f1_macro": self.macro("f1"),
            "map": _mean(self.average_precision),
            "loss": float(np.nanmean(self.losses)),
            "majority": majority,
            "calibration_error": self.calibration.error,
        }
        return {name: value for name, value in values.items() if value is not None}

    def macro(self, rate: str) -> float | None:
        """The mean of a rate over the attributes for which it is defined."""
        return _mean([getattr(r, rate) for r in self.rates])

    def worst(self, count: int) -> list[tuple[int, int]]:
        """(item, attribute) of the labels that the model contradicts the most surely, one an image."""
        losses = np.nan_to_num(self.losses, nan=-1.0)
        attribute = losses.argmax(axis=1)
        loss = losses[np.arange(len(losses)), attribute]
        order = np.argsort(-loss, kind="stable")[:count]
        return [(int(i), int(attribute[i])) for i in order if loss[i] > np.log(2)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``best_thresholds`` may be given to an evaluator of other images."""
        c = self.calibration
        best = metrics.best_thresholds(self.probabilities, self.labels)
        return {
            "name": self.name,
            "summary": self.summary(),
            "images": len(self.labels),
            "macro": {rate: self.macro(rate) for rate in RATES},
            "micro": {rate: getattr(metrics.pooled(self.rates), rate) for rate in RATES},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "attributes": dict(zip(self.attribute_names, self._rows())),
            "thresholds": dict(zip(self.attribute_names, map(float, self.thresholds))),
            "best_thresholds": dict(zip(self.attribute_names, map(float, best))),
            "calibration": {
                "counts": c.counts.tolist(),
                "said": [None if np.isnan(v) else float(v) for v in c.said],
                "there": [None if np.isnan(v) else float(v) for v in c.there],
            },
            "labels": hashlib.sha256(np.ascontiguousarray(self.labels, "<f4").tobytes()).hexdigest(),
            "definitions": DEFINITIONS,
            "notes": list(self.notes),
        }

    def _rows(self) -> list[dict[str, Any]]:
        losses = [float(np.nanmean(own)) if np.isfinite(own).any() else None for own in self.losses.T]
        return [
            {
                "labels": r.known,
                "positives": r.positives,
                **{rate: getattr(r, rate) for rate in RATES},
                "interval": r.interval and list(r.interval),
                "average_precision": ap,
                "loss": loss,
                "majority": r.majority,
            }
            for r, ap, loss in zip(self.rates, self.average_precision, losses)
        ]

    def tables(self) -> list[Table]:
        """The means, each attribute by region, and published figures where the attributes are CelebA's."""
        celeba = set(map(plain, self.attribute_names)) >= set(map(plain, CELEBA))
        return [self.table(), self.means(), self.each(), *([self.beside()] if celeba else [])]

    def means(self) -> Table:
        """Micro and macro means in percent."""
        heap = metrics.pooled(self.rates)
        rows = []
        for mean, found in (("micro", heap), ("macro", None)):
            cells = [_percent(getattr(found, rate) if found else self.macro(rate)) for rate in RATES]
            low, high = self.intervals.get(f"accuracy_{mean}", (None, None))
            rows.append((mean, cells[0], f"{_percent(low)} to {_percent(high)}", *cells[1:]))
        head = ("mean, %", "accuracy", "95 % interval", "recall", "specificity", "balanced accuracy", "F1")
        above = sum(r.accuracy is not None and r.accuracy > (r.majority or 0) for r in self.rates)
        title = f"{self.name}: {above} of {len(self.rates)} attributes above their majority baseline"
        return Table(head, rows, title)

    def each(self) -> Table:
        """A row an attribute, in percent, by region."""
        shares = ("accuracy", "majority", "balanced_accuracy", "recall", "specificity", "f1", "average_precision")
        words = ("accuracy", "majority", "balanced", "recall", "specificity", "F1", "AP")
        found = self._rows()
        rows = []
        for region, places in regions_of(self.attribute_names).items():
            for i in places:
                row = found[i]
                low, high = row["interval"] or (None, None)
                loss = "-" if row["loss"] is None else f"{row['loss']:.3f}"
                cells = [self.attribute_names[i], region, str(row["labels"]), str(row["positives"])]
                cells += [*(_percent(row[share]) for share in shares), f"{_percent(low)} to {_percent(high)}", loss]
                rows.append([*cells, f"{self.thresholds[i]:.3f}"])
        return Table(("%", "region", "labels", "with it", *words, "accuracy, 95 %", "loss", "threshold"), rows)

    def beside(self) -> Table:
        """This result beside published ones."""
        heap = metrics.pooled(self.rates)
        own = {rate: 100 * value for rate in ("accuracy", "recall", "specificity") if (value := getattr(heap, rate))}
        rows = [
            (who, *(f"{values[rate]:.2f}" if rate in values else "-" for rate in ("accuracy", "recall", "specificity")))
            for who, values in {self.name: own, **PUBLISHED}.items()
        ]
        title = "Published on CelebA's own test split, in percent, micro means; comparable on that split alone"
        return Table(("model", "accuracy", "recall", "specificity"), rows, title)


class AttributeEvaluator(Evaluator):
    """Says which attributes each face has, and compares that with the labels.

    Args:
        dataset: Images with attributes; people who are trained on may be among them, and images not.
        thresholds: The probability above which an attribute is said to be there; or the file that evaluate.py wrote for
            this question on other images, a validation split, with the best threshold of each attribute.
        mirrors: Average the logits of an image and of its mirror; published figures are of the image alone.
        name: Prefix of its numbers in logs.

    Raises ``ConfigError`` without a data set, or with one that has no attributes, ``DataError`` for a file that has no
    thresholds.
    """

    dataset: FaceDataset
    closed_set = True
    fields = frozenset({"image", "attributes"})

    def __init__(
        self,
        dataset: FaceDataset | None,
        thresholds: float | str = 0.5,
        mirrors: bool = False,
        name: str = "attributes",
    ):
        if dataset is None or not dataset.attribute_names:
            what = "has no data to ask by" if dataset is None else f"{dataset.name} has no attributes"
            raise ConfigError(f"{what}: give data: {{name: ..., args: {{...}}}} of a data set with attributes")
        super().__init__(name, dataset)
        self.flip = mirrors
        self.chosen = f"{thresholds}"
        if isinstance(thresholds, str):
            self.thresholds = read_thresholds(thresholds, dataset.attribute_names)
        elif 0 < thresholds < 1:
            self.thresholds = dict.fromkeys(dataset.attribute_names, float(thresholds))
        else:
            raise ConfigError(f"args.thresholds must be between 0 and 1, or a file, got {thresholds}")

    def result(self, model: Model, how: How = HERE) -> AttributeResult:
        """The answer of a model of the task attributes or joint.

        Raises ``DataError`` for one that predicts no attributes, or none of the data's.
        """
        theirs = model.attribute_names if isinstance(model, Task) else ()
        if not theirs:
            raise DataError(f"{self.name}: this model predicts no attributes; take one of the task attributes or joint")
        names, mine, ours = shared(theirs, self.dataset)
        sides = torch.from_numpy(Sides.of(Description(0, tuple(theirs))).attributes)
        logits, labels = torch.zeros(2, len(self.dataset), len(names))
        places, elsewhere = share_of(len(self.dataset), how.batch_size)
        for items, batch, views in predictions(
            model,
            self.dataset,
            how,
            indices=places.tolist(),
            fields=frozenset({"attributes"}),
            flip=self.flip,
        ):
            seen = [views[0]["attributes"], *(view["attributes"][:, sides] for view in views[1:])]
            logits[items] = torch.stack(seen).float().mean(dim=0)[:, mine].cpu()
            labels[items] = batch["attributes"][:, ours].cpu()
        for answers in (logits, labels):
            answers[elsewhere] = 0
        thresholds = np.array([self.thresholds[name] for name in names])
        found = AttributeResult(self.name, names, total(logits).numpy(), total(labels).numpy(), thresholds, self.chosen)
        if not np.isfinite(found.labels).any():
            raise DataError(f"{self.name}: {self.dataset.name} says of no image whether it has an attribute")
        return _with_notes(found, theirs, self.dataset)

    def terms(self) -> Terms:
        """For the receipt. The labels' own hash is in the result."""
        names = " ".join(self.dataset.attribute_names).encode()
        protocol: list[tuple[ArrayLike, str]] = [
            (np.frombuffer(names, np.uint8), "|u1"),
            (list(self.thresholds.values()), "<f8"),
        ]
        items = np.arange(len(self.dataset))
        return Terms(items, protocol, self.flip, DEFINITIONS, thresholds=self.chosen)


def shared(theirs: Sequence[str], dataset: FaceDataset) -> tuple[tuple[str, ...], list[int], list[int]]:
    """The data's attributes that a model has, and their places in the model's output and in the data's field.

    Raises ``DataError`` where there are none.
    """
    places = {plain(name): i for i, name in enumerate(theirs)}
    both = [(name, places[plain(name)], i) for i, name in enumerate(dataset.attribute_names) if plain(name) in places]
    if not both:
        raise DataError(
            f"{dataset.name}: has none of the model's attributes; it has {some(dataset.attribute_names)}, and the "
            f"model {some(theirs)}"
        )
    names, mine, ours = zip(*both)
    return names, list(mine), list(ours)


def _with_notes(result: AttributeResult, theirs: Sequence[str], dataset: FaceDataset) -> AttributeResult:
    """With what is not measured, said."""
    names = result.attribute_names
    known = [name for name, r in zip(names, result.rates) if r.known]
    lists = {
        "the model lacks these attributes of the data, which are left out": set(dataset.attribute_names) - set(names),
        "the data lacks these attributes of the model, which are not measured": _lacking(theirs, names),
        "without a known label": set(names) - set(known),
        "constant on these images, so without average precision and balanced accuracy": {
            name for name, ap in zip(names, result.average_precision) if ap is None and name in known
        },
    }
    notes = [f"{words}: {some(sorted(found), show=10)}" for words, found in lists.items() if found]
    return replace(result, notes=tuple(notes))


def _lacking(theirs: Sequence[str], names: Sequence[str]) -> set[str]:
    ours = set(map(plain, names))
    return {name for name in theirs if plain(name) not in ours}


def read_thresholds(path: str | Path, names: Sequence[str]) -> dict[str, float]:
    """``best_thresholds`` of a result's file, for these attributes; 0.5 for those that it lacks.

    Raises ``DataError`` for a file that is none, or has none of these attributes.
    """
    try:
        found = json.loads(read_file(path))["best_thresholds"]
        given = {plain(str(name)): float(value) for name, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: is no result of the question attributes, with best_thresholds ({error}); evaluate.py --ask "
            "attributes writes one"
        ) from None
    if not set(map(plain, names)) & set(given) or not all(0 <= value <= 1 for value in given.values()):
        raise DataError(f"{path}: has thresholds in 0..1 for none of {some(names)}")
    return {name: given.get(plain(name), 0.5) for name in names}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
