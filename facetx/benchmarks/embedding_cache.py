"""Embeddings computed once: the same weights on the same images give them from a file the next time."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facetx.benchmarks.receipts import content_digests, network_digest, weights_digest
from facetx.data.base import FaceDataset
from facetx.errors import is_resource
from facetx.evaluators.base import HERE, How, Model, backbone_of
from facetx.evaluators.embedding import embed_views
from facetx.files import draft_file, lock, open_file, read_file, write_json
from facetx.nn.backbone import Backbone


class EmbeddingCache:
    """Stands in for ``embed_views`` and keeps what it gives: ``<hash>.npy``, and the key in words, ``<hash>.json``.

    The key holds all that the embeddings hang on: weights, the network's parts and their settings, the model's
    contract, the images' bytes in their order, their keypoints where the model takes them, the size that they are
    resized to, mirrors, precision, and the kind of device. Its file has the embeddings' hash, too; where that does not
    agree, or the first image, which is embedded each time, comes out otherwise, all are computed anew.

    Args:
        folder: Where the files lie; made where it is missing. It may be deleted at any time.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __call__(
        self,
        model: Model,
        dataset: FaceDataset,
        how: How = HERE,
        *,
        indices: Sequence[int] | None = None,
        flip: bool = True,
    ) -> NDArray[np.float32]:
        """Embeddings (V, N, D) float32; arguments, result and errors are those of ``embed_views``.

        Raises ``DataError`` that names the process where another computes the same ones.
        """
        backbone = backbone_of(model)
        order = list(range(len(dataset))) if indices is None else [int(i) for i in indices]
        key = self.key(backbone, dataset, order, torch.device(how.device).type, flip, how.amp)
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name}.npy"
        shape = (2 if flip else 1, len(order), backbone.embedding_dim)
        beside = path.with_suffix(".json")
        kept = _load(path, shape)
        if kept is not None:
            first = embed_views(backbone, dataset, replace(how, workers=0), indices=order[:1], flip=flip)
            if _agree(kept[:, :1], first, 0.02 if how.amp else 1e-3):
                return kept
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(path, beside):
            views = embed_views(backbone, dataset, how, indices=order, flip=flip)
            write_json(beside, {"data": dataset.name, **key, "embeddings": _digest(views)})
            with draft_file(path) as file:
                np.save(file, views, allow_pickle=False)
        return views

    @staticmethod
    def key(
        backbone: Backbone, dataset: FaceDataset, indices: Sequence[int], device: str, flip: bool, amp: bool
    ) -> dict[str, Any]:
        """What the embeddings hang on, as plain values. Reads each image file once."""
        images, points = hashlib.sha256(), hashlib.sha256()
        digests = content_digests(dataset, indices)
        for i in indices:
            images.update(digests[i].encode())
            if backbone.needs_keypoints:
                points.update(np.asarray(dataset[i]["keypoints"], "<f4").tobytes())
        return {
            "weights": weights_digest(backbone),
            "network": network_digest(backbone),
            "input": backbone.contract.as_dict(),
            "images": images.hexdigest(),
            "count": len(indices),
            "resized_to": dataset.size,
            "keypoints": points.hexdigest() if backbone.needs_keypoints else None,
            "flip": flip,
            "precision": "bf16" if amp else "fp32",
            "device": device,
        }


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        with open_file(path) as file:
            views = np.load(file, allow_pickle=False)
        written = json.loads(read_file(path.with_suffix(".json")))["embeddings"]
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        if is_resource(error):
            raise
        return None
    whole = views.shape == shape and views.dtype == np.float32 and _digest(views) == written
    return views if whole else None


def _digest(views: NDArray[np.float32]) -> str:
    return hashlib.sha256(views.tobytes()).hexdigest()


def _agree(kept: NDArray[np.float32], now: NDArray[np.float32], tolerance: float) -> bool:
    """Whether two embeddings (V, 1, D) are one but for the rounding of another batch size."""
    return float(np.linalg.norm(kept - now)) <= tolerance * float(np.linalg.norm(now))
