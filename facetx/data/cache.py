"""Decode once: a data set's fields kept as arrays in memory, which loader workers share."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetx.data.base import FaceDataset, Sample, Wrapped
from facetx.data.sample import FIELDS, check
from facetx.data.workers import check_shared_memory
from facetx.errors import DataError


class Cached(Wrapped):
    """Keeps each item of ``dataset`` after its first use, for all epochs and all loader workers.

    Two workers that meet at one item write the same bytes, so no lock is needed. Takes N * H * W * 3 bytes for the
    images. All values of a field must have the shape of the first item's that can be read.

    Args:
        dataset: What is read.
        fields: Which fields are kept, and given, beside image and label; all that the items have, unless given.
        shared: Whether processes that are forked later share the memory.

    Raises ``DataError`` where no item can be read, or the memory that processes share has too little room.
    """

    def __init__(self, dataset: FaceDataset, fields: frozenset[str] | None = None, shared: bool = True):
        super().__init__(dataset)
        first = self._first()
        check(first, lambda: self.name)
        kept = [name for name in FIELDS if name in first and name != "label" and (fields is None or name in fields)]
        shapes = {name: np.shape(first[name]) for name in {"image": None, **dict.fromkeys(kept)}}
        if shared:
            self._check_room(shapes)
        self._values = {name: self._empty(name, shape, shared) for name, shape in shapes.items()}
        self._filled = torch.zeros(len(self), dtype=torch.bool)
        if shared:
            self._filled.share_memory_()

    def _first(self) -> Sample:
        """The first item that can be read."""
        problem = ""
        for index in range(len(self)):
            try:
                return self.dataset[index]
            except DataError as error:
                problem = problem or str(error)
        raise DataError(f"{self.name}: no item can be read; the first: {problem}")

    def _empty(self, name: str, shape: tuple[int, ...], shared: bool) -> Tensor:
        empty = torch.from_numpy(np.empty((len(self), *shape), FIELDS[name].dtype))
        return empty.share_memory_() if shared else empty

    def _check_room(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raises ``DataError`` where the memory that processes share is too small for them all."""
        needed = sum(
            len(self) * int(np.prod(shape, dtype=np.int64)) * np.dtype(FIELDS[name].dtype).itemsize
            for name, shape in shapes.items()
        )
        instead = "set data.workers: 0 or data.cache: false, or pack the set (scripts/prepare_data.py pack)"
        check_shared_memory(needed, f"{self.name}: a cache takes", instead)

    def __getitem__(self, index: int) -> Sample:
        if not self._filled[index]:
            sample = self.dataset[index]
            for name, kept in self._values.items():
                shape, first = np.shape(sample.get(name, ())), tuple(kept.shape[1:])
                if shape != first:
                    raise DataError(
                        f"{self.describe(index)}: {name} is of shape {shape}, of the first item it is {first}; a "
                        "cache needs images of one size: align or resize the files, or "
                        f"set data.cache: false"
                    )
                kept[index] = torch.from_numpy(np.asarray(sample[name], FIELDS[name].dtype))
            self._filled[index] = True
        found = {name: values[index].numpy() for name, values in self._values.items()}
        return {**found, "label": int(self.labels[index])}

    def many(self, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]] | None:
        if not bool(self._filled[indices].all()):
            return None
        return {
            **{name: values.numpy()[indices] for name, values in self._values.items()},
            "label": self.labels[indices],
        }
