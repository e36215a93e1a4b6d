"""Files to batches, and here the table of data sets.

A data set has ``len``, ``labels`` (int64 (N,), 0..num_classes - 1), ``num_classes``, ``name``, and items
``{"image": uint8 RGB (H, W, 3), "label": int}``, with ``keypoints`` ((5, 2) float32, (x, y) in [0, 1]) where known.
"""

from collections.abc import Callable
from typing import Any, Literal

from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.hugging_face import HuggingFaceFolder
from facetx.data.sets.image_list import CelebA, ImageList
from facetx.data.sets.packed import Packed
from facetx.data.sets.records import RecordFaces
from facetx.data.sets.shards import Shards
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.registry import Registry


def image_folder(
    root: str,
    part: Literal["all", "train", "val"] = "all",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    images: Literal["all", "train", "test"] = "all",
    test_images: float = 0.2,
    landmarks: str | None = None,
) -> ImageFolder:
    """One folder an identity: see ``facetx.data.sets.folder.ImageFolder``."""
    return ImageFolder(root, part, val_identities, seed, size, images, test_images, landmarks)


def synthetic_faces(
    identities: int = 100,
    images_per_identity: int = 20,
    first_identity: int = 0,
    size: int = 112,
    seed: int = 0,
    first_image: int = 0,
) -> SyntheticFaces:
    """Rendered faces, no files needed: see ``facetx.data.synthetic.faces.SyntheticFaces``."""
    return SyntheticFaces(identities, images_per_identity, seed, first_identity, size, first_image)


def recordio(path: str, size: int | None = None) -> RecordFaces:
    """InsightFace's ``train.rec``, or its folder: see ``facetx.data.sets.records.RecordFaces``."""
    return RecordFaces(path, size)


def packed(path: str, size: int | None = None) -> Packed:
    """A folder written by ``scripts/prepare_data.py pack``: see ``facetx.data.sets.packed.Packed``."""
    return Packed(path, size)


def image_list(path: str, root: str | None = None, size: int | None = None) -> ImageList:
    """A file of "path label" lines: see ``facetx.data.sets.image_list.ImageList``."""
    return ImageList(path, root, size)


def webdataset(path: str, size: int | None = None, label: str | None = None) -> Shards:
    """WebDataset's tar shards: see ``facetx.data.sets.shards.Shards``."""
    return Shards(path, size, label)


def hugging_face(
    path: str, split: str = "train", image: str = "image", label: str = "label", size: int | None = None
) -> HuggingFaceFolder:
    """A folder of the ``datasets`` library: see ``facetx.data.sets.hugging_face.HuggingFaceFolder``."""
    return HuggingFaceFolder(path, split, image, label, size)


def celeba(
    root: str,
    images: str = "img_align_celeba",
    part: Literal["all", "train", "val", "test"] = "all",
    size: int | None = None,
) -> CelebA:
    """CelebA with identities and attributes: see ``facetx.data.sets.image_list.CelebA``."""
    return CelebA(root, images, part, size)


DATASETS: Registry[Callable[..., Any]] = Registry(
    "data set", [image_folder, recordio, packed, image_list, webdataset, hugging_face, celeba, synthetic_faces]
)
