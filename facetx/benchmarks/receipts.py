"""What a result was measured with and on, by hashes: two results may be compared where these agree."""

import hashlib
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import facetx
from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import Evaluator, Model, backbone_of
from facetx.nn.backbone import Backbone
from facetx.nn.meta import computation, state_digest
from facetx.progress import progress
from facetx.tasks import Task


@dataclass(frozen=True)
class Receipt:
    """How one result came about. Hashes are SHA-256, in hexadecimal.

    Attributes:
        weights: Of the state dict of what is published, its backbone most often: names, types, shapes and bytes, in the
            order of the names.
        network: Of what is computed from the weights: the operations and their arguments, in eval mode.
        images: Of the bytes of the image files that are used, in the order of their first use. So a folder and a
            ``.bin`` of the same files agree.
        protocol: Of what is done with them: of pairs, which images meet, the labels and the folds. Images count by that
            order and not by their names or content: the same protocol on re-aligned images has the same hash.
        keypoints: Of the keypoints of these images in that order, where the model takes keypoints.
        flip: Whether mirrors were used.
        norm: How embeddings become unit vectors.
        thresholds: How the folds' thresholds are chosen, "grid" or "exact"; None where there are no folds.
        input: The model's contract: size, color order, mean, std, alignment.
        definitions: In words, of every number.
        precision: "fp32" or "bf16"; "int8" of an exported model that computes in it.
        device: Kind of the device, "cpu" or "cuda".
        versions: Of facetx, torch, numpy and Python; and of what else runs an exported model.
        seed: Of the training, where known.
    """

    weights: str
    network: str
    images: str
    protocol: str
    keypoints: str | None
    flip: bool
    norm: str
    thresholds: str | None
    input: dict[str, Any]
    definitions: dict[str, str]
    precision: str
    device: str
    versions: dict[str, str]
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Receipt(**d)`` takes them back."""
        return asdict(self)


def make_receipt(evaluator: Evaluator, model: Model, amp: bool = False, seed: int | None = None) -> Receipt:
    """The receipt of ``evaluator.result(model, How(amp=amp))``; reads each image file once.

    Args:
        evaluator: The benchmark.
        model: Whose backbone the receipt speaks of.
        amp: Whether it runs in bf16.
        seed: Of its training, where known.

    Raises ``DataError`` for an evaluator without a data set.
    """
    dataset, terms, backbone = evaluator.dataset, evaluator.terms(), backbone_of(model)
    if dataset is None:
        raise DataError(f"{evaluator.name}: has no data set that a receipt could speak of")
    digest = content_digests(dataset, np.unique(terms.items).tolist())
    first_use: dict[str, int] = {}  # image's digest -> its first item; equal files are one image
    for i in terms.items.tolist():
        first_use.setdefault(digest[i], i)
    number = {image: n for n, image in enumerate(first_use)}
    numbers = [number[digest[i]] for i in terms.items.tolist()]
    keypoints = [dataset[i]["keypoints"] for i in first_use.values()] if backbone.needs_keypoints else None
    return Receipt(
        weights=weights_digest(model.published() if isinstance(model, Task) else model),
        network=network_digest(backbone),
        images=_sha256(image.encode() for image in first_use),
        protocol=_sha256(_bytes(a, kind) for a, kind in ((numbers, "<i8"), *terms.protocol)),
        keypoints=None if keypoints is None else _sha256(_bytes(points, "<f4") for points in keypoints),
        flip=terms.flip,
        norm=terms.norm,
        thresholds=terms.thresholds,
        input={k: list(v) if isinstance(v, tuple) else v for k, v in backbone.contract.as_dict().items()},  # as in JSON
        definitions=terms.definitions,
        precision=precision_of(backbone, amp),
        device=next((p.device.type for p in backbone.parameters()), "cpu"),
        versions={
            "facetx": facetx.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            **({origin.runtime: origin.version} if (origin := backbone.origin) else {}),
        },
        seed=seed,
    )


def precision_of(backbone: Backbone, amp: bool) -> str:
    """Of the numbers that it computes in."""
    if backbone.origin is not None:
        return backbone.origin.precision
    return "bf16" if amp else "fp32"


def weights_digest(module: nn.Module) -> str:
    """The ``state_digest`` of a module; of an exported model, of the one which it was made of."""
    if isinstance(module, Backbone) and module.origin is not None:
        return module.origin.weights
    return state_digest(module)


def network_digest(backbone: Backbone) -> str:
    """SHA-256 of what a backbone computes in eval mode: its operations, their arguments, and its fixed tables.

    The same weights in another network give other embeddings. What matters in training alone (dropout, frozen parts,
    recomputing) is no part of it. PyTorch may compute otherwise in another version, and then the hash is another.
    """
    if backbone.origin is not None:
        return backbone.origin.network
    return _sha256(
        f"{line}\n".encode() for line in computation(backbone, backbone.contract.size, backbone.needs_keypoints)
    )


def content_digests(dataset: FaceDataset, indices: Sequence[int]) -> dict[int, str]:
    """``content_digest`` of each of these items; where that is long work it shows its progress."""
    found = {}
    with progress(len(indices), f"{dataset.name}: look for changes") as advance:
        for index in indices:
            found[index] = content_digest(dataset, index)
            advance(1)
    return found


def content_digest(dataset: FaceDataset, index: int) -> str:
    """SHA-256 of an item's image file; of its shape and pixels where the data set has no files."""
    data = dataset.encoded(index)
    if data is not None:
        return hashlib.sha256(data).hexdigest()
    image = dataset[index]["image"]
    return _sha256([str(image.shape).encode(), _bytes(image, "|u1")])


def _bytes(array: Any, kind: str) -> bytes:
    return np.ascontiguousarray(array, dtype=kind).tobytes()


def _sha256(parts: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()
