"""Is one system better than another, or lucky? Tests on decisions about the same pairs.

Both take the pairs for independent draws. Benchmarks use a person's images in several pairs, so the true uncertainty is
rather larger than these say.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facetx.metrics.roc import Bools, Floats, check_pairs, thresholds_at


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two systems' decisions on the same pairs.

    Attributes:
        only_a, only_b: Pairs that one system alone decided rightly.
        p: Two-sided; the chance of a difference at least so large if both were equally good.
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """The exact binomial form (Q. McNemar, Psychometrika 1947): of the n pairs that one system alone decided rightly,
    the number of the first's is binomial(n, 1/2) if both are equally good.

    Args:
        right_a, right_b: (N,) bool, whether each system decided the pair rightly.
    """
    a, b = _paired(right_a, right_b)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    # log C(n, k) for k = 0..fewer, by C(n, k) = C(n, k - 1) (n - k + 1) / k
    k = np.arange(1, fewer + 1)
    log_choose = np.append(0.0, np.cumsum(np.log((n - k + 1) / k)))
    tail = float(np.exp(log_choose - n * np.log(2)).sum())
    return McNemar(only_a, only_b, min(1.0, 2 * tail))


@dataclass(frozen=True)
class Bootstrapped:
    """A number of each system and their difference, with 95 % percentile intervals over resampled pairs.

    Attributes:
        a, b: The number of each.
        difference: b - a.
        a_interval, b_interval, difference_interval: (low, high).
        p: Two-sided; twice the share of resamples on the other side of no difference, resamples without a difference
            counted on both, and one more for the difference that was found: so never 0 (Davison and Hinkley 1997,
            equation 4.11).
    """

    a: float
    b: float
    difference: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    p: float


def bootstrap_shares(right_a: ArrayLike, right_b: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Bootstrapped:
    """The paired bootstrap (Efron 1979) of two shares of right decisions: pairs are drawn with replacement, both
    systems' decisions together.

    Only the counts of the four outcomes (both right, one alone, none) enter the shares, and over resamples these are
    multinomial; so they are drawn at once instead of pair by pair.

    Args:
        right_a, right_b: (N,) bool, whether each system decided the pair rightly.
        resamples: How many.
        seed: The same arguments give the same intervals.
    """
    a, b = _paired(right_a, right_b)
    outcomes = np.bincount(2 * a.astype(int) + b, minlength=4)  # none, b alone, a alone, both
    drawn = np.random.default_rng(seed).multinomial(len(a), outcomes / len(a), size=resamples)  # (R, 4)
    right = drawn @ np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # (R, 2): decided rightly by a, by b
    return bootstrapped(np.array([a.mean(), b.mean()]), right / len(a))


def bootstrap_tar(
    scores_a: ArrayLike, scores_b: ArrayLike, same: ArrayLike, far: float, resamples: int = 1000, seed: int = 0
) -> Bootstrapped:
    """The paired bootstrap of TAR at a FAR: same and different pairs are drawn apart, and each resample takes its own
    thresholds, so that the intervals hold the uncertainty of these too.

    Args:
        scores_a, scores_b: (N,) of each system, higher = more alike.
        same: (N,) bool.
        far: Target in 0..1, by the step function.
        resamples, seed: As above.
    """
    score_a, label = check_pairs(scores_a, same)
    score_b, _ = check_pairs(scores_b, same)
    genuine, impostor = (np.stack([score_a[kind], score_b[kind]]) for kind in (label, ~label))  # (2, N+), (2, N-)
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, 2))
    for tars in drawn:
        chosen = impostor[:, rng.integers(impostor.shape[1], size=impostor.shape[1])]
        tars[:] = _tars(genuine[:, rng.integers(genuine.shape[1], size=genuine.shape[1])], chosen, far)
    return bootstrapped(_tars(genuine, impostor, far), drawn)


def _tars(genuine: Floats, impostor: Floats, far: float) -> Floats:
    """TAR at FAR of each of two systems: (2,)."""
    return np.array([np.mean(g > thresholds_at(i, [far])[0]) for g, i in zip(genuine, impostor)])


def bootstrapped(found: Floats, drawn: Floats) -> Bootstrapped:
    """From the numbers of both systems (2,), and those of the resamples (R, 2)."""
    difference = drawn[:, 1] - drawn[:, 0]
    return Bootstrapped(
        a=float(found[0]),
        b=float(found[1]),
        difference=float(found[1] - found[0]),
        a_interval=_interval(drawn[:, 0]),
        b_interval=_interval(drawn[:, 1]),
        difference_interval=_interval(difference),
        p=min(1.0, 2 * (1 + min(int((difference >= 0).sum()), int((difference <= 0).sum()))) / (1 + len(drawn))),
    )


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _paired(right_a: ArrayLike, right_b: ArrayLike) -> tuple[Bools, Bools]:
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"expected one decision of each system a pair, got shapes {a.shape} and {b.shape}")
    return a, b
