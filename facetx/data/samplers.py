"""Which items make a batch: pure functions of (labels, seed, epoch), so that any step can be taken up again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError, some
from facetx.registry import Registry

Ints = NDArray[np.int64]


class BatchOrder(ABC):
    """The batches of each epoch, given one by one: at 6 million images the first one comes in less than half a second.

    Legend: ``labels`` (N,) int64 of the data set, B ``batch_size``.
    """

    @abstractmethod
    def steps(self, labels: Ints, batch_size: int) -> int:
        """How many batches an epoch has, the same in every epoch. Raises ``DataError`` where there can be none."""

    @abstractmethod
    def epoch(self, labels: Ints, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
        """The item indices (B,) of each batch, as many as ``steps`` says."""


class Shuffled(BatchOrder):
    """Every item once an epoch, in random order; the few that do not fill a batch wait for the next epoch."""

    def steps(self, labels: Ints, batch_size: int) -> int:
        if batch_size > len(labels):
            raise DataError(f"{len(labels)} images do not fill one batch of {batch_size}; lower train.batch_size")
        return len(labels) // batch_size

    def epoch(self, labels: Ints, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
        steps = self.steps(labels, batch_size)
        order = _rng(seed, epoch).permutation(len(labels))
        yield from order[: steps * batch_size].reshape(steps, batch_size)


class Identities(BatchOrder):
    """P identities x K images a batch ("PK", Hermans et al. 2017, arXiv 1703.07737), for pair and triplet losses.

    P = batch_size / K. Each identity is met equally often; where one has fewer than K images it is an error that names
    it. An epoch has as many batches as fit the number of items.

    Args:
        images: K.
    """

    def __init__(self, images: int = 4):
        self.images = images
        self._grouped: _Groups | None = None

    def steps(self, labels: Ints, batch_size: int) -> int:
        if batch_size % self.images or batch_size == self.images:
            raise DataError(
                f"train.batch_size {batch_size} is not a multiple of {self.images} with at least two identities, "
                f"as sampler identities(images={self.images}) needs"
            )
        groups = self._groups(labels)
        few = groups.names[groups.counts < self.images]
        if len(few):
            raise DataError(
                f"sampler identities needs {self.images} images of each identity; {len(few)} have fewer (classes "
                f"{some(few.tolist())}): lower images, or leave these identities out"
            )
        people = batch_size // self.images
        if people > len(groups.names):
            raise DataError(
                f"a batch of {people} identities x {self.images} images, but there are {len(groups.names)} identities"
            )
        return max(1, len(labels) // batch_size)

    def epoch(self, labels: Ints, batch_size: int, seed: int, epoch: int) -> Iterator[Ints]:
        steps, people = self.steps(labels, batch_size), batch_size // self.images
        groups, rng = self._groups(labels), _rng(seed, epoch)
        queue = np.empty(0, np.int64)
        for _ in range(steps):
            if len(queue) < people:
                # The next round starts with whoever is not waiting already: no identity twice in a batch.
                fresh = rng.permutation(len(groups.names))
                waiting = np.isin(fresh, queue)
                queue = np.concatenate([queue, fresh[~waiting], fresh[waiting]])
            chosen, queue = queue[:people], queue[people:]
            counts, starts = groups.counts[chosen].tolist(), groups.starts[chosen]
            picks = np.array([rng.choice(count, self.images, replace=False) for count in counts])  # (P, K)
            yield groups.by_label[starts[:, None] + picks].reshape(batch_size)

    def _groups(self, labels: Ints) -> "_Groups":
        """The images of each identity, found once."""
        if self._grouped is None or self._grouped.labels is not labels:
            # A stable argsort in a third of the time: whole numbers that sort by label, then by index.
            by_label = np.sort(labels * len(labels) + np.arange(len(labels))) % len(labels)
            counts = np.bincount(labels)
            names = np.flatnonzero(counts)
            starts = np.cumsum(counts) - counts
            self._grouped = _Groups(labels, by_label, names, starts[names], counts[names])
        return self._grouped


class _Groups(NamedTuple):
    """Indices (N,) sorted by label; (C,) each label, where its indices start, and how many they are."""

    labels: Ints
    by_label: Ints
    names: Ints
    starts: Ints
    counts: Ints


def _rng(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch))))


SAMPLERS: Registry[Callable[..., BatchOrder]] = Registry(
    "sampler", {"shuffled": Shuffled, "identities": Identities}, base=BatchOrder
)
