"""Draws balanced pairs, in folds that share no identity, from any labeled data set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PairSample:
    """N pairs of items of a data set, fold by fold, in each fold the same pairs first.

    Attributes:
        first, second: (N,) items of the data set.
        same: (N,) bool.
        fold: (N,) int, 0..F-1.
    """

    first: Ints
    second: Ints
    same: NDArray[np.bool_]
    fold: Ints


def sample_pairs(labels: Ints, folds: int = 10, pairs_per_fold: int = 300, seed: int = 0) -> PairSample:
    """Distinct pairs, uniform over all that a fold allows: ``pairs_per_fold`` same and as many different ones.

    Each identity belongs to one fold, so that a threshold is never measured on people that it was chosen on.

    Args:
        labels: (M,) identity of each item.
        folds: How many, at least 2.
        pairs_per_fold: Of each kind.
        seed: The same arguments give the same pairs.

    Raises ``DataError`` where a fold has too few identities or images; it says how many pairs there are.
    """
    if folds < 2 or pairs_per_fold < 1:
        raise DataError(f"need at least 2 folds and 1 pair in each, got folds={folds}, pairs_per_fold={pairs_per_fold}")
    rng = np.random.default_rng(seed)
    identities, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Dealt like cards from those of most images to those of fewest, so that the folds are about equally rich.
    shuffled = rng.permutation(len(identities))
    dealt = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    fold_of = np.empty(len(identities), np.int64)
    fold_of[dealt] = np.arange(len(identities)) % folds

    first, second = [], []
    for fold in range(folds):
        items = np.flatnonzero(fold_of[label] == fold)
        items = items[np.argsort(label[items], kind="stable")]  # identities side by side
        size = len(items)
        after = np.searchsorted(label[items], label[items], side="right")  # where the next identity begins
        place = np.arange(size)
        partners = {"same": (place + 1, after), "different": (after, np.full(size, size))}
        for kind, (start, stop) in partners.items():
            possible = int((stop - start).sum())
            if possible < pairs_per_fold:
                here = f"fold {fold + 1} has {len(np.unique(label[items]))} identities with {size} images"
                raise DataError(
                    f"cannot draw {pairs_per_fold} {kind} pairs for each of {folds} folds from {len(identities)} "
                    f"identities with {len(label)} images: {here}, which make {possible}. Give more identities or "
                    "images, or ask for fewer folds or pairs"
                )
            i, j = _draw(rng, start, stop, pairs_per_fold)
            first.append(items[i])
            second.append(items[j])
    same = np.tile(np.repeat([True, False], pairs_per_fold), folds)
    return PairSample(
        np.concatenate(first), np.concatenate(second), same, np.repeat(np.arange(folds), 2 * pairs_per_fold)
    )


def _draw(rng: np.random.Generator, start: Ints, stop: Ints, count: int) -> tuple[Ints, Ints]:
    """``count`` distinct (i, j) with start[i] <= j < stop[i], each as likely, without listing all of them."""
    ends = np.cumsum(stop - start)
    rank = rng.choice(ends[-1], size=count, replace=False)
    i = np.searchsorted(ends, rank, side="right")
    return i, stop[i] - (ends[i] - rank)
