"""Text files that list images: ``path label`` lines, InsightFace's and MXNet's ``.lst``, and CelebA's annotations."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
