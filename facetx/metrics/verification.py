"""The k-fold verification protocol of LFW: accuracy at a threshold that was chosen on the other folds.

Scores are similarities, higher = more alike, and a pair is accepted where ``score > threshold`` (see ``roc.py``). For
unit vectors the cosine and the field's squared distance say the same thing: d = |a - b|^2 = 2 - 2 cos.

Legend: N pairs, F folds, T thresholds.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.metrics.roc import Bools, Floats, check_pairs

Ints = NDArray[np.int64]

Thresholds = Literal["grid", "exact"]

DECIMALS = 9
"""Places of a cosine: fewer than rounding in float64 disturbs, more than any embedding means."""

GRID = np.arange(0, 4, 0.01)
"""The field's thresholds (InsightFace's evaluation): squared distances of unit vectors, 0 to 4 by 0.01."""


def cosine_to_distance(cosine: ArrayLike) -> Floats:
    """Squared Euclidean distance, 0..4, of two unit vectors with this cosine."""
    return 2 - 2 * np.asarray(cosine, dtype=np.float64)


def distance_to_cosine(distance: ArrayLike) -> Floats:
    """Cosine, -1..1, of two unit vectors at this squared Euclidean distance."""
    return 1 - np.asarray(distance, dtype=np.float64) / 2


def cosine_scores(first: ArrayLike, second: ArrayLike) -> Floats:
    """Cosine of each row of ``first`` (N, D) with the same row of ``second`` (N, D), in -1..1.

    Rows need not be normalized. A row of zeros has no direction; its cosine is 0. Cosines are rounded to ``DECIMALS``
    places, so that what is equal but for the order in which a machine adds up is equal: ties are to be told as ties.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.einsum("nd,nd->n", a, b) / np.where(norms == 0, 1, norms)
    return np.clip(np.round(cosines, DECIMALS), -1, 1)


def contiguous_folds(pairs: int, folds: int = 10) -> Ints:
    """Fold (N,) of each pair, in file order: 0, 0, ..., 1, 1, ... The first folds take one more where N % folds > 0."""
    if not 2 <= folds <= pairs:
        raise ValueError(f"need at least 2 folds and one pair in each, got {folds} folds for {pairs} pairs")
    sizes = [len(part) for part in np.array_split(np.arange(pairs), folds)]
    return np.repeat(np.arange(folds), sizes)


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy over folds.

    Attributes:
        mean: Mean of the folds' accuracies, 0..1.
        std: Their standard deviation with ddof = 0, which most of the field's code prints as "+-".
        se: Standard error of the mean, std with ddof = 1 over sqrt(F), which the LFW protocol asks for.
        accuracies: (F,) on each held-out fold.
        thresholds: (F,) as scores, each chosen without its fold.
        mode: How they were chosen.
    """

    mean: float
    std: float
    se: float
    accuracies: Floats
    thresholds: Floats
    mode: Thresholds


def tenfold_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    folds: int | ArrayLike = 10,
    mode: Thresholds = "grid",
) -> FoldAccuracy:
    """Accuracy on each fold at the threshold that is best on all the others (LFW, Huang et al. 2007, section 4).

    Args:
        scores: (N,), higher = more alike. ``grid`` wants cosines.
        same: (N,) bool.
        folds: How many contiguous folds in file order, or the fold (N,) of each pair.
        mode: ``grid`` tries the field's 400 thresholds, and so agrees with its figures. ``exact`` tries the middle
            between every two neighboring scores of the other folds, and accepting none or all.
            In both, of thresholds that are equally good the strictest is taken: the first on a grid of distances.

    Raises ``ValueError`` for scores that are not finite, labels of one class only, or fewer than two folds.
    """
    score, label = check_pairs(scores, same)
    fold, count = _fold_ids(folds, len(score))
    if mode == "grid":
        thresholds = _best_on_grid(score, label, fold, count)
    elif mode == "exact":
        thresholds = _best_midpoints(score, label, fold, count)
    else:
        raise ValueError(f"mode must be 'grid' or 'exact', got {mode!r}")
    right = (score > thresholds[fold]) == label
    accuracies = np.bincount(fold, right) / np.bincount(fold)
    return FoldAccuracy(
        mean=float(accuracies.mean()),
        std=float(accuracies.std()),
        se=float(accuracies.std(ddof=1) / np.sqrt(count)),
        accuracies=accuracies,
        thresholds=thresholds,
        mode=mode,
    )


def best_threshold(scores: ArrayLike, same: ArrayLike, mode: Thresholds = "grid") -> float:
    """The score above which accepting is most often right, of all pairs (N,); the strictest of equals.

    It is chosen on the pairs themselves, so the accuracy at it says too much: ``tenfold_accuracy`` measures on others.
    ``mode`` and errors are as there.
    """
    score, label = check_pairs(scores, same)
    if mode == "grid":
        none = np.zeros(len(score), np.int64)
        limits = distance_to_cosine(GRID)
        gain = _accepts(score[label], none[label], 1, limits) - _accepts(score[~label], none[~label], 1, limits)
        return float(limits[gain[0].argmax()])
    order = np.argsort(-score, kind="stable")
    return _best_midpoint(score[order], label[order])


def fold_rates(
    scores: ArrayLike, same: ArrayLike, folds: int | ArrayLike = 10, distances: ArrayLike = GRID
) -> tuple[Floats, Floats]:
    """TPR (F, T) and FPR (F, T) of each fold at rising squared distances (T,); their means over F are the field's ROC.

    Raises ``ValueError`` where a fold lacks pairs of one class.
    """
    score, label = check_pairs(scores, same)
    fold, count = _fold_ids(folds, len(score))
    limits = distance_to_cosine(distances)
    rates = []
    for kind, chosen in (("same", label), ("different", ~label)):
        totals = np.bincount(fold[chosen], minlength=count)
        if (totals == 0).any():
            raise ValueError(f"fold {int(np.argmin(totals))} has no pairs of the {kind} kind")
        rates.append(_accepts(score[chosen], fold[chosen], count, limits) / totals[:, None])
    return rates[0], rates[1]


def _fold_ids(folds: int | ArrayLike, pairs: int) -> tuple[Ints, int]:
    """Fold (N,) of each pair, as 0..F-1, and F."""
    ids = np.asarray(folds)
    if ids.ndim == 0:
        return contiguous_folds(pairs, int(ids)), int(ids)
    if ids.shape != (pairs,):
        raise ValueError(f"expected a fold for each of {pairs} pairs, got shape {ids.shape}")
    names, fold = np.unique(ids, return_inverse=True)
    if len(names) < 2:
        raise ValueError("need at least 2 folds: a threshold is chosen on the folds that are not measured")
    return fold, len(names)


def _accepts(score: Floats, fold: Ints, count: int, limits: Floats) -> Ints:
    """How many pairs of each fold lie above each of the falling limits (T,): counts (F, T).

    Every pair is put into the bin of the first limit that it exceeds; a running sum over the bins does the rest.
    """
    size = len(limits)
    first = size - np.searchsorted(limits[::-1], score)  # 0..T, where T is "above none"
    bins = np.bincount(fold * (size + 1) + first, minlength=count * (size + 1)).reshape(count, size + 1)
    return bins[:, :-1].cumsum(axis=1)


def _best_on_grid(score: Floats, label: Bools, fold: Ints, count: int) -> Floats:
    """For each fold, the first threshold of the grid that is best on the others: (F,)."""
    limits = distance_to_cosine(GRID)
    true = _accepts(score[label], fold[label], count, limits)
    false = _accepts(score[~label], fold[~label], count, limits)
    gain = true - false  # (F, T), accuracy up to constants of the fold
    others = gain.sum(axis=0) - gain
    return limits[others.argmax(axis=1)]


def _best_midpoints(score: Floats, label: Bools, fold: Ints, count: int) -> Floats:
    """For each fold, the strictest midpoint between the others' scores that is best on them: (F,)."""
    order = np.argsort(-score, kind="stable")
    thresholds = np.empty(count)
    for held_out in range(count):
        train = order[fold[order] != held_out]
        thresholds[held_out] = _best_midpoint(score[train], label[train])
    return thresholds


def _best_midpoint(score: Floats, label: Bools) -> float:
    """Of falling scores (M,), the strictest midpoint between two of them that is best."""
    gain = np.append(0, np.cumsum(np.where(label, 1, -1)))  # gain[k]: the k highest are accepted
    gain[1:-1][score[:-1] == score[1:]] = -len(score) - 1  # a cut between equal scores is none
    k = int(gain.argmax())
    if k == 0:
        return float(score[0])
    if k == len(score):
        return float(np.nextafter(score[-1], -np.inf))
    middle = score[k] + (score[k - 1] - score[k]) / 2
    return float(middle if middle < score[k - 1] else score[k])  # neighboring floats have no middle
