"""Image files with attributes: CelebA by its annotations, and any CSV file of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import Sample
from facetx.data.formats.paths import Paths
from facetx.data.lists.attributes import read_attribute_csv
from facetx.data.lists.folders import is_image, say_once
from facetx.data.lists.image_lists import read_attributes, read_list
from facetx.data.sets.folder import ImageFiles
from facetx.errors import DataError, some

PARTITIONS = {"train": 0, "val": 1, "test": 2}


class AttributeFiles(ImageFiles):
    """Image files and the attributes of each.

    Args:
        paths: Files, in the order of the items.
        name: For logs and messages.
        attribute_names: (A,).
        attributes: (N, A) float32: 1, 0, or NaN where that is not known.
        size: Pixels a side to resize to; as the files are, unless given.

    Items have ``"attributes"`` (A,) too.
    """

    def __init__(
        self,
        paths: Paths,
        name: str,
        attribute_names: Sequence[str],
        attributes: NDArray[np.float32],
        size: int | None = None,
    ):
        super().__init__(paths, name, size)
        self.attribute_names = tuple(attribute_names)
        self.attributes = attributes

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "attributes": self.attributes[index]}


class CelebA(AttributeFiles):
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
    ``DataError`` where a file is missing or a line is wrong, or the text files name different images.
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
        identity = dict(zip(*read_list(folder / "identity_CelebA.txt")))
        partition = dict(zip(*read_list(folder / "list_eval_partition.txt")))
        for name in rows:
            if name not in identity or name not in partition:
                raise DataError(f"{root}: {name} has attributes and no identity or no partition")
        names = [name for name in rows if part == "all" or partition[name] == PARTITIONS[part]]
        if not names:
            raise DataError(f"{root}: list_eval_partition.txt puts no image into {part!r} ({PARTITIONS})")
        if absent := without_images(folder / images, names, rows):
            raise DataError(
                f"{folder / images}: {len(absent)} of the {len(names)} images of {part!r} are not there: "
                f"{some(absent, show=3)}; unpack all of them, or say where they lie by images"
            )
        stacked = np.stack([rows[name] for name in names])
        super().__init__(Paths(folder / images, names), f"celeba/{part}", attributes, stacked, size)
        self._number_people([identity[name] for name in names])
        self.namespace = "celeba"

    def key(self, index: int) -> str:
        return self.paths.names[index]


class AttributeCsv(AttributeFiles):
    """Images with the attributes that a CSV file has of them; ``facetx.data.lists.attributes`` says what it looks like.

    Rows without an image, and images without a row, are left out, and the log says how many and which.

    Args:
        path: The CSV file.
        root: Folder that its paths start from; the file's own, unless given.
        file: The column of the images' paths; the first one, unless given.
        identity: The column of the people's names; all images are of one, unless given.
        columns: Those of the attributes; all others, unless given.
        unknown: The number that means that it is not known, as an empty cell does: "0" in MAAD-Face.
        size: Pixels a side to resize to; as the files are, unless given.

    Raises ``DataError`` with the line for a row that is wrong, and where no row has its image.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        file: str | None = None,
        identity: str | None = None,
        columns: tuple[str, ...] | None = None,
        unknown: Literal["0", "-1"] | None = None,
        size: int | None = None,
    ):
        table = read_attribute_csv(path, file, identity, columns, unknown)
        folder = Path(path).parent if root is None else Path(root)
        absent = set(without_images(folder, table.files, table.files))
        there = [i for i, name in enumerate(table.files) if name not in absent]
        if not there:
            raise DataError(
                f"{path}: none of its {len(table.files)} images lies below {folder}, such as {table.files[0]}; say by "
                "root where they do"
            )
        if absent:
            say_once(
                f"{path}: left out: {len(absent)} of {len(table.files)} rows, whose images are not below {folder} "
                f"({some(sorted(absent), show=3)})"
            )
        paths = Paths(folder, [table.files[i] for i in there])
        super().__init__(paths, Path(path).stem, table.names, table.values[there], size)
        if table.identities:
            self._number_people([table.identities[i] for i in there])
        self.namespace = f"attributes {os.path.realpath(path)}"


def without_images(root: Path, names: Sequence[str], rows: Sequence[str] | dict[str, NDArray[np.float32]]) -> list[str]:
    """Those of ``names`` that are no files below ``root``. The log says which images there have no row of ``rows``."""
    folders = {os.path.dirname(name) for name in rows}
    there = {f"{folder}/{name}" if folder else name for folder in folders for name in _files(root / folder)}
    absent = [name for name in names if name not in there]
    known = set(rows)
    if extra := sorted(name for name in there if name not in known and is_image(os.path.basename(name))):
        say_once(f"{root}: left out: {len(extra)} images that have no row ({some(extra, show=3)})")
    return absent


def _files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.is_dir()]
    except (OSError, ValueError):  # none of its images are there, which whoever asks says
        return []
