"""Models to use: create by name, load from a run, embed, compare, evaluate."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetx.backbones import BACKBONES
from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.format import find_checkpoint, load_weights
from facetx.config.settings import ModelSettings
from facetx.contract import InputContract
from facetx.data.base import FaceDataset
from facetx.data.formats.codec import resize
from facetx.data.sets.folder import read_image
from facetx.errors import DataError
from facetx.evaluators import Evaluator, How, Result, build_evaluator
from facetx.evaluators.embedding import embed_dataset
from facetx.heads import HEADS
from facetx.nn.device import pick_device


def create_backbone(name: str, **args: Any) -> Any:
    """A new backbone with random weights: ``create_backbone("vit_p12s8", depth=12)``. Names: ``list_backbones()``."""
    return BACKBONES.create(name, **args)


def create_head(name: str, embedding_dim: int, num_classes: int, **args: Any) -> Any:
    """A new head: ``create_head("cosface", 512, 10572, margin=0.35)``. Names: ``list_heads()``."""
    return HEADS.create(name, embedding_dim=embedding_dim, num_classes=num_classes, **args)


def list_backbones(pattern: str = "*") -> list[str]:
    """The names of backbones that match a shell pattern: ``list_backbones("vit_*")``."""
    return BACKBONES.names(pattern)


def list_heads(pattern: str = "*") -> list[str]:
    """The names of heads that match a shell pattern."""
    return HEADS.names(pattern)


def load_model(path: str | Path, device: str = "auto", pointer: str = "BEST") -> "FaceModel":
    """The trained model of a run.

    Args:
        path: A run's folder, or one checkpoint's.
        device: "auto", "cpu" or "cuda".
        pointer: Which of a run's checkpoints: "BEST" (the latest where no best was kept) or "LAST".

    Raises ``CheckpointError`` where there is none, or its weights do not fit its settings.
    """
    checkpoint = find_checkpoint(path, pointer)
    settings = ModelSettings.model_validate_json(json.dumps(checkpoint.meta["settings"]["model"]))
    backbone = build_backbone(settings, InputContract(**checkpoint.meta["input"]))
    load_weights(backbone, checkpoint.weights(), str(checkpoint.path))
    return FaceModel(backbone, device, checkpoint.meta)


class FaceModel:
    """A backbone that is ready to use.

    Args:
        backbone: Images -> embeddings, with its contract.
        device: "auto", "cpu" or "cuda".
        meta: What its checkpoint says of it: step, settings, metrics.

    Images are given as paths, PIL images, uint8 RGB arrays (H, W, 3), or uint8 RGB tensors (3, H, W); one, or many.
    They are aligned faces, square, and resized to the contract's size.
    """

    def __init__(self, backbone: Any, device: str = "auto", meta: dict[str, Any] | None = None):
        self.device = pick_device(device)
        self.backbone = backbone.to(self.device).eval()
        self.meta = meta or {}

    def __repr__(self) -> str:
        name = self.meta["settings"]["model"]["name"] if self.meta else type(self.backbone).__name__
        return f"FaceModel({name} on {self.device}: {self.contract} -> {self.backbone.embedding_dim} numbers)"

    @property
    def contract(self) -> InputContract:
        """What the network expects of its images; applied by ``embed``."""
        return self.backbone.contract

    def embed(
        self, images: Any, flip: bool = True, batch_size: int = 128, keypoints: np.ndarray | None = None
    ) -> np.ndarray:
        """Embeddings of unit length, float32 (N, E): the dot product of two is their cosine.

        Args:
            images: One image or many, see the class.
            flip: Sum the embeddings of each image and of its mirror before the normalization.
            batch_size: Images a forward pass.
            keypoints: (N, 5, 2) in [0, 1] as (x, y), for a backbone that needs them.
        """
        faces = _Given(images, self.contract.size, keypoints)
        embeddings = embed_dataset(self.backbone, faces, How(self.device, batch_size), flip=flip)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(1e-12)

    def compare(self, a: Any, b: Any, flip: bool = True, keypoints: np.ndarray | None = None) -> float:
        """The cosine in [-1, 1] between the embeddings of two faces: higher is more alike.

        Arguments as in ``embed``; ``keypoints`` are (2, 5, 2), of ``a`` and of ``b``.
        """
        first, second = self.embed([a, b], flip=flip, keypoints=keypoints)
        return float(first @ second)

    def evaluate(self, evaluator: Evaluator | str, dataset: FaceDataset | None = None, **args: Any) -> Result:
        """The result of an evaluator, or of the one of that name:
        ``model.evaluate("lfw", images="lfw/images", pairs="lfw/pairs.txt").table()``.

        Args:
            evaluator: Itself, or its name.
            dataset: What one of ``facetx.EVALUATORS`` that asks any data set asks by.
            args: Its other arguments. ``size``, to which images are resized, is the contract's unless it is given.
        """
        if isinstance(evaluator, str):
            evaluator = build_evaluator(evaluator, dataset, args, self.contract.size)
        return evaluator.result(self.backbone, How(self.device))


class _Given(FaceDataset):
    """Images from a notebook as a data set, the square ones resized to ``size`` pixels a side."""

    name = "images"
    num_classes = 1

    def __init__(self, images: Any, size: int, keypoints: np.ndarray | None):
        one = images.ndim < 4 if isinstance(images, np.ndarray | Tensor) else isinstance(images, str | Path)
        many = images if isinstance(images, Iterable) and not one else [images]
        self.images = [_resized(_to_array(image), size) for image in many]
        if not self.images:
            raise DataError("no images were given")
        if keypoints is not None and len(keypoints) != len(self.images):
            raise DataError(f"{len(self.images)} images, and keypoints for {len(keypoints)}")
        self.keypoints = keypoints
        self.labels = np.zeros(len(self.images), np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"image": self.images[index], "label": 0}
        if self.keypoints is not None:
            item["keypoints"] = np.asarray(self.keypoints[index], np.float32)
        return item


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = image.shape
    return resize(image, size) if height == width != size else image


def _to_array(image: Any) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3:
        return image.permute(1, 2, 0).cpu().numpy()  # (3, H, W) -> (H, W, 3)
    if hasattr(image, "convert"):  # a PIL image
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    what = f"{getattr(image, 'dtype', type(image).__name__)} {tuple(getattr(image, 'shape', ()))}"
    raise DataError(
        f"an image is a path, a PIL image, a uint8 RGB array (H, W, 3) or a uint8 RGB tensor (3, H, W); got {what}"
    )
