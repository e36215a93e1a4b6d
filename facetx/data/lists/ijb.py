"""The lists of IJB-B and IJB-C, as they circulate beside the cropped images.

``<name>_face_tid_mid.txt`` (image, template, medium), ``<name>_template_pair_label.txt`` (template, template, 0 or 1),
``<name>_name_5pts_score.txt`` (image, five points in pixels, detector score), and for 1:N the CSV files of the
galleries and the probes (template, subject, ...), where ``<name>`` is ``ijbb`` or ``ijbc``.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError
from facetx.files import open_file, read_file

Ints = NDArray[np.int64]
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Media:
    """N images, and which template and medium each belongs to.

    Attributes:
        images: (N,) file names.
        templates, media: (N,).
    """

    images: list[str]
    templates: Ints
    media: Ints


def read_media(path: str | Path) -> Media:
    """Reads ``<name>_face_tid_mid.txt``. Raises ``DataError`` with the line."""
    images, numbers = [], []
    for n, fields in _lines(path, 3, "image template medium"):
        images.append(fields[0])
        numbers.append(_whole(path, n, fields[1:]))
    templates, media = np.array(numbers, np.int64).T
    return Media(images, templates, media)


def read_points(path: str | Path) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Images (N,), keypoints (N, 5, 2) in pixels and detector scores (N,) of ``<name>_name_5pts_score.txt``.

    Raises ``DataError`` with the line.
    """
    images, numbers = [], []
    for n, fields in _lines(path, 12, "image x1 y1 ... x5 y5 score"):
        images.append(fields[0])
        try:
            numbers.append([float(field) for field in fields[1:]])
        except ValueError:
            raise DataError(f"{path}:{n}: expected eleven numbers, found {' '.join(fields[1:])[:80]!r}") from None
        if not (np.abs(numbers[-1]) < FLOAT32_MAX).all():  # so NaN is not
            raise DataError(f"{path}:{n}: a number is not finite")
    found = np.array(numbers, np.float32)
    return images, found[:, :10].reshape(-1, 5, 2), found[:, 10]  # (N, 10) -> (N, 5, 2)


def read_template_pairs(path: str | Path) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """First templates (P,), second templates (P,) and whether they show one person (P,), of a file of many lines.

    Raises ``DataError`` with the line.
    """
    try:
        with open_file(path) as file:
            rows = np.loadtxt(file, dtype=np.int64, ndmin=2, comments=None)
    except ValueError as error:  # of UTF-8 too
        if isinstance(error, DataError):
            raise
        rows = np.empty((0, 0), np.int64)
    if rows.shape[1] != 3 or not np.isin(rows[:, 2], (0, 1)).all() or rows.min() < 0:
        slow = []  # names the line, and knows a byte order mark
        for n, fields in _lines(path, 3, "template template 0 or 1"):
            slow.append(_whole(path, n, fields))
            if slow[-1][2] not in (0, 1):
                raise DataError(f"{path}:{n}: expected 0 or 1 in the third place, found {fields[2]!r}")
        rows = np.array(slow, np.int64)
    return rows[:, 0], rows[:, 1], rows[:, 2] == 1


def read_subjects(path: str | Path) -> tuple[Ints, Ints]:
    """Templates (T,), each once and rising, and their subjects (T,), of a gallery's or the probes' CSV file.

    The first two columns count, the first line is the header. Raises ``DataError`` with the line.
    """
    subject: dict[int, int] = {}
    try:
        rows = list(csv.reader(_text(path).splitlines()))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    for n, fields in enumerate(rows[1:], start=2):
        if not fields:
            continue
        if len(fields) < 2:
            raise DataError(f"{path}:{n}: expected 'template,subject,...', found {','.join(fields)[:80]!r}")
        number, person = _whole(path, n, fields[:2])
        if subject.setdefault(number, person) != person:
            raise DataError(f"{path}:{n}: template {number} is of subject {person}, and of {subject[number]} above")
    if not subject:
        raise DataError(f"{path}: holds no templates; expected a header and 'template,subject,...' lines")
    templates = sorted(subject)
    return np.array(templates), np.array([subject[t] for t in templates])


def _lines(path: str | Path, count: int, form: str) -> list[tuple[int, list[str]]]:
    """(number, fields) of each line that is not blank, all of ``count`` fields."""
    found = []
    for n, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.split()
        if fields and len(fields) != count:
            raise DataError(f"{path}:{n}: expected '{form}', found {line[:80]!r}")
        if fields:
            found.append((n, fields))
    if not found:
        raise DataError(f"{path}: the file is empty; expected '{form}' lines")
    return found


def _text(path: str | Path) -> str:
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _whole(path: str | Path, n: int, fields: Sequence[str]) -> list[int]:
    if not all(field.isascii() and field.isdigit() and len(field) <= 18 for field in fields):
        raise DataError(f"{path}:{n}: expected whole numbers, found {' '.join(fields)[:80]!r}")
    return [int(field) for field in fields]
