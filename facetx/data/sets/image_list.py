"""The images of a list file, and CelebA by its annotations."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from facetx.data.base import Sample
from facetx.data.formats.paths import Paths
from facetx.data.lists.image_lists import read_attributes, read_list
from facetx.data.sets.folder import ImageFiles
from facetx.errors import DataError


class ImageList(ImageFiles):
    """The images of a list file as a data set; labels other than 0..C-1 are numbered anew in their order.

    Args:
        path: The list file.
        root: Folder that its paths start from; the list file's own, unless given.
        size: Pixels a side to resize to; as the files are, unless given.

    Attributes:
        stored: (C,) label in the file of each class; ``identities`` are these as text.
    """

    def __init__(self, path: str, root: str | None = None, size: int | None = None):
        folder = Path(path).parent if root is None else Path(root)
        paths, labels = read_list(path)
        super().__init__(Paths(folder, paths), Path(path).stem, size)
        self.stored, self.labels = np.unique(labels, return_inverse=True)
        self.identities = list(map(str, self.stored.tolist()))
        self.num_classes = len(self.stored)
        self.namespace = f"list {os.path.realpath(path)}"


PARTITIONS = {"train": 0, "val": 1, "test": 2}


class CelebA(ImageFiles):
    """CelebA with its identities and 40 attributes (Liu et al. 2015), as its text files have them.

    Args:
        root: Folder with ``list_attr_celeba.txt``, ``identity_CelebA.txt``, ``list_eval_partition.txt``.
        images: Folder of the image files, below ``root``.
        part: By the partition file; "all" takes every image.
        size: Pixels a side to resize to; as the files are, unless given.

    Attributes:
        attribute_names: (A,).
        attributes: (N, A) float32, 0 or 1.

    Items have ``"attributes"`` (A,) too. Classes are the part's identities in the order of their numbers. Raises
    ``DataError`` where a file is missing or a line is wrong, or the files name different images.
    """

    def __init__(
        self,
        root: str,
        images: str = "img_align_celeba",
        part: Literal["all", "train", "val", "test"] = "all",
        size: int | None = None,
    ):
        folder = Path(root)
        attributes, rows = read_attributes(folder / "list_attr_celeba.txt")
        self.attribute_names = tuple(attributes)
        identity = dict(zip(*read_list(folder / "identity_CelebA.txt")))
        partition = dict(zip(*read_list(folder / "list_eval_partition.txt")))
        for name in rows:
            if name not in identity or name not in partition:
                raise DataError(f"{root}: {name} has attributes and no identity or no partition")
        names = [name for name in rows if part == "all" or partition[name] == PARTITIONS[part]]
        if not names:
            raise DataError(f"{root}: list_eval_partition.txt puts no image into {part!r} ({PARTITIONS})")
        super().__init__(Paths(folder / images, names), f"celeba/{part}", size)
        self.attributes = np.stack([rows[name] for name in names])
        stored, self.labels = np.unique([identity[name] for name in names], return_inverse=True)
        self.identities = list(map(str, stored.tolist()))
        self.num_classes = len(stored)
        self.namespace = "celeba"

    def key(self, index: int) -> str:
        return self.paths.names[index]

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "attributes": self.attributes[index]}
