"""Embeddings of a whole data set, in its order.

Legend: N images, V views (the image, and its mirror), D dimensions of the embedding, B batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from facetx.contract import InputContract
from facetx.data.sample import KEYPOINTS_MIRRORED
from facetx.errors import DataError, own_words


class FaceDataset(Protocol):
    """What evaluators ask of a data set.

    Items are ``{"image": uint8 RGB (H, W, 3), "label": int}``, and ``"keypoints"``: float32 (5, 2) where it has them,
    x and y in 0..1 of both eyes, the nose, and both corners of the mouth, each pair left in the image first.
    """

    name: str
    labels: NDArray[np.int64]
    num_classes: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...

    def describe(self, index: int) -> str: ...


class Backbone(Protocol):
    """What evaluators ask of a backbone, an ``nn.Module`` from scaled images (B, 3, H, W) to embeddings (B, D)."""

    contract: InputContract
    embedding_dim: int

    @property
    def needs_keypoints(self) -> bool: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def eval(self) -> Any: ...

    def modules(self) -> Iterator[nn.Module]: ...


def embed_dataset(
    backbone: Backbone,
    dataset: FaceDataset,
    *,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    flip: bool = True,
    workers: int = 0,
    amp: bool = False,
) -> NDArray[np.float32]:
    """Embeddings (N, D), not normalized. With ``flip``, those of the image and of its mirror are summed.

    Arguments and errors are those of ``embed_views``.
    """
    views = embed_views(backbone, dataset, batch_size=batch_size, device=device, flip=flip, workers=workers, amp=amp)
    return views.sum(axis=0)


def embed_views(
    backbone: Backbone,
    dataset: FaceDataset,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 128,
    device: str | torch.device = "cpu",
    flip: bool = True,
    workers: int = 0,
    amp: bool = False,
) -> NDArray[np.float32]:
    """Embeddings (V, N, D), not normalized, of each image and, with ``flip``, of its mirror.

    The backbone runs in evaluation mode and without gradients, and is left in the mode that it was in. The global
    random state is not touched.

    Args:
        backbone: See ``Backbone``; lives on ``device``.
        dataset: See ``FaceDataset``.
        indices: Items to embed, in this order; all by default.
        batch_size: Images a forward pass.
        device: Where the batches go.
        flip: Embed mirrors too.
        workers: Processes that load images; 0 loads in this one.
        amp: bf16 autocast.

    Raises ``DataError`` for an image that is not of the contract's size, or has no keypoints where the backbone needs
    them.
    """
    order = list(range(len(dataset))) if indices is None else [int(i) for i in indices]
    loader: DataLoader[list[dict[str, Any]]] = DataLoader(
        dataset,  # type: ignore[arg-type]  # a Dataset by its methods, not by its base class
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="fork" if workers else None,
        generator=torch.Generator(),  # else the loader draws a seed from the global state, and training feels it
    )
    device = torch.device(device)
    out = np.empty((2 if flip else 1, len(order), backbone.embedding_dim), np.float32)
    start = 0
    with _evaluation_mode(backbone), torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
        for items in _plainly(loader):
            batch = order[start : start + len(items)]
            images = _images(items, batch, dataset, backbone.contract.size).to(device)
            points = _keypoints(items, batch, dataset).to(device) if backbone.needs_keypoints else None
            part = out[:, start : start + len(items)]
            part[0] = _forward(backbone, images, points)
            if flip:
                mirrored = None if points is None else mirror_keypoints(points)
                part[1] = _forward(backbone, images.flip(-1), mirrored)
            start += len(items)
    return out


def _plainly(loader: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """The batches; a worker's error in its own words."""
    try:
        yield from loader
    except DataError as error:
        raise DataError(own_words(error)) from None


def mirror_keypoints(points: Tensor) -> Tensor:
    """Keypoints (B, 5, 2) of the mirrored images: x becomes 1 - x, and left and right change names."""
    x, y = points[:, KEYPOINTS_MIRRORED].unbind(-1)
    return torch.stack([1 - x, y], dim=-1)


def _forward(backbone: Backbone, images: Tensor, points: Tensor | None) -> NDArray[np.float32]:
    x = backbone.contract(images)
    embeddings = backbone(x) if points is None else backbone(x, keypoints=points)
    return embeddings.float().cpu().numpy()


def _images(items: list[dict[str, Any]], indices: list[int], dataset: FaceDataset, size: int) -> Tensor:
    """uint8 (B, 3, size, size)."""
    for index, item in zip(indices, items):
        if item["image"].shape != (size, size, 3):
            height, width = item["image"].shape[:2]
            raise DataError(
                f"{dataset.describe(index)}: the image is {width}x{height}, and this model takes aligned faces of "
                f"{size}x{size} pixels; align the data to that size, or use a model built for image_size={width}"
            )
    return torch.from_numpy(np.stack([item["image"] for item in items])).permute(0, 3, 1, 2)  # B H W 3 -> B 3 H W


def _keypoints(items: list[dict[str, Any]], indices: list[int], dataset: FaceDataset) -> Tensor:
    """float32 (B, 5, 2)."""
    for index, item in zip(indices, items):
        if "keypoints" not in item:
            raise DataError(
                f"{dataset.describe(index)}: this model needs five keypoints, and none are known for this image; "
                "use data that has them, or a model without keypoints"
            )
    return torch.from_numpy(np.stack([item["keypoints"] for item in items]))


@contextmanager
def _evaluation_mode(backbone: Backbone) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module is in its own mode again (a frozen stem stays frozen)."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
