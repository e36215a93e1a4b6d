"""Batches for training, from any step on.

Their order is a function of (seed, epoch), their augmentation of (seed, epoch, index). So nothing
of a loader needs saving. A resumed run starts its loader at its step and gets the bytes that the first run would have
had, with any number of workers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facetx.data.base import FaceDataset, Sample
from facetx.data.sample import Sides, check, collate
from facetx.data.samplers import BatchOrder, Ints
from facetx.data.transforms import Size, Transform
from facetx.data.workers import Shared, read_by
from facetx.errors import DataError

Batch = dict[str, Any]
"""Field name -> tensor, as ``facetx.data.sample.FIELDS`` says, and ``unreadable``, a dictionary from the index of an
item that could not be read to the reason."""
ALWAYS = frozenset({"image", "label"})
AHEAD = 4
"""Batches that each worker has ready."""


class Batches(Sampler[list[tuple[int, int]]], ABC):
    """The (epoch, index) pairs of each batch, or of one process's part of it.

    Attributes:
        size: Pairs a batch.
    """

    size: int

    @abstractmethod
    def __len__(self) -> int: ...


class StepSampler(Batches):
    """Yields the (epoch, index) pairs of each batch from step ``start`` to ``stop``, across epochs."""

    def __init__(self, order: BatchOrder, labels: Ints, batch_size: int, seed: int, start: int, stop: int):
        self.order, self.labels, self.size, self.seed = order, labels, batch_size, seed
        self.start, self.stop = start, stop
        self.steps_per_epoch = order.steps(labels, batch_size)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch, indices in self.drawn():
            yield [(epoch, index) for index in indices.tolist()]

    def drawn(self) -> Iterator[tuple[int, Ints]]:
        """The epoch and the item indices (B,) of each batch."""
        step = self.start
        while step < self.stop:
            epoch, done = divmod(step, self.steps_per_epoch)
            batches = self.order.epoch(self.labels, self.size, self.seed, epoch)
            for batch in islice(batches, done, done + self.stop - step):
                yield epoch, batch
                step += 1


class TrainingItems(Dataset[Sample]):
    """The augmented items of ``dataset``, asked for by (epoch, index).

    An item that cannot be read is answered by the next readable one of its identity, and named under ``unreadable``:
    batches keep their size, and which item stands in is a function of the files alone.

    Args:
        dataset: What is trained on.
        transforms: Augmentations, in order.
        seed: Of all that is random about them.
        image_size: Pixels a side that the model takes.
        fields: What the task reads beside image, label and place; all that the data has, unless given.
        draw_only: Items come as they are, with the numbers of their augmentations, and ``finished`` makes these for a
            whole batch, on the device where it lies.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        transforms: Sequence[Transform],
        seed: int,
        image_size: int,
        fields: frozenset[str] | None = None,
        draw_only: bool = False,
    ):
        self.draw_only = draw_only
        self.dataset, self.transforms, self.seed, self.image_size = dataset, transforms, seed, image_size
        self.fields = None if fields is None else fields | ALWAYS
        self.sides = Sides.of(dataset.description())

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        _, index = key
        sample, unreadable = self._read(index)
        check(sample, lambda: self.dataset.describe(index))
        if self.fields is not None:
            sample = {name: value for name, value in sample.items() if name in self.fields}
        size = sample["image"].shape[:2]
        if self.draw_only:
            sample = {**sample, "augmentation": self._drawn(key, size)}
            for transform in self.transforms:
                size = transform.gives(size)
        elif self.transforms:
            rng = self._rng(key)
            for transform in self.transforms:
                sample = transform(sample, rng, self.sides)
            size = sample["image"].shape[:2]
        self._check_size(index, size)
        return {**sample, "place": key, "unreadable": unreadable}

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[Sample] | dict[str, Any]:
        """The items of a batch: read at once, as fields (B, ...), where the data set can, and nothing is made here."""
        found = None
        if self.draw_only or not self.transforms:
            with suppress(DataError):  # each item then says what is wrong with it
                found = self.dataset.many(np.array(keys)[:, 1])
        if found is None:
            return [self[key] for key in keys]
        if self.fields is not None:
            found = {name: values for name, values in found.items() if name in self.fields}
        size = found["image"].shape[1:3]
        if self.draw_only:
            found["augmentation"] = np.stack([self._drawn(key, size) for key in keys])
            for transform in self.transforms:
                size = transform.gives(size)
        self._check_size(keys[0][1], size)
        return {**found, "place": np.array(keys), "unreadable": {}}

    def _rng(self, key: tuple[int, int]) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, *key))))

    def _drawn(self, key: tuple[int, int], size: Size) -> NDArray[np.float32]:
        """The numbers of all augmentations of an item of this size."""
        rng, numbers = self._rng(key), [np.zeros(0, np.float32)]
        for transform in self.transforms:
            numbers.append(transform.numbers(size, rng))
            size = transform.gives(size)
        return np.concatenate(numbers)

    def _check_size(self, index: int, size: Size) -> None:
        if size != (self.image_size, self.image_size):
            raise DataError(
                f"{self.dataset.describe(index)}: {size[1]}x{size[0]} pixels, but the model takes "
                f"{self.image_size}x{self.image_size}; align the faces, set model.args.image_size, or add the "
                f"transform {{name: resize, args: {{size: {self.image_size}}}}}"
            )

    def finished(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors of a batch, each laid out in a row, its augmentations made where they are yet to be made."""
        out = {name: field.contiguous() for name, field in batch.items() if isinstance(field, Tensor)}
        numbers = out.pop("augmentation", None)
        if numbers is None:
            return out
        for transform, its in zip(self.transforms, numbers.split(self.widths, dim=1)):
            out = transform.of_batch(out, its, self.sides)
        return out

    @cached_property
    def widths(self) -> list[int]:
        """How many numbers each transform draws of an image. Raises ``ConfigError`` where one knows no batches."""
        size, rng = (self.image_size, self.image_size), np.random.default_rng(0)
        return [len(transform.numbers(size, rng)) for transform in self.transforms]

    @property
    def nbytes(self) -> int:
        """Of an item, about: its pixels."""
        masks = bool(self.dataset.mask_classes) and (self.fields is None or "mask" in self.fields)
        return (3 + masks) * self.image_size**2

    def _read(self, index: int) -> tuple[Sample, dict[int, str]]:
        try:
            return self.dataset[index], {}
        except DataError as error:
            unreadable = {index: str(error)}
        same = np.flatnonzero(self.dataset.labels == self.dataset.labels[index])
        for candidate in np.roll(same, -int(np.searchsorted(same, index)))[1:].tolist():
            try:
                return self.dataset[candidate], unreadable
            except DataError as error:
                unreadable[candidate] = str(error)
        raise DataError(f"identity {self.dataset.labels[index]} has no readable image: {unreadable[index]}")


def training_loader(items: TrainingItems, sampler: Batches, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """The batches of ``sampler``, read by ``workers`` processes (0: in this one).

    Raises ``DataError`` where the memory that processes share has no room for them.
    """
    return DataLoader(
        items,
        batch_sampler=sampler,
        collate_fn=Shared(collate),
        pin_memory=pin_memory,
        **read_by(workers, AHEAD, sampler.size * items.nbytes),
    )
