"""Whether an exported file computes what PyTorch does, on noise and on faces."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetx.checkpoints.exported import Facts
from facetx.data.base import FaceDataset
from facetx.data.sample import collate
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError, ExportError
from facetx.exporting.graph import Graph

BATCHES = (1, 2, 7)
LIMIT = 1e-4
"""Of the largest difference of an output from PyTorch's, as a share of the largest value in it."""

Inputs = tuple[Tensor, ...]
Run = Callable[[Inputs], Mapping[str, NDArray[np.float32]]]


def examples(facts: Facts, more: Iterable[Inputs] = ()) -> Iterator[Inputs]:
    """Batches of 1, 2 and 7 of noise over all values and of drawn faces, then ``more``."""
    size = facts.input.size
    draw = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=draw)
        yield (images, torch.rand(batch, 5, 2, generator=draw)) if facts.keypoints else (images,)
    yield from first_images(SyntheticFaces(identities=max(BATCHES), images_per_identity=1, size=size), facts)
    yield from more


def first_images(dataset: FaceDataset, facts: Facts) -> list[Inputs]:
    """Batches of 1, 2 and 7 of a data set's first images, as far as it has so many. Raises as ``inputs_of`` does."""
    return [inputs_of(dataset, range(batch), facts) for batch in BATCHES if batch <= len(dataset)]


def inputs_of(dataset: FaceDataset, places: Sequence[int], facts: Facts) -> Inputs:
    """Items of a data set as inputs. Raises ``DataError`` for an image of another size, or without needed keypoints."""
    size = facts.input.size
    samples = [dict(dataset[i]) for i in places]
    for i, sample in zip(places, samples):
        height, width, _ = sample["image"].shape
        if (height, width) != (size, size):
            raise DataError(
                f"{dataset.describe(i)}: {width}x{height} pixels, and the model takes {size}x{size}; give the data set "
                f"size={size}"
            )
        if facts.keypoints and "keypoints" not in sample:
            raise DataError(f"{dataset.describe(i)}: has no keypoints, which this model needs; use data that has")
    batch = collate([{name: s[name] for name in ("image", "label", "keypoints") if name in s} for s in samples])
    return (batch["image"], batch["keypoints"]) if facts.keypoints else (batch["image"],)


def difference(graph: Graph, run: Run, inputs: Iterator[Inputs], what: str, limit: float = LIMIT) -> float:
    """The largest difference of ``run`` from the graph, as ``LIMIT`` says.

    Raises ``ExportError`` where it is above ``limit``, or a value is not finite, or the outputs are others.
    """
    worst = 0.0
    for given in inputs:
        with torch.no_grad():
            wanted = {name: value.numpy() for name, value in graph(*given).items()}
        batch = len(given[0])
        try:
            found = run(given)
        except Exception as error:
            raise ExportError(
                f"{what}: does not run at batch {batch} ({str(error)[:300]}); nothing was kept"
            ) from error
        if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in wanted.items()}:
            raise ExportError(f"{what}: gives outputs of other shapes than PyTorch at batch {batch}; nothing was kept")
        for name, value in wanted.items():
            if not np.isfinite(value).all():
                raise ExportError(f"output {name!r} is not finite in PyTorch itself; take an earlier checkpoint")
            off = float(np.abs(found[name] - value).max()) / max(float(np.abs(value).max()), 1e-12)
            if not off <= limit:
                raise ExportError(
                    f"{what}: output {name!r} differs from PyTorch's by {off:.2g} of its largest value at batch "
                    f"{batch}, and {limit:g} is allowed; nothing was kept. Do branches of the network hang on its "
                    "values, or on the size of the batch?"
                )
            worst = max(worst, off)
    return worst
