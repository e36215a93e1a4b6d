"""Images in folders: one folder an identity, or a plain list of files."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image, image_size
from facetx.data.formats.paths import Paths
from facetx.data.lists.folders import EXTENSIONS, list_identities
from facetx.data.lists.landmarks import landmarks_of, relative
from facetx.errors import DataError
from facetx.files import read_file


def read_image(path: str | Path, size: int | None = None) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), resized to ``size`` x ``size`` pixels where that is given.

    Raises ``DataError`` naming the file if it is damaged or no image.
    """
    return decode_image(read_file(path), str(path), size)


class ImageFiles(FaceDataset):
    """A list of image files as a data set without identities.

    Args:
        paths: Files, in the order of the items.
        name: For logs and messages.
        size: Pixels a side to resize to, antialiased; as the files are, unless given.
        keypoints: (N, 5, 2), (x, y) in pixels of the files, turned as their tags say.

    Items: ``image`` and ``label``, and ``keypoints`` where given.
    """

    keys_are_files = True

    def __init__(
        self,
        paths: Sequence[str | Path] | Paths,
        name: str,
        size: int | None = None,
        keypoints: np.ndarray | None = None,
    ):
        self.paths = paths if isinstance(paths, Paths) else Paths.of(paths)
        self.name = name
        self.size = size
        self.keypoints = keypoints
        self.labels = np.zeros(len(self.paths), np.int64)
        self.num_classes = 1

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        item = {"image": read_image(path, self.size), "label": int(self.labels[index])}
        if self.keypoints is not None:
            item["keypoints"] = relative(self.keypoints[index], *image_size(path))
        return item

    def encoded(self, index: int) -> bytes:
        return read_file(self.paths[index])

    def describe(self, index: int) -> str:
        return str(self.paths[index])

    def key(self, index: int) -> str:
        return "/".join(self.paths.names[index].split("/")[-2:])

    def names_digest(self) -> str:
        return self.paths.names.digest()

    def file_sizes(self, indices: Sequence[int]) -> list[int]:
        return [_size_of(self.paths[index]) for index in indices]


class ImageFolder(ImageFiles):
    """One folder an identity, as CASIA-WebFace, CelebA and LFW are commonly unpacked: ``root/<identity>/<image>``.

    Classes are numbered in the sorted order of the folders' names, of the chosen part only.

    Args:
        root: The folder of the identities' folders.
        part: "train" and "val" share no identity; "all" takes both.
        val_identities: Share of the identities in "val", in 0..1. Which ones is a function of their names and
            ``seed`` alone, so adding an identity moves no other.
        seed: Of that choice.
        size: Pixels a side to resize to; as the files are, unless given.
        images: "train" and "test" share no image and have the same identities; "all" takes both.
        test_images: Share of each identity's images in "test", in 0..1: of n, floor(n x share), so that one at least
            is left to train on. Which ones is a function of their names and ``seed``.
        landmarks: CSV file of the five keypoints (``facetx.data.lists.landmarks``); every image needs its row.

    Raises ``DataError`` where the folder is missing or empty, or holds fewer than two identities, or an image has no
    landmarks.
    """

    def __init__(
        self,
        root: str,
        part: Literal["all", "train", "val"] = "all",
        val_identities: float = 0.1,
        seed: int = 0,
        size: int | None = None,
        images: Literal["all", "train", "test"] = "all",
        test_images: float = 0.2,
        landmarks: str | None = None,
    ):
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"{root}: no such folder; data needs one folder an identity: {root}/<identity>/<image>.jpg")
        for share, value in (("val_identities", val_identities), ("test_images", test_images)):
            if not 0 <= value < 1:
                raise DataError(f"{share} must be at least 0 and below 1, got {value}")
        listing = list_identities(folder)
        listing.warn(root)
        found = listing.images
        if not found:
            raise DataError(
                f"{root}: holds no images; expected {root}/<identity>/<image> with one of the endings "
                f"{', '.join(sorted(EXTENSIONS))}"
            )
        if len(found) < 2:
            raise DataError(f"{root}: holds one identity only ({next(iter(found))}); recognition needs at least two")
        if part != "all":
            held_out = {name for name in found if unit_hash(name, seed) < val_identities}
            found = {name: files for name, files in found.items() if (name in held_out) == (part == "val")}
            if len(found) < 2:
                raise DataError(
                    f"{root}: the part {part!r} has {len(found)} identities at val_identities={val_identities}; "
                    f"choose another share"
                )
        name = f"{folder.name}/{part}"
        if images != "all":
            name += f", {images} images"
            found = {who: _share_of(files, test_images, seed, images == "test") for who, files in found.items()}
        names = [f"{who}/{name}" for who, files in found.items() for name in files]
        if not names:
            raise DataError(f"{root}: at test_images={test_images} no identity has a {images} image; raise the share")
        keypoints = None
        if landmarks is not None:
            keypoints, _ = landmarks_of(landmarks, names)
        super().__init__(Paths(folder, names), name, size, keypoints)
        self.identities = list(found)
        self.labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
        self.num_classes = len(found)
        self.namespace = f"folder {os.path.realpath(folder)}"

    def find(self, keys: Iterable[str]) -> dict[str, int]:
        names: dict[str, set[str]] = {}
        for key in keys:
            names.setdefault(key.partition("/")[0], set()).add(key)
        found = {}
        for label, who in enumerate(self.identities):
            if wanted := names.get(who):
                start, stop = np.searchsorted(self.labels, (label, label + 1)).tolist()
                found.update({key: index for index in range(start, stop) if (key := self.key(index)) in wanted})
        return found


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which whoever reads it says
        return -1


def _share_of(files: list[str], test: float, seed: int, held_out: bool) -> list[str]:
    """One identity's images in the test share, or those that are not, sorted."""
    by_hash = sorted(files, key=lambda name: unit_hash(name, seed))
    count = int(len(files) * test)
    return sorted(by_hash[:count] if held_out else by_hash[count:])


def unit_hash(name: str, seed: int) -> float:
    """A number in [0, 1) that follows from a name and a seed alone."""
    digest = hashlib.sha256(f"{seed}:".encode() + os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
