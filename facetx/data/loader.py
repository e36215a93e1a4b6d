"""Batches for training, from any step on.

Their order is a function of (seed, epoch), their augmentation of (seed, epoch, index). So nothing
of a loader needs saving. A resumed run starts its loader at its step and gets the bytes that the first run would have
had, with any number of workers.
"""

import signal
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facetx.data.samplers import EpochBatches
from facetx.data.transforms import Transform
from facetx.errors import DataError

Batch = dict[str, Any]
"""``image`` uint8 (B, 3, H, W), ``label`` int64 (B,), where known ``keypoints`` float32 (B, 5, 2), and
``unreadable``, a dictionary from the index of an item that could not be read to the reason."""


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Yields the (epoch, index) pairs of each batch from step ``start`` to ``stop``, across epochs."""

    def __init__(self, batches: EpochBatches, labels: np.ndarray, batch_size: int, seed: int, start: int, stop: int):
        self.batches, self.labels, self.batch_size, self.seed = batches, labels, batch_size, seed
        self.start, self.stop = start, stop
        self.steps_per_epoch = len(batches(labels, batch_size, seed, 0))

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.start
        while step < self.stop:
            epoch, done = divmod(step, self.steps_per_epoch)
            for batch in self.batches(self.labels, self.batch_size, self.seed, epoch)[done:][: self.stop - step]:
                yield [(epoch, int(index)) for index in batch]
                step += 1


class TrainingItems(Dataset[dict[str, Any]]):
    """The augmented items of ``dataset``, asked for by (epoch, index).

    An item that cannot be read is answered by the next readable one of its identity, and named under ``unreadable``:
    batches keep their size, and which item stands in is a function of the files alone.
    """

    def __init__(self, dataset: Any, transforms: Sequence[Transform], seed: int, image_size: int):
        self.dataset, self.transforms, self.seed, self.image_size = dataset, transforms, seed, image_size

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        item, unreadable = self._read(index)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, epoch, index))))
        for transform in self.transforms:
            item = transform(item, rng)
        h, w = item["image"].shape[:2]
        if (h, w) != (self.image_size, self.image_size):
            raise DataError(
                f"{describe(self.dataset, index)}: {w}x{h} pixels, but the model takes "
                f"{self.image_size}x{self.image_size}; align the faces, set model.args.image_size, or add the "
                f"transform {{name: resize, args: {{size: {self.image_size}}}}}"
            )
        return {**item, "unreadable": unreadable}

    def _read(self, index: int) -> tuple[dict[str, Any], dict[int, str]]:
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


def describe(dataset: Any, index: int) -> str:
    """Where an item comes from: its file where it has one."""
    return dataset.describe(index) if hasattr(dataset, "describe") else f"{dataset.name}, item {index}"


def to_chw(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def collate(items: list[dict[str, Any]]) -> Batch:
    """Items -> one batch."""
    batch: Batch = {
        "image": torch.stack([to_chw(item["image"]) for item in items]),
        "label": torch.tensor([item["label"] for item in items]),
        "unreadable": {k: v for item in items for k, v in item["unreadable"].items()},
    }
    if "keypoints" in items[0]:
        batch["keypoints"] = torch.from_numpy(np.stack([item["keypoints"] for item in items]).astype(np.float32))
    return batch


def training_loader(items: TrainingItems, sampler: StepSampler, workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """The batches of ``sampler``, read by ``workers`` processes (0: in this one)."""
    return DataLoader(
        items,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_leave_signals_to_the_main_process,
    )


def batches_of(loader: DataLoader[Batch]) -> Generator[Batch, None, None]:
    """The loader's batches; its workers end with the iteration, also where an error or a ``close`` ends it."""
    iterator = iter(loader)
    try:
        yield from iterator
    finally:
        if loader.num_workers:
            # Else they live until the error that names the culprit is collected, and die noisily at exit.
            iterator._shutdown_workers()  # type: ignore[attr-defined]


def _leave_signals_to_the_main_process(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the trainer still needs its workers to end the step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
