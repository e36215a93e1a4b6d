"""Which items make a batch: pure functions of (labels, seed, epoch), so that any step can be taken up again."""

from collections.abc import Callable

import numpy as np

from facetx.errors import DataError, some
from facetx.registry import Registry

EpochBatches = Callable[[np.ndarray, int, int, int], np.ndarray]
"""(labels, batch_size, seed, epoch) -> item indices (steps in an epoch, batch_size); the same shape in every epoch."""


def _rng(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch))))


def shuffled() -> EpochBatches:
    """Every item once an epoch, in random order; the few that do not fill a batch wait for the next epoch."""

    def batches(labels: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        steps = len(labels) // batch_size
        if steps == 0:
            raise DataError(f"{len(labels)} images do not fill one batch of {batch_size}; lower train.batch_size")
        return _rng(seed, epoch).permutation(len(labels))[: steps * batch_size].reshape(steps, batch_size)

    return batches


def identities(images: int = 4) -> EpochBatches:
    """P identities x K images a batch ("PK", Hermans et al. 2017, arXiv 1703.07737), for pair and triplet losses.

    K = ``images``, P = batch_size / K. Each identity is met equally often; where one has fewer than K images it is an
    error that names it. An epoch has as many batches as fit the number of items.
    """

    def batches(labels: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        if batch_size % images or batch_size == images:
            raise DataError(
                f"train.batch_size {batch_size} is not a multiple of {images} with at least two identities, "
                f"as sampler identities(images={images}) needs"
            )
        by_label = np.argsort(labels, kind="stable")
        names, starts, counts = np.unique(labels[by_label], return_index=True, return_counts=True)
        few = names[counts < images]
        if len(few):
            raise DataError(
                f"sampler identities needs {images} images of each identity; {len(few)} have fewer (classes "
                f"{some(few.tolist())}): lower images, or leave these identities out"
            )
        people = batch_size // images
        if people > len(names):
            raise DataError(f"a batch of {people} identities x {images} images, but there are {len(names)} identities")
        rng = _rng(seed, epoch)
        steps = max(1, len(labels) // batch_size)
        out = np.empty((steps, people, images), np.int64)
        queue = np.empty(0, np.int64)
        for step in range(steps):
            if len(queue) < people:
                # The next round starts with whoever is not waiting already: no identity twice in a batch.
                fresh = rng.permutation(len(names))
                queue = np.concatenate([queue, fresh[~np.isin(fresh, queue)], fresh[np.isin(fresh, queue)]])
            chosen, queue = queue[:people], queue[people:]
            for row, who in enumerate(chosen):
                picks = rng.choice(counts[who], images, replace=False)
                out[step, row] = by_label[starts[who] + picks]
        return out.reshape(steps, batch_size)

    return batches


SAMPLERS: Registry[Callable[..., EpochBatches]] = Registry("sampler", [shuffled, identities])
