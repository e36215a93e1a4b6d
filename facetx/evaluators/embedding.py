"""Embeddings of a whole data set, in its order.

Legend: N images, V views (the image, and its mirror), D dimensions of the embedding, B batch.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetx.data.base import FaceDataset
from facetx.errors import DataError, some
from facetx.evaluators.base import HERE, How, Model, backbone_of
from facetx.evaluators.reading import answered, evaluation_mode, forward_only, mirrored, read_batches, share_of
from facetx.nn.backbone import Backbone, embed_batch
from facetx.processes import total

Views = NDArray[np.float32]


def embed(
    model: Model, dataset: FaceDataset, how: How = HERE, *, indices: Sequence[int] | None = None, flip: bool = True
) -> Views:
    """What ``embed_views`` gives, by it or by what stands in for it (``How.embed``)."""
    return (how.embed or embed_views)(model, dataset, how, indices=indices, flip=flip)


def embed_dataset(model: Model, dataset: FaceDataset, how: How = HERE, *, flip: bool = True) -> Views:
    """Embeddings (N, D), not normalized. With ``flip``, those of the image and of its mirror are summed.

    Arguments and errors are those of ``embed_views``.
    """
    return embed(model, dataset, how, flip=flip).sum(axis=0)


def embed_views(
    model: Model, dataset: FaceDataset, how: How = HERE, *, indices: Sequence[int] | None = None, flip: bool = True
) -> Views:
    """Embeddings (V, N, D), not normalized, of each image and, with ``flip``, of its mirror.

    The backbone runs in evaluation mode and without gradients, and is left in the mode that it was in. The global
    random state is not touched. Where several processes train together, all call it, and each embeds its share.

    Args:
        model: A backbone, or a task, whose backbone is taken; on ``how.device``.
        dataset: Aligned faces of the contract's size.
        how: Device, batch size, workers and precision.
        indices: Items to embed, in this order; all by default.
        flip: Embed mirrors too.

    Raises ``DataError`` for an image that is not of the contract's size, or has no keypoints where the backbone needs
    them, or whose embedding is not finite.
    """
    backbone = backbone_of(model)
    wanted = np.arange(len(dataset)) if indices is None else np.asarray(indices, np.int64)
    out = np.zeros((2 if flip else 1, len(wanted), backbone.embedding_dim), np.float32)
    places, elsewhere = share_of(len(wanted), how.batch_size)
    for items, part in embed_batches(backbone, dataset, how, indices=wanted[places].tolist(), flip=flip):
        here, places = places[: len(items)], places[len(items) :]
        out[:, here] = part
    out[:, elsewhere] = 0
    return total(torch.from_numpy(out)).numpy()


def embed_batches(
    backbone: Backbone, dataset: FaceDataset, how: How, *, indices: Sequence[int] | None = None, flip: bool = True
) -> Iterator[tuple[list[int], Views]]:
    """``embed_views`` batch by batch: the items of each, and their embeddings (V, B, D)."""
    with evaluation_mode(backbone):
        for items, batch in read_batches(dataset, backbone, how, indices=indices):
            with forward_only(how):
                views = [_forward(backbone, view, how) for view in ([batch, mirrored(batch)] if flip else [batch])]
            part = np.stack(views)
            _check_finite(part, items, dataset)
            yield items, part


def _forward(backbone: Backbone, batch: Mapping[str, Tensor], how: How) -> Views:
    answer = answered(backbone, lambda seen: {"embedding": embed_batch(backbone, seen)}, batch, how)
    return answer["embedding"].float().cpu().numpy()


def _check_finite(part: Views, items: Sequence[int], dataset: FaceDataset) -> None:
    bad = np.flatnonzero(~np.isfinite(part).all(axis=(0, 2))).tolist()
    if bad:
        raise DataError(
            f"the model's embeddings of {len(bad)} images are NaN or infinite: "
            f"{some((dataset.describe(items[i]) for i in bad), show=3)}. Its weights are not finite, or overflow in "
            "bf16; take an earlier checkpoint, or look at the images if others embed well"
        )
