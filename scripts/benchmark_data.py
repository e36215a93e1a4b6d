"""``scripts/benchmark.py data``: what a loader gives of drawn faces, of files, and of the same files packed."""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark_tools import machine, note

from facetx.data import DATASETS, TRANSFORMS, FaceDataset
from facetx.data.loader import StepSampler, TrainingItems, training_loader
from facetx.data.samplers import Shuffled
from facetx.data.sets.packed import PackWriter
from facetx.data.workers import batches_of

AUGMENTED = ("flip", "affine", "color_jitter")


def measure(args: argparse.Namespace) -> None:
    """A row for each set and number of workers, as it comes.

    Memory is the proportional set size of this process and its workers: a page that several share counts once in all.
    A packed set is measured with augmentation on the device, too: workers then draw numbers alone.
    """
    print(f"batch {args.batch}, {machine('cpu')}")
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset, on_device in _sets(args.root, Path(folder)):
            for workers in args.workers:
                rate, memory, size = _measured(dataset, args.batch, args.steps, workers, on_device)
                print(f"{name:24}{workers} workers{rate:12,.0f} images/s of {size}x{size}{memory / 2**20:9,.0f} MiB",
                      flush=True)  # fmt: skip
                note(f"{name}, {workers} workers", f"batch {args.batch}, {size}x{size}", "cpu",
                     images_per_second=rate, memory_mib=memory / 2**20)  # fmt: skip


def _sets(root: str | None, folder: Path) -> Iterator[tuple[str, FaceDataset, bool]]:
    drawn = DATASETS.create("synthetic_faces", identities=50, images_per_identity=20)
    yield "synthetic_faces", drawn, False
    if root:
        files = DATASETS.create("image_folder", root=root)
        yield "image_folder", files, False
        _pack(files, folder / "packed")
        packed = DATASETS.create("packed", path=str(folder / "packed"))
        yield "packed", packed, False
        yield "packed, numbers drawn", packed, True


def _pack(files: FaceDataset, folder: Path) -> None:
    first = files[0]["image"].shape
    writer = PackWriter(folder, first[:2], "a benchmark")
    for index in range(len(files)):
        item = files[index]
        writer.add(files.key(index), item["label"], item["image"])
    writer.finish(list(files.identities))


def _measured(dataset: FaceDataset, batch: int, steps: int, workers: int, on_device: bool) -> tuple[float, int, int]:
    """Images a second, bytes of memory of all processes, and the images' side."""
    size = dataset[0]["image"].shape[0]
    changes = [TRANSFORMS.create(name) for name in AUGMENTED] if on_device else []
    items = TrainingItems(dataset, changes, 0, size, draw_only=on_device)
    sampler = StepSampler(Shuffled(), dataset.labels, batch, 0, 0, steps + 1)
    memory = 0
    for n, _ in enumerate(batches_of(training_loader(items, sampler, workers, pin_memory=False))):
        if n == 0:  # workers have started
            start = time.perf_counter()
        elif n == steps:
            rate = steps * batch / (time.perf_counter() - start)
            memory = sum(proportional_bytes(p) for p in ["self", *_children()])
    return rate, memory, size


def _children() -> list[str]:
    place = Path(f"/proc/self/task/{os.getpid()}/children")
    return place.read_text().split() if place.exists() else []


def proportional_bytes(process: str) -> int:
    """The proportional set size of a process (Linux); 0 where that cannot be read."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found: Mapping[str, Any] = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Pss:")}
    return int(found.get("Pss", 0)) * 1024
