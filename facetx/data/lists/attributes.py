"""Attributes of images, from a CSV file: a header line, then a row an image, 1, 0, -1 or nothing for each attribute.

MAAD-Face's files have 1 where an attribute holds, -1 where it does not, and 0 where that is undefined.
"""

import csv
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.data.lists.image_lists import read_lines
from facetx.errors import DataError, some

CODES = {"1": 1, "0": 0, "-1": -1, "": 2}


@dataclass(frozen=True, eq=False)
class AttributeTable:
    """What such a file says.

    Attributes:
        files: (N,) paths, as they stand there.
        names: (A,) of the attributes.
        values: (N, A) float32: 1, 0, or NaN where that is not known.
        identities: (N,) whose images they are; empty where the file does not say.
    """

    files: list[str]
    names: tuple[str, ...]
    values: NDArray[np.float32]
    identities: list[str]


def read_attribute_csv(
    path: str | Path,
    file: str | None = None,
    identity: str | None = None,
    columns: Sequence[str] | None = None,
    unknown: Literal["0", "-1"] | None = None,
) -> AttributeTable:
    """The attributes in a CSV file. An empty cell is not known.

    Args:
        path: The file.
        file: The column of the images' paths; the first one, unless given.
        identity: The column of the people's names.
        columns: Those of the attributes; all others, unless given.
        unknown: The number that means that it is not known; the other one then says that it does not hold.

    Raises ``DataError`` with the line for a row of another width, for other values, and for an image with two rows.
    """
    lines = list(read_lines(path))
    reader = csv.reader(line for _, line in lines)
    try:
        head = [name.strip() for name in next(reader, [])]
        places = _columns(path, head, file, identity, columns)
        files, people, codes = [], [], array("b")
        first: dict[str, int] = {}
        for row in reader:
            where = f"{path}:{lines[reader.line_num - 1][0]}"
            if len(row) != len(head):
                raise DataError(f"{where}: {len(row)} cells, and the header line has {len(head)}")
            image = row[places.file].strip()
            if not image or "\0" in image:
                raise DataError(f"{where}: names no image in the column {head[places.file]!r}")
            if image in first:
                raise DataError(f"{where}: {image} has a row already, in line {first[image]}")
            first[image] = lines[reader.line_num - 1][0]
            files.append(image)
            if places.identity is not None:
                people.append(row[places.identity].strip())
            codes.extend(_codes(where, head, row, places.attributes))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not a line of a CSV file ({error})") from None
    if not files:
        raise DataError(f"{path}: holds no row of an image below its header line")
    names = tuple(head[place] for place in places.attributes)
    values = np.frombuffer(codes, np.int8).reshape(len(files), len(names))
    return AttributeTable(files, names, _known(path, values, unknown), people)


@dataclass(frozen=True)
class _Columns:
    file: int
    identity: int | None
    attributes: list[int]


def _columns(
    path: str | Path, head: list[str], file: str | None, identity: str | None, columns: Sequence[str] | None
) -> _Columns:
    twice = sorted({name for name in head if head.count(name) > 1})
    if not head or twice:
        raise DataError(f"{path}:1: expected a header line of column names, each once; twice: {some(twice) or 'none'}")
    asked = [name for name in (file, identity, *(columns or ())) if name is not None]
    if absent := [name for name in asked if name not in head]:
        raise DataError(f"{path}:1: has no column {some(absent)}; its columns are {some(head, show=60)}")
    place = 0 if file is None else head.index(file)
    whose = None if identity is None else head.index(identity)
    wanted = head if columns is None else columns
    attributes = [i for i, name in enumerate(head) if name in wanted and i not in (place, whose)]
    if not attributes:
        raise DataError(f"{path}:1: has no column of an attribute beside the image's; its columns are {some(head)}")
    return _Columns(place, whose, attributes)


def _codes(where: str, head: list[str], row: list[str], places: list[int]) -> list[int]:
    try:
        return [CODES[row[place].strip()] for place in places]
    except KeyError:
        place = next(place for place in places if row[place].strip() not in CODES)
        raise DataError(
            f"{where}: the attribute {head[place]!r} is {row[place][:40]!r}, and must be 1, 0, -1 or empty; where it "
            "is no attribute, name those that are in columns"
        ) from None


def _known(path: str | Path, values: NDArray[np.int8], unknown: str | None) -> NDArray[np.float32]:
    if unknown is None and (values == 0).any() and (values == -1).any():
        raise DataError(
            f"{path}: has 0 and -1; say by unknown which of them means that it is not known: '0' in MAAD-Face"
        )
    known = (values != 2) & (True if unknown is None else values != int(unknown))
    return np.where(known, values == 1, np.nan).astype(np.float32)
