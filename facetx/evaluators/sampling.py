"""Draws balanced pairs, in folds that share no identity, from any labeled data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError

Ints = NDArray[np.int64]

FOLDS, PAIRS = 10, 300
"""As the LFW protocol has them: folds, and pairs of each kind in a fold."""


@dataclass(frozen=True)
class PairSample:
    """N pairs of items of a data set, fold by fold, in each fold the same pairs first.

    Attributes:
        first, second: (N,) items of the data set.
        same: (N,) bool.
        fold: (N,) int, 0..F-1.
        notes: A sentence where there are fewer than usual.
    """

    first: Ints
    second: Ints
    same: NDArray[np.bool_]
    fold: Ints
    notes: tuple[str, ...] = ()


def sample_pairs(
    labels: Ints, folds: int | None = None, pairs_per_fold: int | None = None, seed: int = 0, most: int = PAIRS
) -> PairSample:
    """Distinct pairs, uniform over all that a fold allows: ``pairs_per_fold`` same and as many different ones.

    Each identity belongs to one fold, so that a threshold is never measured on people that it was chosen on.

    Args:
        labels: (M,) identity of each item.
        folds: How many, at least 2; unless given ``FOLDS``, or as many as the identities allow.
        pairs_per_fold: Of each kind; unless given ``most``, or as many as the identities allow.
        seed: The same arguments give the same pairs.
        most: See ``pairs_per_fold``.

    Raises ``DataError`` where a fold has too few identities or images; it says how many pairs there are.
    """
    if (folds is not None and folds < 2) or (pairs_per_fold is not None and pairs_per_fold < 1):
        raise DataError(f"need at least 2 folds and 1 pair in each, got folds={folds}, pairs_per_fold={pairs_per_fold}")
    rng = np.random.default_rng(seed)
    identities, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Dealt like cards from those of most images to those of fewest, so that the folds are about equally rich.
    shuffled = rng.permutation(len(identities))
    dealt = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    least = pairs_per_fold or 1
    for count in [folds] if folds else range(FOLDS, 1, -1):
        possible = [_Fold(i, dealt[i::count], label, counts) for i in range(count)]
        if all(fold.same >= least and fold.different >= least for fold in possible):
            break
    else:
        raise DataError(_too_few(possible, least, len(identities), len(label)))
    size = pairs_per_fold or min(most, *(min(fold.same, fold.different) for fold in possible))
    first, second = [], []
    for fold in possible:
        for start, stop in fold.partners():
            i, j = _draw(rng, start, stop, size)
            first.append(fold.items[i])
            second.append(fold.items[j])
    return PairSample(
        np.concatenate(first),
        np.concatenate(second),
        same=np.tile(np.repeat([True, False], size), len(possible)),
        fold=np.repeat(np.arange(len(possible)), 2 * size),
        notes=_note(len(possible), size, (folds or FOLDS, pairs_per_fold or most), len(identities), len(label)),
    )


class _Fold:
    """Some of the identities, with their items."""

    def __init__(self, number: int, identities: Ints, label: Ints, counts: Ints):
        self.number, self.identities, self.label = number, identities, label
        sizes = counts[identities].astype(np.int64)
        self.images = int(sizes.sum())
        self.same = int((sizes * (sizes - 1) // 2).sum())
        self.different = (self.images**2 - int((sizes**2).sum())) // 2

    @cached_property
    def items(self) -> Ints:
        """Identities side by side, in the order of their numbers."""
        chosen = np.zeros(int(self.label.max()) + 1, bool)
        chosen[self.identities] = True
        items = np.flatnonzero(chosen[self.label])
        return items[np.argsort(self.label[items], kind="stable")]

    def partners(self) -> Iterator[tuple[Ints, Ints]]:
        """Of each item the range of items, counted in ``items``, that make same pairs with it; and different ones."""
        label, place = self.label[self.items], np.arange(len(self.items))
        after = np.searchsorted(label, label, side="right")  # where the next identity begins
        yield place + 1, after
        yield after, np.full(len(place), len(place))


def _too_few(folds: Sequence[_Fold], least: int, identities: int, images: int) -> str:
    fold = next(f for f in folds if min(f.same, f.different) < least)
    kind, possible = ("same", fold.same) if fold.same < least else ("different", fold.different)
    return (
        f"cannot draw {least} {kind} pairs for each of {len(folds)} folds from {identities} identities with {images} "
        f"images: fold {fold.number + 1} has {len(fold.identities)} identities with {fold.images} images, which make "
        f"{possible}. Give more identities or images, or ask for fewer folds or pairs"
    )


def _note(folds: int, size: int, wanted: tuple[int, int], identities: int, images: int) -> tuple[str, ...]:
    """What is said where the identities allow less than the usual."""
    if (folds, size) == wanted:
        return ()
    return (
        f"{folds} folds of {size} + {size} pairs, for {identities} identities with {images} images allow no more; "
        f"{wanted[0]} folds of {wanted[1]} + {wanted[1]} are the usual, and give a surer number",
    )


def _draw(rng: np.random.Generator, start: Ints, stop: Ints, count: int) -> tuple[Ints, Ints]:
    """``count`` distinct (i, j) with start[i] <= j < stop[i], each as likely, without listing all of them."""
    ends = np.cumsum(stop - start)
    rank = rng.choice(ends[-1], size=count, replace=False)
    i = np.searchsorted(ends, rank, side="right")
    return i, stop[i] - (ends[i] - rank)
