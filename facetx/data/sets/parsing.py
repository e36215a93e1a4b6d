"""The known data sets of face parsing, as they are distributed: LaPa, CelebAMask-HQ and Helen."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.data.formats.codec import decode_image
from facetx.data.formats.paths import Paths
from facetx.data.lists.folders import say_once
from facetx.data.lists.image_lists import read_lines, read_list
from facetx.data.mask_classes import CELEBAMASK_HQ, HELEN, LAPA
from facetx.data.sets.masks import LabelMaps, MaskFiles, files_of, paired, read_mask
from facetx.errors import DataError, some
from facetx.files import read_file

LAPA_FIVE = (104, 105, 54, 84, 90)
"""LaPa's points of both pupils, the tip of the nose, and the corners of the mouth, counted from 0."""
VAL, TEST = 162_771, 182_638
"""The first numbers in CelebA, counted from 0, of CelebAMask-HQ's validation and test images, as its own script has
them (``g_partition.py``): 24,183, 2,993 and 2,824 images."""


class LaPa(LabelMaps):
    """LaPa (Liu et al. 2020, arXiv 2001.01087): 18,176 + 2,000 + 2,000 faces of any pose, 11 classes, 106 points.

    Args:
        root: Folder with ``train``, ``val`` and ``test``, each with ``images``, ``labels`` and ``landmarks``.
        part: One of these.
        size: Pixels a side to resize to, the image as a whole, whatever its shape; as the files are, unless given.
        landmarks: Whether items have ``keypoints``, the five of its points that facetx knows.

    Raises ``DataError`` where a folder is missing, or an image has no points.
    """

    stretch = True

    def __init__(
        self,
        root: str,
        part: Literal["train", "val", "test"] = "train",
        size: int | None = None,
        landmarks: bool = False,
    ):
        top = Path(root)
        pictures, labels = paired(top / part / "images", top / part / "labels")
        points = None
        if landmarks:
            stems = [os.path.splitext(name)[0] for name in pictures]
            points = np.stack([read_points(top / part / "landmarks" / f"{stem}.txt") for stem in stems])
        super().__init__(
            Paths(top, [f"{part}/images/{name}" for name in pictures]),
            Paths(top, [f"{part}/labels/{name}" for name in labels]),
            LAPA,
            f"lapa/{part}",
            "lapa",
            size,
            points,
        )


def read_points(path: Path) -> NDArray[np.float64]:
    """The five keypoints (5, 2), in pixels, of a file of LaPa: their number, 106, and x and y a line."""
    lines = [line for _, line in read_lines(path)]
    try:
        points = np.array([[float(value) for value in line.split()] for line in lines[1:]])
        if lines[0].strip() != "106" or points.shape != (106, 2) or not (np.abs(points) < 2**24).all():
            raise ValueError
    except (ValueError, IndexError):
        raise DataError(f"{path}: expected the number 106, and as many lines of x and y") from None
    return points[list(LAPA_FIVE)]


class CelebAMaskHQ(MaskFiles):
    """CelebAMask-HQ (Lee et al. 2020, arXiv 1907.11922): 30,000 faces, 19 classes, a file a part.

    A class without a file is not in the picture. Where two parts overlap, the later one in the list of classes counts,
    as in the authors' script. Images are read at the size of the masks, 512 pixels a side.

    Args:
        root: Folder of what was unpacked.
        part: By ``CelebA-HQ-to-CelebA-mapping.txt``, which is not read for "all".
        size: Pixels a side to resize to; as the masks are, unless given.
        images: Folder of the images, ``0.jpg`` and so on.
        masks: Folder of the parts' masks, ``0/00000_skin.png`` and so on; or of whole label maps, ``0.png`` and so on.
        identities: CelebA's ``identity_CelebA.txt``, of which the identities are taken; one for all, unless given.

    Images without any mask are left out, and the log says how many. Raises ``DataError`` where a folder or a file is
    missing or nothing is left.
    """

    any_scale = True
    mask_classes = CELEBAMASK_HQ

    def __init__(
        self,
        root: str,
        part: Literal["all", "train", "val", "test"] = "train",
        size: int | None = None,
        images: str = "CelebA-HQ-img",
        masks: str = "CelebAMask-HQ-mask-anno",
        identities: str | None = None,
    ):
        top = Path(root)
        endings = (".jpg",) if images == masks else (".jpg", ".png")
        pictures = {number: name for name in files_of(top / images) if (number := _number(name, endings)) is not None}
        self._masks = MaskParts(top / masks)
        chosen = sorted(pictures.keys() & self._masks.files.keys())
        originals: Mapping[int, tuple[int, str]] = {}
        if part != "all" or identities is not None:
            originals = read_mapping(top / "CelebA-HQ-to-CelebA-mapping.txt")
        if part != "all":
            chosen = [n for n in chosen if n in originals and part_of(originals[n][0]) == part]
        if not chosen:
            raise DataError(
                f"{top / images}: none of its {len(pictures)} images is of {part!r} and has a mask in {top / masks}; "
                "unpack CelebAMask-HQ, or name the folders by images and masks"
            )
        if without := sorted(pictures.keys() - self._masks.files.keys()):
            say_once(f"{top / images}: left out: {len(without)} images without a mask ({some(without, show=3)})")
        self._numbers = np.array(chosen)
        paths = Paths(top / images, [pictures[n] for n in chosen])
        super().__init__(paths, f"celebamask_hq/{part}", "celebamask_hq", size)
        if identities is not None:
            people = dict(zip(*read_list(identities)))
            if absent := [originals[n][1] for n in chosen if originals[n][1] not in people]:
                raise DataError(f"{identities}: has no identity of {some(absent, show=3)}; take CelebA's own file")
            self._number_people([people[originals[n][1]] for n in chosen])

    def mask(self, index: int) -> NDArray[np.uint8]:
        return self._masks.mask(int(self._numbers[index]))

    def key(self, index: int) -> str:
        return str(self._numbers[index])


class MaskParts:
    """CelebAMask-HQ's masks: a file a part, or whole label maps.

    Args:
        folder: Where they lie, at any depth.

    Attributes:
        files: Number of the image -> class -> its file; 0 for a whole map.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[int, dict[int, str]] = {}
        places = {name: i for i, name in enumerate(CELEBAMASK_HQ)}
        unknown = []
        for name in files_of(folder):
            stem = os.path.splitext(os.path.basename(name))[0]
            number, _, what = stem.partition("_")
            if not _is_number(number) or not name.endswith(".png"):
                continue
            if what and what not in places:
                unknown.append(name)
                continue
            self.files.setdefault(int(number), {})[places[what] if what else 0] = name
        if unknown:
            say_once(f"{folder}: left out: {len(unknown)} masks of no known class ({some(unknown, show=3)})")

    def mask(self, number: int) -> NDArray[np.uint8]:
        """The mask (H, W) of an image. Raises ``DataError`` that names a file which cannot be read."""
        own = self.files[number]
        if 0 in own:
            return read_mask(self.folder / own[0])
        merged: NDArray[np.uint8] | None = None
        for place in sorted(own):
            path = self.folder / own[place]
            part = decode_image(read_file(path), str(path))[..., 0]
            merged = np.zeros(part.shape, np.uint8) if merged is None else merged
            if part.shape != merged.shape:
                raise DataError(f"{path}: is {part.shape[1]}x{part.shape[0]}, other parts of its image are not")
            merged[part > 127] = place
        assert merged is not None  # an image without a file is none of ours
        return merged


def read_mapping(path: Path) -> dict[int, tuple[int, str]]:
    """CelebA-HQ's number -> CelebA's, counted from 0, and its file, of ``CelebA-HQ-to-CelebA-mapping.txt``."""
    found: dict[int, tuple[int, str]] = {}
    for n, line in read_lines(path):
        fields = line.split()
        if len(fields) == 3 and all(_is_number(field) for field in fields[:2]):
            found[int(fields[0])] = (int(fields[1]), fields[2])
        elif n > 1:
            raise DataError(f"{path}:{n}: expected a number, CelebA's number and its file, found {line[:80]!r}")
    return found


def part_of(number: int) -> str:
    """ "train", "val" or "test", by the number in CelebA, counted from 0."""
    return "train" if number < VAL else "val" if number < TEST else "test"


def _number(name: str, endings: tuple[str, ...]) -> int | None:
    stem, ending = os.path.splitext(os.path.basename(name))
    return int(stem) if _is_number(stem) and ending.lower() in endings else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def read_stems(path: Path) -> list[str]:
    """The images' names without their ending, of a list of Helen: ``1 , 100032540_1`` lines.

    Raises ``DataError`` with the line.
    """
    stems = []
    for n, line in read_lines(path):
        _, comma, stem = (field.strip() for field in line.partition(","))
        if not comma or not stem or set(stem) & set("/\0"):
            raise DataError(f"{path}:{n}: expected a number, a comma and a name, found {line[:80]!r}")
        stems.append(stem)
    if not stems:
        raise DataError(f"{path}: the file is empty; expected a number, a comma and a name a line")
    return stems


HELEN_LISTS = {"train": "exemplars.txt", "val": "tuning.txt", "test": "testing.txt"}


class Helen(MaskFiles):
    """Helen with the labels of Smith et al. (CVPR 2013): 2,000 + 230 + 100 faces, 11 classes, a file a class.

    A class's file has in 0..255 how far each pixel is of that class; the pixel is of the class that has the most.

    Args:
        root: Folder with ``images``, ``labels``, ``exemplars.txt``, ``tuning.txt`` and ``testing.txt``.
        part: By these lists, in this order.
        size: Pixels a side to resize to, the image as a whole, whatever its shape; as the files are, unless given.

    Raises ``DataError`` where a folder or a list is missing or a line of it is wrong.
    """

    mask_classes = HELEN
    stretch = True

    def __init__(self, root: str, part: Literal["train", "val", "test"] = "train", size: int | None = None):
        top = Path(root)
        stems = read_stems(top / HELEN_LISTS[part])
        self._labels = Paths(top / "labels", stems)
        super().__init__(Paths(top / "images", [f"{stem}.jpg" for stem in stems]), f"helen/{part}", "helen", size)

    def mask(self, index: int) -> NDArray[np.uint8]:
        folder = self._labels[index]
        paths = [folder / f"{folder.name}_lbl{place:02d}.png" for place in range(len(HELEN))]
        parts = [decode_image(read_file(path), str(path))[..., 0] if path.is_file() else None for path in paths]
        there = [part for part in parts if part is not None]
        if not there or any(part.shape != there[0].shape for part in there):
            raise DataError(f"{folder}: {'has masks of several sizes' if there else 'has no masks'}; unpack it anew")
        shares = np.stack([np.zeros_like(there[0]) if part is None else part for part in parts])  # (11, H, W)
        return shares.argmax(0).astype(np.uint8)
