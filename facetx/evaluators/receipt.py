"""What a result was measured with and on, by hashes: two results may be compared where these agree.

Legend: N pairs, M distinct images.
"""

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import facetx
from facetx.evaluators.embedding import FaceDataset
from facetx.evaluators.verification import DEFINITIONS, THRESHOLDS, PairVerification

NORM = "the views' embeddings are summed, then scaled to length 1"


@dataclass(frozen=True)
class Receipt:
    """How one result of verification came about. Hashes are SHA-256, in hexadecimal.

    Attributes:
        weights: Of the backbone's state dict: names, types, shapes and bytes, in the order of the names.
        images: Of the bytes of the image files that the pairs use, in the order in which the pairs first use them. So
            a folder and a ``.bin`` of the same files agree.
        pairs: Of which images meet, the labels and the folds. Images count by that order and not by their names or
            content: the same protocol on re-aligned images has the same hash.
        keypoints: Of the keypoints of these images in that order, where the model takes keypoints.
        flip: Whether mirrors were used.
        norm: How embeddings become unit vectors.
        thresholds: How the folds' thresholds are chosen, "grid" or "exact".
        input: The model's contract: size, colour order, mean, std, alignment.
        definitions: In words, of every number.
        precision: "fp32" or "bf16".
        versions: Of facetx, torch, numpy and Python.
        seed: Of the training, where known.
    """

    weights: str
    images: str
    pairs: str
    keypoints: str | None
    flip: bool
    norm: str
    thresholds: str
    input: dict[str, Any]
    definitions: dict[str, str]
    precision: str
    versions: dict[str, str]
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Receipt(**d)`` takes them back."""
        return asdict(self)


def make_receipt(evaluator: PairVerification, backbone: Any, amp: bool = False, seed: int | None = None) -> Receipt:
    """The receipt of ``evaluator.result(backbone, amp=amp)``; reads each image file of the pairs once.

    Args:
        evaluator: The benchmark.
        backbone: The model.
        amp: Whether it runs in bf16.
        seed: Of its training, where known.
    """
    dataset = evaluator.dataset
    used, place = np.unique(np.stack([evaluator.first, evaluator.second], axis=1), return_inverse=True)  # (M,), (2N,)
    digests = [content_digest(dataset, int(i)) for i in used]
    content = np.unique(digests, return_inverse=True)[1]  # equal files are one image
    number, order = _by_first_use(content[place.ravel()])
    first_use = used[place.ravel()[order]]
    keypoints = [dataset[int(i)]["keypoints"] for i in first_use] if backbone.needs_keypoints else None
    folds = np.unique(evaluator.fold, return_inverse=True)[1]
    return Receipt(
        weights=weights_digest(backbone),
        images=_sha256(digests[i].encode() for i in place.ravel()[order]),
        pairs=_sha256(_bytes(a, kind) for a, kind in ((number, "<i8"), (evaluator.same, "|b1"), (folds, "<i8"))),
        keypoints=None if keypoints is None else _sha256(_bytes(points, "<f4") for points in keypoints),
        flip=evaluator.flip,
        norm=NORM,
        thresholds=evaluator.thresholds,
        input={k: list(v) if isinstance(v, tuple) else v for k, v in backbone.contract.as_dict().items()},  # as in JSON
        definitions={**DEFINITIONS, "thresholds": THRESHOLDS[evaluator.thresholds]},
        precision="bf16" if amp else "fp32",
        versions={
            "facetx": facetx.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        seed=seed,
    )


def weights_digest(backbone: Any) -> str:
    """SHA-256 of a module's state dict: names, types, shapes and bytes, in the order of the names."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        raw = tensor.detach().cpu().contiguous()
        hasher.update(f"{name} {raw.dtype} {tuple(raw.shape)}\n".encode())
        hasher.update(raw.reshape(-1).view(torch.uint8).numpy())  # any type, bf16 too
    return hasher.hexdigest()


def content_digest(dataset: FaceDataset, index: int) -> str:
    """SHA-256 of an item's image file; of its shape and pixels where the data set has no files."""
    if hasattr(dataset, "encoded"):
        return hashlib.sha256(dataset.encoded(index)).hexdigest()
    image = dataset[index]["image"]
    return _sha256([str(image.shape).encode(), _bytes(image, "|u1")])


def _by_first_use(items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items numbered anew, 0, 1, ... as they first appear; and where each first appears."""
    _, first, inverse = np.unique(items, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse], first[order]


def _bytes(array: Any, kind: str) -> bytes:
    return np.ascontiguousarray(array, dtype=kind).tobytes()


def _sha256(parts: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()
