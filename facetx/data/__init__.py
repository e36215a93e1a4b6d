"""Files to batches, and here the table of data sets.

A data set has ``len``, ``labels`` (int64 (N,), 0..num_classes - 1), ``num_classes``, ``name``, and items
``{"image": uint8 RGB (H, W, 3), "label": int}``, with ``keypoints`` ((5, 2) float32, (x, y) in [0, 1]) where known.
"""

from collections.abc import Callable
from typing import Any, Literal

from facetx.data.folder import ImageFolder
from facetx.data.synthetic import SyntheticFaces
from facetx.registry import Registry


def image_folder(
    root: str,
    part: Literal["all", "train", "val"] = "all",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
) -> ImageFolder:
    """One folder an identity: see ``facetx.data.folder.ImageFolder``."""
    return ImageFolder(root, part, val_identities, seed, size)


def synthetic_faces(
    identities: int = 100, images_per_identity: int = 20, first_identity: int = 0, size: int = 112, seed: int = 0
) -> SyntheticFaces:
    """Rendered faces, no files needed: see ``facetx.data.synthetic.SyntheticFaces``."""
    return SyntheticFaces(identities, images_per_identity, seed, first_identity, size)


DATASETS: Registry[Callable[..., Any]] = Registry("data set", [image_folder, synthetic_faces])
