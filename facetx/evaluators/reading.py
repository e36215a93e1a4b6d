"""A data set in batches for a model that is not trained: in order, each image once, checked against the model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from facetx import processes
from facetx.data.base import FaceDataset, Sample
from facetx.data.sample import FIELDS, IGNORED, KEYPOINTS_MIRRORED, Map, move_image
from facetx.data.workers import Shared, batches_of, read_by
from facetx.errors import DataError, own_words
from facetx.evaluators.base import How
from facetx.nn.backbone import Backbone
from facetx.nn.compiled import is_compiled
from facetx.progress import progress
from facetx.tasks.base import Batch

MISSING = {
    "keypoints": "this model needs five keypoints, and none are known for this image; use data that has them, or a "
    "model without keypoints"
}
CPU_IMAGES = 16
"""At a time on a CPU: a MobileFaceNet takes a third of the time that 128 images at once take, a ViT four fifths."""
AHEAD = 2
"""Batches that each worker has ready."""
UNKNOWN = "the field {!r} is asked for, and this image has none; use data that has it"


def read_batches(
    dataset: FaceDataset,
    backbone: Backbone,
    how: How,
    *,
    indices: Sequence[int] | None = None,
    fields: frozenset[str] = frozenset(),
    resize: bool = False,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """The items of each batch and their fields, on the device: ``image`` uint8 (B, 3, H, W), and others (B, ...).

    With ``resize`` images of any shape become the model's squares, and masks keep their own sizes: ``mask`` is as large
    as the largest of the batch, the others filled up with ``IGNORED`` to the right and below, and ``mask_size`` (B, 2)
    has their heights and widths.

    Long work shows its progress. The global random state is not touched.

    Args:
        dataset: What is read.
        backbone: Its contract says the size of the images, and it whether keypoints are read.
        how: Device, batch size and workers.
        indices: Items, in this order; all by default.
        fields: What is read beside the images.
        resize: Images may be of any size.

    Raises ``DataError`` for an image that is not of the contract's size, or lacks a field.
    """
    order = list(range(len(dataset))) if indices is None else [int(i) for i in indices]
    wanted = {"image", *fields} | ({"keypoints"} if backbone.needs_keypoints else set())
    device, size = torch.device(how.device), backbone.contract.size
    masks = 0 if "mask" not in wanted else _first_mask(dataset, order) if resize else size**2
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        _Numbered(dataset),  # type: ignore[arg-type]  # its items are of another type than the batches
        batch_size=how.batch_size,
        sampler=order,
        collate_fn=Shared(_Stack(dataset, sorted(wanted), size, resize)),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else the loader draws a seed from the global state, and training feels it
        **read_by(how.workers, AHEAD, how.batch_size * (3 * size**2 + masks)),
    )
    start = 0
    try:
        with closing(batches_of(loader)) as batches, progress(len(order), dataset.name) as advance:
            for batch in batches:
                items = order[start : start + len(batch["image"])]
                # Contiguous, as training has them: a compiled network would be compiled anew for other strides.
                yield items, {name: field.to(device, non_blocking=True).contiguous() for name, field in batch.items()}
                start += len(items)
                advance(len(items))
    except DataError as error:  # of a worker, which puts a traceback before it
        raise DataError(own_words(error)) from None


def share_of(items: int, batch_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of what this process asks about, of several that share the items; and those of them that are
    another one's, too.

    Batches are dealt in turn. All ask as often, as a network that is split over them needs: some the first once more.
    """
    batches = [np.arange(first, min(first + batch_size, items)) for first in range(0, items, batch_size)]
    missing = -len(batches) % processes.count()
    mine = [*batches, *batches[:1] * missing][processes.rank() :: processes.count()]
    again = missing and processes.rank() >= processes.count() - missing
    return np.concatenate([*mine, np.empty(0, np.int64)]), batches[0] if again else np.empty(0, np.int64)


def answered(
    model: nn.Module, ask: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], batch: Mapping[str, Tensor], how: How
) -> dict[str, Tensor]:
    """What ``ask`` says of a batch (B, ...), name by name (B, ...).

    A compiled model knows one size and would be compiled anew for the last batch of a data set. So that one is filled
    up with its last item to ``how.batch_size``, and what is said of these is left out. A CPU is asked for some images
    at a time, whose activations its caches hold; not where several processes must ask equally often.
    """
    count = len(batch["image"])
    if is_compiled(model):
        more = how.batch_size - count
        filled = {name: torch.cat([field, field[-1:].expand(more, *field.shape[1:])]) for name, field in batch.items()}
        return {name: output[:count] for name, output in ask(filled if more else batch).items()}
    if batch["image"].device.type != "cpu" or count <= CPU_IMAGES or processes.count() > 1:
        return ask(batch)
    parts = zip(*(field.split(CPU_IMAGES) for field in batch.values()))
    answers = [ask(dict(zip(batch, part))) for part in parts]
    return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}


def mirrored(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch's images and keypoints in the mirror."""
    other = {"image": batch["image"].flip(-1)}
    if "keypoints" in batch:
        other["keypoints"] = mirror_keypoints(batch["keypoints"])
    return other


def mirror_keypoints(points: Tensor) -> Tensor:
    """Keypoints (B, 5, 2) of the mirrored images: x becomes 1 - x, and left and right change names."""
    x, y = points[:, KEYPOINTS_MIRRORED].unbind(-1)
    return torch.stack([1 - x, y], dim=-1)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module is in its own mode again (a frozen stem stays frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def forward_only(how: How) -> Iterator[None]:
    """Inside, no gradients are kept, and where ``how`` says so matrices are multiplied in bf16."""
    device = torch.device(how.device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=how.amp):
        yield


class _Numbered(Dataset[tuple[int, Sample]]):
    """Items with their numbers."""

    def __init__(self, dataset: FaceDataset):
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Sample]:
        return index, self.dataset[index]


def _first_mask(dataset: FaceDataset, order: Sequence[int]) -> int:
    """Pixels of the first mask; 0 where there is none."""
    return int(np.size(dataset[order[0]].get("mask", ()))) if order else 0


class _Stack:
    """Items to a batch of the wanted fields; of one size, unless they are resized."""

    def __init__(self, dataset: FaceDataset, fields: Sequence[str], size: int, resize: bool = False):
        self.dataset, self.fields, self.size, self.resize = dataset, fields, size, resize

    def __call__(self, items: list[tuple[int, Sample]]) -> Batch:
        if self.resize:
            items = [(index, {**item, "image": _resized(item["image"], self.size)}) for index, item in items]
        for index, item in items:
            self._check(index, item)
        fields = (name for name in self.fields if not (name == "mask" and self.resize))
        batch = {name: FIELDS[name].batch([item[name] for _, item in items]) for name in fields}
        if self.resize and "mask" in self.fields:
            batch |= _padded([np.asarray(item["mask"]) for _, item in items])
        return batch

    def _check(self, index: int, item: Sample) -> None:
        height, width = item["image"].shape[:2]
        if (height, width) != (self.size, self.size):
            raise DataError(
                f"{self.dataset.describe(index)}: the image is {width}x{height}, and this model takes aligned faces of "
                f"{self.size}x{self.size} pixels; align the data to that size, or use a model built for "
                f"image_size={width}"
            )
        for name in self.fields:
            if name not in item:
                raise DataError(f"{self.dataset.describe(index)}: {MISSING.get(name, UNKNOWN.format(name))}")


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    old = image.shape[0], image.shape[1]
    return image if old == (size, size) else move_image(image, Map.resize(old, (size, size)))


def _padded(masks: list[NDArray[np.uint8]]) -> dict[str, Tensor]:
    sizes = np.array([mask.shape for mask in masks])
    out = np.full((len(masks), *sizes.max(axis=0)), IGNORED, np.uint8)
    for place, mask in zip(out, masks):
        place[: mask.shape[0], : mask.shape[1]] = mask
    return {"mask": torch.from_numpy(out), "mask_size": torch.from_numpy(sizes)}
