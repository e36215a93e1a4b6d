"""Text files that list images: ``path label`` lines, InsightFace's and MXNet's ``.lst``, and CelebA's annotations."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facetx.data.folder import ImageFiles
from facetx.errors import DataError
from facetx.files import write_file


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that is not blank. Raises ``DataError`` for what is no text in UTF-8."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    for n, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield n, line.strip()


def read_list(path: str | Path) -> tuple[list[str], list[int]]:
    """Paths (N,) and labels (N,) of a list file: ``path<tab or space>label`` a line, labels whole numbers from 0 on.

    Paths may hold spaces. Raises ``DataError`` with the line.
    """
    paths, labels = [], []
    for n, line in read_lines(path):
        fields = line.rsplit(None, 1)
        if len(fields) != 2 or not _is_number(fields[1]) or "\0" in line:
            raise DataError(f"{path}:{n}: expected 'path<tab or space>label', found {line[:80]!r}")
        paths.append(fields[0])
        labels.append(int(fields[1]))
    if not paths:
        raise DataError(f"{path}: the file is empty; expected 'path<tab or space>label' lines")
    return paths, labels


def write_list(path: str | Path, paths: list[str], labels: list[int]) -> None:
    """Writes a list file; it appears whole or not at all."""
    write_file(path, "".join(f"{p}\t{label}\n" for p, label in zip(paths, labels)).encode())


def read_names(path: str | Path, count: int) -> list[str] | None:
    """``identity/file`` of each image in a ``.lst`` of InsightFace (``aligned<tab>path<tab>label``) or MXNet
    (``number<tab>label<tab>path``); None where it has another number of lines than ``count``.

    Raises ``DataError`` with the line.
    """
    names = []
    for n, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) < 3:
            raise DataError(f"{path}:{n}: expected three fields apart by tabs, found {line[:80]!r}")
        named = fields[-1] if re.fullmatch(r"[0-9]+(\.[0-9]*)?", fields[1]) else fields[1]
        names.append("/".join(named.replace("\\", "/").split("/")[-2:]))
    return names if len(names) == count else None


class ImageList(ImageFiles):
    """The images of a list file as a data set; labels other than 0..C-1 are numbered anew in their order.

    Args:
        path: The list file.
        root: Folder that its paths start from; the list file's own, unless given.
        size: Pixels a side to resize to; as the files are, unless given.

    Attributes:
        identities: (C,) label in the file of each class.
    """

    def __init__(self, path: str, root: str | None = None, size: int | None = None):
        folder = Path(path).parent if root is None else Path(root)
        paths, labels = read_list(path)
        super().__init__([folder / p for p in paths], Path(path).stem, size)
        self.identities, self.labels = np.unique(labels, return_inverse=True)
        self.num_classes = len(self.identities)


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
        self.attribute_names, rows = read_attributes(folder / "list_attr_celeba.txt")
        identity = dict(zip(*read_list(folder / "identity_CelebA.txt")))
        partition = dict(zip(*read_list(folder / "list_eval_partition.txt")))
        for name in rows:
            if name not in identity or name not in partition:
                raise DataError(f"{root}: {name} has attributes and no identity or no partition")
        names = [name for name in rows if part == "all" or partition[name] == PARTITIONS[part]]
        if not names:
            raise DataError(f"{root}: list_eval_partition.txt puts no image into {part!r} ({PARTITIONS})")
        super().__init__([folder / images / name for name in names], f"celeba/{part}", size)
        self.attributes = np.stack([rows[name] for name in names])
        self.labels = np.unique([identity[name] for name in names], return_inverse=True)[1]
        self.num_classes = int(self.labels.max()) + 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), "attributes": self.attributes[index]}


def read_attributes(path: str | Path) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    """Attribute names (A,), and image -> (A,) float32 of 0 and 1, of ``list_attr_celeba.txt``.

    Its first line is the number of images, its second the names, then a line an image with -1 or 1 for each.
    """
    lines = list(read_lines(path))
    if len(lines) < 3 or not _is_number(lines[0][1]):
        raise DataError(f"{path}: expected the number of images, a line of names, and a line an image")
    names = lines[1][1].split()
    rows: dict[str, NDArray[np.float32]] = {}
    for n, line in lines[2:]:
        image, *values = line.split()
        if len(values) != len(names) or set(values) - {"-1", "1"}:
            raise DataError(f"{path}:{n}: expected an image and {len(names)} times -1 or 1, found {line[:80]!r}")
        rows[image] = (np.array(values) == "1").astype(np.float32)
    if len(rows) != int(lines[0][1]):
        raise DataError(f"{path}: {len(rows)} images, and the first line says {lines[0][1]}; it may be cut off")
    return names, rows


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
