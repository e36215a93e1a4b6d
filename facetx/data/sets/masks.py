"""Images with masks, the class of each pixel, in any folders: one index mask an image."""

import os
from abc import abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import Sample
from facetx.data.formats.codec import decode_mask
from facetx.data.formats.paths import Paths
from facetx.data.lists.classes import class_list
from facetx.data.lists.folders import is_image, is_junk, say_once
from facetx.data.lists.landmarks import relative
from facetx.data.sample import IGNORED, Map, move_image, moved
from facetx.data.sets.folder import ImageFiles, read_image
from facetx.errors import DataError, some
from facetx.files import read_file

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".pgm")


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """An index mask's file as uint8 (H, W). Raises ``DataError`` as ``decode_mask`` does."""
    return decode_mask(read_file(path), str(path))


class MaskFiles(ImageFiles):
    """Image files and a mask of each, which a subclass reads.

    Args:
        paths: Of the images, in the order of the items.
        name: For logs and messages.
        namespace: Of the images' names: the real path of what they all lie in.
        size: Pixels a side to resize both to; as they are, unless given.
        keypoints: As in ``ImageFiles``.

    Attributes:
        mask_classes: (M,) set by the subclass.
        any_scale: Whether masks may be smaller or larger than their images, of the same shape; then images take the
            size of their masks, which are never resized for it.
        stretch: Whether images that are not square become so as a whole, where a size is given; else they are an error.

    Items: ``image``, ``label`` and ``mask``.
    """

    keys_are_files = False  # two sets may call two images by one name
    any_scale = False
    stretch = False

    def __init__(
        self, paths: Paths, name: str, namespace: str, size: int | None = None, keypoints: np.ndarray | None = None
    ):
        super().__init__(paths, name, size, keypoints)
        self.namespace = namespace

    @abstractmethod
    def mask(self, index: int) -> NDArray[np.uint8]:
        """The mask (H, W) of item ``index``, as large as its file. Raises ``DataError`` that names the file."""

    def __getitem__(self, index: int) -> Sample:
        image, mask = read_image(self.paths[index]), self.mask(index)
        old, new = image.shape[:2], mask.shape[:2]
        where = self.describe(index)
        if old != new and not (self.any_scale and old[0] * new[1] == old[1] * new[0]):
            raise DataError(
                f"{where}: is {old[1]}x{old[0]} and its mask {new[1]}x{new[0]}; a mask must be of its image's size: "
                "replace one of them, or leave both out"
            )
        check_classes(mask, self.mask_classes, f"the mask of {where}")
        if old != new:
            image = move_image(image, Map.resize(old, new))
        item: Sample = {"image": image, "label": int(self.labels[index]), "mask": mask}
        if self.keypoints is not None:
            item["keypoints"] = relative(self.keypoints[index], old[1], old[0])
        if self.size is None:
            return item
        if new[0] != new[1] and not self.stretch:
            raise DataError(
                f"{where}: is {new[1]}x{new[0]}, and would be squashed to {self.size}x{self.size}; say crop: true "
                "beside the data set, which takes the square in the middle, or stretch: true in its args, as the "
                "evaluator of parsing does"
            )
        return item if new == (self.size, self.size) else moved(item, Map.resize(new, (self.size, self.size)))

    def key(self, index: int) -> str:
        return self.paths.names[index]


def check_classes(mask: NDArray[np.uint8], classes: tuple[str, ...], where: str) -> None:
    """Raises ``DataError`` for a number that stands for no class."""
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[[*range(len(classes)), IGNORED]] = 0
    if counts.any():
        wrong = np.flatnonzero(counts)
        raise DataError(
            f"{where}: has {some((f'{value} in {counts[value]} pixels' for value in wrong), show=3)}, and the list of "
            f"classes ends at {len(classes) - 1} ({classes[-1]}; {IGNORED} is not labeled); correct the mask, or the "
            "list"
        )


class LabelMaps(MaskFiles):
    """Image files and a file with the mask of each.

    Args:
        masks: Of the masks, in the order of the items.
        classes: (M,) names.
        paths, name, namespace, size, keypoints: As in ``MaskFiles``.
    """

    def __init__(
        self,
        paths: Paths,
        masks: Paths,
        classes: tuple[str, ...],
        name: str,
        namespace: str,
        size: int | None = None,
        keypoints: np.ndarray | None = None,
    ):
        super().__init__(paths, name, namespace, size, keypoints)
        self.masks, self.mask_classes = masks, classes

    def mask(self, index: int) -> NDArray[np.uint8]:
        return read_mask(self.masks[index])


class MaskFolder(LabelMaps):
    """A folder of images and a folder of index masks, a mask for each image under the same name.

    Images without a mask, and masks without an image, are left out, and the log says how many and which.

    Args:
        root: Where both folders are, or the folders of the parts.
        part: A folder in ``root`` that has both, such as "train"; none where they are in ``root`` itself.
        images, masks: Names of the two folders, at any depth; "." where all files are in one.
        classes: A known list (lapa, helen, celebamask_hq, fasseg), or a file with a class a line, from 0 on, each with
            three numbers for its color where it is to have one of its own; ``classes.txt`` in ``root``, unless given.
        size: Pixels a side to resize to; as the files are, unless given.
        stretch: Whether images that are not square are resized as a whole, as the evaluator of parsing does it too.

    Raises ``DataError`` where a folder or the list is missing, or no image has a mask.
    """

    def __init__(
        self,
        root: str,
        part: str | None = None,
        images: str = "images",
        masks: str = "masks",
        classes: str | None = None,
        size: int | None = None,
        stretch: bool = False,
    ):
        top = Path(root)
        names, colors = class_list(top / "classes.txt" if classes is None else classes)
        folder = top if part is None else top / part
        pictures, labels = paired(folder / images, folder / masks)
        prefix = os.path.relpath(folder, top)
        super().__init__(
            Paths(top, [os.path.normpath(f"{prefix}/{images}/{name}") for name in pictures]),
            Paths(top, [os.path.normpath(f"{prefix}/{masks}/{name}") for name in labels]),
            names,
            f"{top.name}/{part}" if part else top.name,
            f"masks {os.path.realpath(top)}",
            size,
        )
        self.mask_colors, self.stretch = colors, stretch


def paired(images: Path, masks: Path) -> tuple[list[str], list[str]]:
    """The names, below two folders, of images and of the masks that are called like them, in the images' order.

    Raises ``DataError`` where a folder is missing or nothing fits.
    """
    labels = {os.path.splitext(name)[0]: name for name in files_of(masks) if name.lower().endswith(MASK_SUFFIXES)}
    pictures = {
        os.path.splitext(name)[0]: name
        for name in files_of(images)
        if is_image(os.path.basename(name)) and not (images == masks and name in labels.values())
    }
    both = sorted(pictures.keys() & labels.keys())
    if not both:
        raise DataError(
            f"{images}: none of its {len(pictures)} images has a mask of its name in {masks}, which has {len(labels)} "
            f"({', '.join(MASK_SUFFIXES)}); name the folders by images and masks"
        )
    left_out = {
        f"{images}: left out: {{}} images without a mask ({{}})": [pictures[k] for k in pictures if k not in labels],
        f"{masks}: left out: {{}} masks without an image ({{}})": [labels[k] for k in labels if k not in pictures],
    }
    for words, names in left_out.items():
        if names:
            say_once(words.format(len(names), some(names, show=3)))
    return [pictures[name] for name in both], [labels[name] for name in both]


def files_of(folder: Path) -> list[str]:
    """All files below a folder, junk apart, by their paths from there. Raises ``DataError`` where there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; parsing needs one of images and one of masks")
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        below = os.path.relpath(place, folder)
        found += [os.path.normpath(f"{below}/{name}") for name in sorted(files) if not is_junk(name)]
    return found
