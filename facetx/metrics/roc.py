"""ROC curves and what is read off them: AUC, EER, and TAR at FAR.

One rule holds in all of the metrics: a pair is *accepted* (said to be the same person) where ``score > threshold``,
strictly. So a threshold may be a score that was seen, pairs of equal score are accepted or rejected together, and a
constant score gives two operating points: none and all.

FAR (false accept rate, FPR) is the accepted share of the different pairs, TAR (TPR) that of the same pairs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_EXPECTED_ACCEPTS = 10
"""A FAR is supported where at least this many different pairs are expected to be accepted at it."""


def check_pairs(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Bools]:
    """Scores (N,) as float64 and labels (N,) as bool.

    Raises ``ValueError`` for unequal lengths, a score that is not finite, or labels of one class only.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(same)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"expected one score and one label a pair, got shapes {score.shape} and {label.shape}")
    if label.dtype != np.bool_ and not np.isin(label, (0, 1)).all():
        raise ValueError("labels must be bool, or 0 (different) and 1 (same)")
    bad = int((~np.isfinite(score)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(score)} scores are NaN or infinite; so are the embeddings, then")
    label = label.astype(bool)
    positives = int(label.sum())
    if positives in (0, len(label)):
        raise ValueError(
            f"need both same and different pairs, got {positives} same and {len(label) - positives} different"
        )
    return score, label


@dataclass(frozen=True)
class Roc:
    """A step-function ROC: one point for each distinct score, from "accept none" to "accept all".

    Attributes:
        fpr, tpr: (K,) in 0..1, non-decreasing, from (0, 0) to (1, 1).
        thresholds: (K,) falling; point k accepts ``score > thresholds[k]``. From the highest score to -inf.
        different, same: How many pairs of each kind the rates are shares of.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats
    different: int
    same: int


def _accepted(scores: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """False accepts (K,), true accepts (K,) and thresholds (K,) of every operating point, strictest first."""
    score, label = check_pairs(scores, same)
    order = np.argsort(-score, kind="stable")
    score, label = score[order], label[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # the last pair of each run of equal scores
    tp = np.cumsum(label)[last]
    fp = last + 1 - tp
    thresholds = np.append(score[last], -np.inf)
    return np.append(0, fp), np.append(0, tp), thresholds


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """The ROC of scores (N,), higher = more alike, and labels (N,). Raises ``ValueError`` as ``check_pairs`` does."""
    fp, tp, thresholds = _accepted(scores, same)
    return Roc(fp / fp[-1], tp / tp[-1], thresholds, int(fp[-1]), int(tp[-1]))


def auc(scores: ArrayLike, same: ArrayLike) -> float:
    """Area under the ROC: the chance that a same pair scores above a different pair, ties counted half.

    Exact: whole numbers are summed (Mann-Whitney U), and divided once.
    """
    fp, tp, _ = _accepted(scores, same)
    doubled = np.sum(np.diff(fp) * (tp[1:] + tp[:-1]))
    return float(doubled / (2 * fp[-1] * tp[-1]))


def eer(scores: ArrayLike, same: ArrayLike) -> float:
    """Equal error rate: where FAR = 1 - TAR on the ROC, whose points are joined by straight lines.

    Without ties between the classes those lines are the steps themselves; a tie is a diagonal, as for the AUC, so that
    constant scores give 0.5.
    """
    curve = roc(scores, same)
    gap = curve.fpr + curve.tpr - 1  # rises from -1 to 1
    k = int(np.searchsorted(gap, 0.0))  # first point at or past the crossing; k >= 1 as gap[0] = -1
    share = -gap[k - 1] / (gap[k] - gap[k - 1])
    return float(curve.fpr[k - 1] + share * (curve.fpr[k] - curve.fpr[k - 1]))


@dataclass(frozen=True)
class TarAtFar:
    """TAR where at most the target share of different pairs is accepted.

    Attributes:
        target: The FAR asked for.
        far: The FAR realized, <= target.
        tar: Accepted share of the same pairs.
        threshold: Pairs of ``score > threshold`` are accepted.
        low, high: 95 % Wilson interval of ``tar`` over the same pairs, at this threshold.
        supported: Whether the different pairs are enough to speak of this FAR, ``target * pairs >= 10``. Where they
            are not, the threshold hangs on a handful of pairs and the interval says too little.
    """

    target: float
    far: float
    tar: float
    threshold: float
    low: float
    high: float
    supported: bool


def tar_at_far(scores: ArrayLike, same: ArrayLike, fars: Iterable[float]) -> list[TarAtFar]:
    """TAR at each target FAR, by the step function: the lowest threshold whose FAR <= target, never interpolated.

    Args:
        scores: (N,), higher = more alike.
        same: (N,) bool.
        fars: Targets in 0..1.
    """
    score, label = check_pairs(scores, same)
    genuine, impostor = np.sort(score[label]), score[~label]
    targets = list(fars)
    found = []
    for target, threshold in zip(targets, thresholds_at(impostor, targets)):
        accepts = len(genuine) - int(np.searchsorted(genuine, threshold, side="right"))
        low, high = wilson(accepts, len(genuine))
        found.append(
            TarAtFar(
                target=float(target),
                far=float(np.mean(impostor > threshold)),
                tar=accepts / len(genuine),
                threshold=float(threshold),
                low=low,
                high=high,
                supported=target * len(impostor) >= MIN_EXPECTED_ACCEPTS,
            )
        )
    return found


def thresholds_at(impostor: Floats, rates: Iterable[float]) -> Floats:
    """For each rate (T,), the lowest threshold above which at most that share of the scores (N,) lies: (T,)."""
    wanted = np.array([float(rate) for rate in rates])
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"a rate lies in 0..1, got {wanted.tolist()}")
    limits = np.append(np.sort(impostor)[::-1], -np.inf)  # above limits[k] are at most the k highest scores
    shares = np.arange(len(impostor) + 1) / len(impostor)
    return limits[np.searchsorted(shares, wanted, side="right") - 1]


def wilson(successes: int, trials: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share; z = 1.96 gives 95 %. (E. B. Wilson, JASA 1927.)"""
    share, pull = successes / trials, z * z / trials
    center = (share + pull / 2) / (1 + pull)
    half = z / (1 + pull) * np.sqrt(share * (1 - share) / trials + pull / (4 * trials))
    # The ends are exactly 0 and 1 where no, or every, trial succeeds; rounding alone would miss them.
    low = 0.0 if successes == 0 else float(center - half)
    high = 1.0 if successes == trials else float(center + half)
    return low, high
