"""Numbers of attributes: probabilities and labels in, shares out. N images, A attributes; NaN is a label not known.

Rates of one attribute: recall is the share of the images that have it and are said to; specificity of those that have
it not and are said not to; balanced accuracy is the mean of both. Means over attributes are *macro*; *micro* takes all
labels as one heap, so an attribute that few have weighs little in its recall.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.metrics.roc import wilson

Floats = NDArray[np.floating]
Goal = Literal["accuracy", "balanced_accuracy", "f1"]


@dataclass(frozen=True)
class Rates:
    """From how often an attribute is there and found (``tp``), there and missed (``fn``), and so on.

    A rate is None where there is nothing that it could be a share of.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def known(self) -> int:
        """Labels."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def positives(self) -> int:
        """Labels that say that it is there."""
        return self.tp + self.fn

    @property
    def accuracy(self) -> float | None:
        return _share(self.tp + self.tn, self.known)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % of the accuracy (Wilson), for images that are independent draws."""
        return wilson(self.tp + self.tn, self.known) if self.known else None

    @property
    def recall(self) -> float | None:
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        return _share(self.tn, self.tn + self.fp)

    @property
    def balanced_accuracy(self) -> float | None:
        return None if self.recall is None or self.specificity is None else (self.recall + self.specificity) / 2

    @property
    def f1(self) -> float | None:
        """None where it is nowhere, neither there nor found."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def majority(self) -> float | None:
        """The accuracy of always giving the more frequent answer."""
        return _share(max(self.positives, self.known - self.positives), self.known)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def rates(probabilities: Floats, labels: Floats, thresholds: float | Floats = 0.5) -> list[Rates]:
    """Of each attribute. An attribute is said to be there where its probability is above its threshold.

    Args:
        probabilities: (N, A) in 0..1.
        labels: (N, A): 1, 0 or NaN.
        thresholds: One, or (A,).
    """
    counts = [case.sum(axis=0) for case in _cases(probabilities, labels, thresholds)]
    return [Rates(*map(int, row)) for row in np.stack(counts, axis=1)]


def _cases(probabilities: Floats, labels: Floats, thresholds: float | Floats) -> list[NDArray[np.bool_]]:
    """Which labels (N, A) are of each kind, in the order of ``Rates``: tp, fp, fn, tn."""
    said, there, known = probabilities > thresholds, labels == 1, np.isfinite(labels)
    return [known & a & b for a, b in ((said, there), (said, ~there), (~said, there), (~said, ~there))]


def pooled(each: list[Rates]) -> Rates:
    """All labels as one heap: its rates are the micro means."""
    return Rates(*(sum(getattr(r, name) for r in each) for name in ("tp", "fp", "fn", "tn")))


def average_precision(probabilities: Floats, labels: Floats) -> list[float | None]:
    """Of each attribute; None where it is constant, for then there is nothing to rank."""
    from sklearn.metrics import average_precision_score

    found: list[float | None] = []
    for scores, own in zip(probabilities.T, labels.T):
        known = np.isfinite(own)
        constant = np.unique(own[known]).size < 2
        found.append(None if constant else float(average_precision_score(own[known], scores[known])))
    return found


def cross_entropy(logits: Floats, labels: Floats) -> Floats:
    """(N, A) binary cross-entropy in nats, NaN where the label is not known."""
    x = np.asarray(logits, np.float64)
    losses: Floats = np.logaddexp(0, np.where(labels == 1, -x, x))
    return np.where(np.isfinite(labels), losses, np.nan)


def best_thresholds(probabilities: Floats, labels: Floats, goal: Goal = "balanced_accuracy") -> Floats:
    """(A,) the threshold of each attribute with the highest value of ``goal``, halfway between two probabilities; the
    one that is closest to 0.5 where several are as good; 0.5 for a constant attribute.

    They fit the images that they are chosen on: choose them on a validation split.
    """
    return np.array([_best(p, y, goal) for p, y in zip(probabilities.T.astype(np.float64), labels.T)])


def _best(probabilities: Floats, labels: Floats, goal: Goal) -> float:
    known = np.isfinite(labels)
    order = np.argsort(probabilities[known], kind="stable")
    p, there = probabilities[known][order], labels[known][order] == 1
    positives, negatives = int(there.sum()), int((~there).sum())
    if not positives or not negatives:
        return 0.5
    fn = np.concatenate([[0], np.cumsum(there)])  # the k lowest are said not to have it
    tn = np.concatenate([[0], np.cumsum(~there)])
    tp, fp = positives - fn, negatives - tn
    values = {
        "accuracy": (tp + tn) / len(p),
        "balanced_accuracy": (tp / positives + tn / negatives) / 2,
        "f1": 2 * tp / (2 * tp + fp + fn),
    }[goal]
    cuts = np.concatenate([[0.0], (p[1:] + p[:-1]) / 2, [1.0]])
    possible = np.concatenate([[True], p[1:] > p[:-1], [True]])
    best = possible & (values >= values[possible].max() - 1e-12)
    return float(cuts[best][np.argmin(np.abs(cuts[best] - 0.5))])


@dataclass(frozen=True)
class Calibration:
    """How often attributes are there, by the probability that they are given.

    Attributes:
        counts: (K,) labels whose probability lies in each of K equal steps of 0..1.
        said, there: (K,) mean probability, and share that holds; NaN in an empty step.
        error: Expected calibration error: the mean of |said - there| over the labels (Naeini et al., AAAI 2015).
    """

    counts: NDArray[np.int64]
    said: Floats
    there: Floats
    error: float


def calibration(probabilities: Floats, labels: Floats, bins: int = 15) -> Calibration:
    """Of all known labels as one heap."""
    known = np.isfinite(labels)
    p, y = probabilities[known].astype(np.float64), labels[known]
    place = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        said, there = (np.bincount(place, v, bins) / counts for v in (p, y))
    full = counts > 0
    error = float((counts * np.abs(said - there))[full].sum() / max(len(p), 1))
    return Calibration(counts, said, there, error)


def bootstrap(
    probabilities: Floats, labels: Floats, thresholds: float | Floats = 0.5, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals over resampled images, the thresholds as they are.

    Of "accuracy_micro", "accuracy_macro" and "balanced_accuracy", the mean over the attributes that are not constant.
    """
    kinds = np.concatenate(_cases(probabilities, labels, thresholds), axis=1).astype(np.float32)  # (N, 4 A)
    rng, drawn = np.random.default_rng(seed), []
    images, even = len(labels), np.full(len(labels), 1 / len(labels))
    for _ in range(resamples):
        drawn.append(rng.multinomial(images, even).astype(np.float32) @ kinds)
    tp, fp, fn, tn = np.stack(drawn).reshape(resamples, 4, -1).transpose(1, 0, 2)  # (R, A) each
    right, total = tp + tn, tp + fp + fn + tn
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "accuracy_micro": right.sum(1) / total.sum(1),
            "accuracy_macro": _mean(right / total),
            "balanced_accuracy": _mean((tp / (tp + fn) + tn / (tn + fp)) / 2),
        }
    found = {}
    for name, value in values.items():
        if np.isfinite(value).all():
            low, high = np.quantile(value, (0.025, 0.975))
            found[name] = (float(low), float(high))
    return found


def _mean(values: Floats) -> Floats:
    """(R, A) -> (R,) over those that there are."""
    there = np.isfinite(values)
    mean: Floats = np.where(there, values, 0).sum(1) / there.sum(1)
    return mean
