"""Embeddings computed once: the same weights on the same images give them from a file the next time."""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facetx.evaluators.embedding import FaceDataset, embed_views
from facetx.evaluators.receipt import content_digest, weights_digest


class EmbeddingCache:
    """Stands in for ``embed_views`` and keeps what it gives: ``<hash>.npy``, and the key in words, ``<hash>.json``.

    The key holds all that the embeddings hang on: weights, the model's contract, the images' bytes in their order,
    their keypoints where the model takes them, the size that they are resized to, mirrors, precision, and the kind of
    device. The same weights in another network (another scale of the attention, say) are told by the first image, which
    is embedded each time. A file that does not agree with it, is cut off, or has another shape is computed anew.

    Args:
        folder: Where the files lie; made where it is missing. It may be deleted at any time.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __call__(
        self,
        backbone: Any,
        dataset: FaceDataset,
        *,
        indices: Sequence[int] | None = None,
        batch_size: int = 128,
        device: str | torch.device = "cpu",
        flip: bool = True,
        workers: int = 0,
        amp: bool = False,
    ) -> NDArray[np.float32]:
        """Embeddings (V, N, D) float32; arguments, result and errors are those of ``embed_views``."""
        order = list(range(len(dataset))) if indices is None else [int(i) for i in indices]
        key = self.key(backbone, dataset, order, torch.device(device).type, flip, amp)
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name}.npy"
        shape = (2 if flip else 1, len(order), backbone.embedding_dim)
        compute = partial(embed_views, backbone, dataset, device=device, flip=flip, amp=amp)
        kept = _load(path, shape)
        if kept is not None and _agree(kept[:, :1], compute(indices=order[:1])):
            return kept
        views = compute(indices=order, batch_size=batch_size, workers=workers)
        self.folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(
            json.dumps({"data": dataset.name, **key}, indent=1) + "\n", encoding="utf-8"
        )
        draft = path.with_suffix(f".{os.getpid()}.part")
        with draft.open("wb") as file:
            np.save(file, views, allow_pickle=False)
        draft.replace(path)
        return views

    @staticmethod
    def key(
        backbone: Any, dataset: FaceDataset, indices: Sequence[int], device: str, flip: bool, amp: bool
    ) -> dict[str, Any]:
        """What the embeddings hang on, as plain values. Reads each image file once."""
        images, points = hashlib.sha256(), hashlib.sha256()
        for i in indices:
            images.update(content_digest(dataset, i).encode())
            if backbone.needs_keypoints:
                points.update(np.asarray(dataset[i]["keypoints"], "<f4").tobytes())
        return {
            "weights": weights_digest(backbone),
            "input": backbone.contract.as_dict(),
            "images": images.hexdigest(),
            "count": len(indices),
            "resized_to": getattr(dataset, "size", None),
            "keypoints": points.hexdigest() if backbone.needs_keypoints else None,
            "flip": flip,
            "precision": "bf16" if amp else "fp32",
            "device": device,
        }


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        views = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return views if views.shape == shape and views.dtype == np.float32 else None


def _agree(kept: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Whether two embeddings (V, 1, D) are one but for the rounding of another batch size, bf16's too."""
    return float(np.linalg.norm(kept - now)) <= 0.02 * float(np.linalg.norm(now))
