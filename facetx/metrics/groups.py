"""Does one threshold serve all people alike? Rates of each group of pairs at a global threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facetx.metrics.roc import check_pairs, wilson

Interval = tuple[float, float]


@dataclass(frozen=True)
class GroupRates:
    """One group of pairs at the threshold of all. Rates in 0..1, intervals are Wilson's of 95 %.

    Attributes:
        name: Of the group.
        same, different: Pairs of each kind.
        accuracy: Share of its pairs decided rightly.
        accuracy_interval: Of the accuracy.
        tar, tar_interval: Accepted share of its same pairs; None where it has none.
        far, far_interval: Accepted share of its different pairs; None where it has none.
    """

    name: str
    same: int
    different: int
    accuracy: float
    accuracy_interval: Interval
    tar: float | None
    tar_interval: Interval | None
    far: float | None
    far_interval: Interval | None


def group_rates(scores: ArrayLike, same: ArrayLike, groups: Sequence[str | None], threshold: float) -> list[GroupRates]:
    """The rates of each group, by name.

    Args:
        scores: (N,), higher = more alike.
        same: (N,) bool.
        groups: (N,) the group of each pair; None leaves it out.
        threshold: A pair is accepted where its score is above, whatever its group.
    """
    score, label = check_pairs(scores, same)
    if len(groups) != len(score):
        raise ValueError(f"expected a group for each of {len(score)} pairs, got {len(groups)}")
    accepted = score > threshold
    found = []
    for name in sorted({g for g in groups if g is not None}):
        of_group = np.array([g == name for g in groups])
        genuine, impostor = accepted[of_group & label], accepted[of_group & ~label]
        right, total = int(genuine.sum() + (~impostor).sum()), int(of_group.sum())
        tar, tar_interval = _share(int(genuine.sum()), len(genuine))
        far, far_interval = _share(int(impostor.sum()), len(impostor))
        found.append(
            GroupRates(
                name=name,
                same=len(genuine),
                different=len(impostor),
                accuracy=right / total,
                accuracy_interval=wilson(right, total),
                tar=tar,
                tar_interval=tar_interval,
                far=far,
                far_interval=far_interval,
            )
        )
    return found


def _share(successes: int, trials: int) -> tuple[float | None, Interval | None]:
    return (successes / trials, wilson(successes, trials)) if trials else (None, None)
