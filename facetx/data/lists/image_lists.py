"""Text files that list images: ``path label`` lines, InsightFace's and MXNet's ``.lst``, and CelebA's annotations.

Names in them may be any that a file system has: what is no UTF-8 comes as Python has it in text (``os.fsdecode``).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError
from facetx.files import read_file, write_file

NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?")
OTHER_TEXT = (b"\xff\xfe", b"\xfe\xff")
"""The first bytes of a text in UTF-16."""


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each line that is not blank, without spaces at its end. Raises ``DataError``."""
    data = read_file(path)
    if data.startswith(OTHER_TEXT):
        raise DataError(f"{path}: is a text in UTF-16; save it in UTF-8")
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    for n, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield n, line.rstrip()


def read_list(path: str | Path) -> tuple[list[str], list[int]]:
    """Paths (N,) and labels (N,) of a list file, in the order of its lines, which are all of one form.

    - ``path<tab or space>label``; paths may hold spaces;
    - InsightFace's ``aligned<tab>path<tab>label``, where more may follow;
    - MXNet's ``number<tab>label<tab>path``; of several labels the first counts.

    Labels are whole numbers from 0 on. Raises ``DataError`` with the line.
    """
    paths, labels, form = [], [], ""
    for n, line in read_lines(path):
        fields = line.split("\t")
        form = form or _form(fields)
        try:
            named, label = _FORMS[form](line, fields)
        except (ValueError, IndexError):
            raise DataError(f"{path}:{n}: expected {form!r}, found {line[:80]!r}") from None
        if not named or "\0" in named:
            raise DataError(f"{path}:{n}: expected {form!r}, found {line[:80]!r}")
        paths.append(named)
        labels.append(label)
    if not paths:
        raise DataError(f"{path}: the file is empty; expected {OWN!r} lines")
    return paths, labels


OWN, INSIGHTFACE, MXNET = "path<tab or space>label", "aligned<tab>path<tab>label", "number<tab>label<tab>path"


def _form(fields: list[str]) -> str:
    """Which form a line is of."""
    if len(fields) >= 3 and fields[0].isdecimal():
        if all(map(NUMBER.fullmatch, fields[1:-1])):
            return MXNET
        if fields[0] in ("0", "1") and NUMBER.fullmatch(fields[2]):
            return INSIGHTFACE
    return OWN


def _own_line(line: str, fields: list[str]) -> tuple[str, int]:
    if "\t" in line:
        path, _, label = line.rpartition("\t")
        return path, _whole(label)
    path, label = line.rsplit(None, 1)
    return path.lstrip(), _whole(label)


def _mxnet_line(line: str, fields: list[str]) -> tuple[str, int]:
    if len(fields) < 3:
        raise ValueError
    return fields[-1], _whole(fields[1])


_FORMS = {OWN: _own_line, INSIGHTFACE: lambda line, fields: (fields[1], _whole(fields[2])), MXNET: _mxnet_line}


def _whole(text: str) -> int:
    """A label from 0 on; MXNet writes 3 as 3.000000."""
    if not (match := re.fullmatch(r"([0-9]{1,18})(\.0*)?", text.strip(" "), re.ASCII)):
        raise ValueError
    return int(match[1])


def write_list(path: str | Path, paths: list[str], labels: list[int]) -> None:
    """Writes a list file; it appears whole or not at all.

    Raises ``DataError`` for a path that its lines cannot hold.
    """
    for name in paths:
        if set(name) & set("\t\n\r\0"):
            raise DataError(
                f"{path}: {name!r} holds a tab or an end of a line, which a list file cannot hold; rename the file, or "
                "convert the set to another kind"
            )
    write_file(path, "".join(f"{p}\t{label}\n" for p, label in zip(paths, labels)))


def read_names(path: str | Path, count: int) -> list[str] | None:
    """``identity/file`` of each image in a ``.lst`` of InsightFace or MXNet, whatever its labels are.

    None where it has another number of lines than ``count``. Raises ``DataError`` with the line.
    """
    names = []
    for n, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) < 3:
            raise DataError(f"{path}:{n}: expected three fields apart by tabs, found {line[:80]!r}")
        named = fields[-1] if _form(fields) == MXNET else fields[1]
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
