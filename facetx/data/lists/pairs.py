"""Lists of image pairs in the format of LFW's ``pairs.txt``, and the images that they name.

The format (http://vis-www.cs.umass.edu/lfw/README.txt), fields apart by tabs::

    10      300                         folds, pairs of each kind in a fold; "500" alone is one fold of 500 + 500
    Abel_Pacheco    1       4           same person: name, two image numbers          (300 such lines,
    Robert_Downey   1   Tommy_Shane  2  different people: name, number, name, number   then 300 such, and so on)

An image is spoken of by its key, ``Name/Name_0001``: its path below the image folder, without the suffix.

A second form of facetx's own holds pairs of any names, order and folds, its fields apart by tabs too::

    first   second  same    fold        this line
    a/001   b/7     0       1           two keys, 1 for one person or 0, the fold from 1 on
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.lists.folders import EXTENSIONS, is_image
from facetx.errors import DataError, is_resource, some
from facetx.files import read_file, write_file

KEY = re.compile(r"(?P<name>[^/]+)/(?P=name)_(?P<number>\d{4,6})")
NUMBER = re.compile(r"[0-9]{1,6}")
COLUMNS = ("first", "second", "same", "fold")


@dataclass(frozen=True)
class Pairs:
    """N pairs of images and the folds that they belong to.

    Attributes:
        first, second: Keys of the two images, ``Name/Name_0001``.
        same: (N,) bool, whether the two show one person.
        fold: (N,) int, 0..F-1.
    """

    first: list[str]
    second: list[str]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def folds(self) -> int:
        """How many folds."""
        return int(self.fold.max()) + 1

    @property
    def images(self) -> list[str]:
        """Each key once, sorted."""
        return sorted({*self.first, *self.second})

    def indices(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in ``images`` of the first and of the second image of each pair: two of (N,)."""
        place = {key: i for i, key in enumerate(self.images)}
        return np.array([place[k] for k in self.first]), np.array([place[k] for k in self.second])


def read_pairs(path: str | Path) -> Pairs:
    """Reads a pairs file of either form.

    In LFW's, with a header line, each fold must hold its same pairs and then its different pairs, in the stated
    numbers. Without one, a fold begins wherever a same pair follows a different pair, and all folds must be equally
    large. Blank lines do not count. Names that hold spaces need tabs between the fields.

    Raises ``DataError`` with the file, the line, and what was found and expected there.
    """
    path = Path(path)
    try:
        data = read_file(path)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not data.startswith("\t".join(COLUMNS).encode()):
            raise DataError(f"{path}: not a text file in UTF-8 (byte {error.start}); expected a pairs file") from None
        text = data.decode("utf-8", "surrogateescape")  # keys are names of files, which may hold any bytes

    lines = [(n, line.strip(" \t\r")) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty; expected a pairs file such as LFW's pairs.txt")
    header = _fields(lines[0][1])
    if tuple(header) == COLUMNS:
        return _key_pairs(path, lines[1:])
    if len(header) > 2:
        found = [_pair(path, n, line) for n, line in lines]
        fold = _folds_by_order(path, [same for _, _, same in found])
    else:
        folds, size = _header(path, *lines[0])
        found = [_pair(path, n, line) for n, line in lines[1:]]
        _check_order(path, [n for n, _ in lines[1:]], [same for _, _, same in found], folds, size)
        fold = np.repeat(np.arange(folds), 2 * size)
    first, second, same = zip(*found)
    return Pairs(list(first), list(second), np.array(same), fold)


def write_pairs(path: str | Path, pairs: Pairs) -> None:
    """Writes a pairs file that ``read_pairs`` takes back; the file appears whole or not at all.

    Raises ``DataError`` if the folds are not equally many same pairs, then as many different ones, or a key has
    another form than ``Name/Name_0001``.
    """
    path = Path(path)
    size = len(pairs) // (2 * pairs.folds)
    order = np.tile(np.repeat([True, False], size), pairs.folds)
    if not (np.array_equal(pairs.same, order) and np.array_equal(pairs.fold, np.arange(len(pairs)) // (2 * size))):
        raise DataError(
            f"{path}: this format holds, for each fold in turn, equally many same and then different pairs; these "
            f"{len(pairs)} pairs in {pairs.folds} folds are in another order or number"
        )
    lines = [f"{size}" if pairs.folds == 1 else f"{pairs.folds}\t{size}"]
    for first, second, same in zip(pairs.first, pairs.second, pairs.same):
        (name, i), (other, j) = _split_key(path, first), _split_key(path, second)
        if bool(same) != (name == other):
            raise DataError(f"{path}: {first} and {second} cannot be a {'same' if same else 'different'} pair by name")
        lines.append(f"{name}\t{i}\t{j}" if same else f"{name}\t{i}\t{other}\t{j}")
    write_file(path, ("\n".join(lines) + "\n").encode())


def write_key_pairs(path: str | Path, pairs: Pairs) -> None:
    """Writes any pairs in the second form, which ``read_pairs`` takes back; the file appears whole or not at all."""
    write_file(path, key_pairs_text(pairs))


def key_pairs_text(pairs: Pairs) -> bytes:
    """The content of a file of the second form. Raises ``DataError`` for a key that its lines cannot hold."""
    for key in pairs.images:
        if set(key) & set("\t\n\r\0") or key != key.strip(" "):
            raise DataError(
                f"the pairs: {key!r} holds a tab, an end of a line, or a space at an end, which a pairs file cannot "
                "hold; rename the image"
            )
    rows = zip(pairs.first, pairs.second, pairs.same.astype(int).tolist(), pairs.fold.tolist())
    lines = ["\t".join(COLUMNS), *(f"{first}\t{second}\t{same}\t{fold + 1}" for first, second, same, fold in rows)]
    return os.fsencode("\n".join(lines) + "\n")


def beside_bin(path: str | Path) -> Path:
    """Where facetx keeps the pairs of a verification file (``.bin``), in the second form: its format has no folds."""
    return Path(path).with_suffix(".pairs.txt")


def pairs_of_bin(path: str | Path, same: NDArray[np.bool_]) -> Pairs | None:
    """The pairs beside a verification file, None where there are none.

    Args:
        path: Of the ``.bin``.
        same: (N,) of its pairs.

    Raises ``DataError`` where the pairs are those of another file.
    """
    beside = beside_bin(path)
    if not beside.exists():
        return None
    pairs = read_pairs(beside)
    if not np.array_equal(pairs.same, same):
        raise DataError(
            f"{beside}: its {len(pairs)} pairs are not the {len(same)} of {Path(path).name}, whose folds it should "
            "hold; take it away, or convert the images to the .bin anew"
        )
    return pairs


def find_images(root: str | Path, keys: Iterable[str]) -> dict[str, Path]:
    """The file of each key below ``root``, whatever its image suffix; each folder is listed once.

    Names are case-sensitive. Raises ``DataError`` if images are missing (how many, the first few, where it looked)
    or if a key fits two files.
    """
    root, keys = Path(root), list(keys)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the images that the pairs name, as Name/Name_0001.jpg")
    listed: dict[str, dict[str, Path]] = {}
    found, missing = {}, []
    for key in keys:
        folder, _, stem = key.rpartition("/")
        if folder not in listed:
            listed[folder] = _list_images(root / folder)
        if stem in listed[folder]:
            found[key] = listed[folder][stem]
        else:
            missing.append(key)
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(keys)} images that the pairs name are not there: {some(missing)}. "
            f"Looked for {root / missing[0]} with the suffixes {', '.join(sorted(EXTENSIONS))}. "
            "Point to the folder that holds one folder a person, and keep LFW's file names"
        )
    return found


def _list_images(folder: Path) -> dict[str, Path]:
    """Stem -> file of the images in a folder; empty if there is no such folder."""
    files: dict[str, Path] = {}
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return files
    except OSError as error:
        if is_resource(error):
            raise
        raise DataError(f"{folder}: cannot list the folder: {error.strerror}") from None
    for name in names:
        stem = os.path.splitext(name)[0]
        if is_image(name):
            if stem in files:
                raise DataError(f"{folder}: {files[stem].name} and {name} are both image {stem}; keep one of them")
            files[stem] = folder / name
    return files


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def _header(path: Path, n: int, line: str) -> tuple[int, int]:
    """Folds, and pairs of each kind in a fold."""
    fields = _fields(line)
    if not all(NUMBER.fullmatch(f) and int(f) > 0 for f in fields):
        raise DataError(
            f"{path}:{n}: expected a header of one or two numbers above 0, folds and pairs of each kind in a fold "
            f"('10<tab>300'), or a pair; found {line[:80]!r}"
        )
    numbers = [int(f) for f in fields]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])


def _pair(path: Path, n: int, line: str) -> tuple[str, str, bool]:
    """Two keys, and whether they are one person's."""
    fields = _fields(line)
    if len(fields) not in (3, 4):
        raise DataError(
            f"{path}:{n}: expected 'name i j' for a same pair or 'name i name j' for a different pair, "
            f"found {len(fields)} fields: {line[:80]!r}"
        )
    same = len(fields) == 3
    name, i, other, j = (fields[0], fields[1], fields[0], fields[2]) if same else fields
    for person in (name, other):
        if person in ("", ".", "..") or not person.isprintable() or set(person) & set("/\\"):
            raise DataError(f"{path}:{n}: expected a name that can be a folder, found {person[:80]!r}")
    for number in (i, j):
        if not NUMBER.fullmatch(number) or int(number) == 0:
            raise DataError(f"{path}:{n}: expected an image number from 1 on, found {number[:80]!r} in {line[:80]!r}")
    if same and int(i) == int(j):
        raise DataError(f"{path}:{n}: an image is paired with itself: {line[:80]!r}")
    if not same and name == other:
        raise DataError(
            f"{path}:{n}: expected two names in a different pair, found {name!r} twice; a same pair is 'name i j'"
        )
    return _key(name, int(i)), _key(other, int(j)), same


def _key_pairs(path: Path, lines: list[tuple[int, str]]) -> Pairs:
    """The pairs of the second form."""
    rows = [line.split("\t") for _, line in lines]
    for (n, line), row in zip(lines, rows):
        if len(row) != 4 or row[2] not in ("0", "1") or not NUMBER.fullmatch(row[3]):
            raise DataError(f"{path}:{n}: expected two keys, 0 or 1, and a fold, apart by tabs, found {line[:80]!r}")
        for key in row[:2]:
            check_key(f"{path}:{n}", key)
    fold = np.array([int(row[3]) for row in rows], np.int64)
    if set(fold.tolist()) != set(range(1, fold.max(initial=1) + 1)):
        raise DataError(f"{path}: the folds are not numbered 1, 2, ...; the file may be cut off")
    same = np.array([row[2] == "1" for row in rows])
    return Pairs([row[0] for row in rows], [row[1] for row in rows], same, fold - 1)


def check_key(where: str, key: str) -> None:
    """Raises ``DataError`` that begins with ``where`` if the key leads out of the folder of the images."""
    if "\0" in key or "\\" in key or key.startswith("/") or ".." in key.split("/"):
        raise DataError(f"{where}: {key[:80]!r} is no path below a folder of images")


def _key(name: str, number: int) -> str:
    return f"{name}/{name}_{number:04d}"


def _split_key(path: Path, key: str) -> tuple[str, int]:
    match = KEY.fullmatch(key)
    if match is None:
        raise DataError(f"{path}: image key {key!r} is not of the form Name/Name_0001")
    return match["name"], int(match["number"])


def _check_order(path: Path, numbers: list[int], same: list[bool], folds: int, size: int) -> None:
    """Raises ``DataError`` at the first pair that the header does not foretell."""
    total = 2 * folds * size
    for k, (n, is_same) in enumerate(zip(numbers, same)):
        if k == total:
            raise DataError(
                f"{path}:{n}: expected the end of the file after {total} pairs ({folds} folds of {size} + {size}), "
                f"found {len(same) - total} more"
            )
        within = k % (2 * size)
        if is_same != (within < size):
            kinds = ("same", "different") if within < size else ("different", "same")
            raise DataError(
                f"{path}:{n}: expected {kinds[0]} pair {within % size + 1} of {size} of fold {k // (2 * size) + 1}, "
                f"found a {kinds[1]} pair"
            )
    if len(same) < total:
        where = f"after line {numbers[-1]} " if numbers else ""
        raise DataError(
            f"{path}: the file ends {where}with {len(same)} of {total} pairs "
            f"({folds} folds of {size} + {size} by its header); it may be cut off"
        )


def _folds_by_order(path: Path, same: list[bool]) -> NDArray[np.int64]:
    """Fold (N,) of each pair of a file without a header: a new one begins where same follows different."""
    label = np.array(same)
    fold = np.concatenate([[0], np.cumsum(label[1:] & ~label[:-1])])
    sizes = np.concatenate([np.bincount(fold, label), np.bincount(fold, ~label)])
    if (sizes != sizes[0]).any():
        raise DataError(
            f"{path}: the file has no header line, and its runs of same and different pairs are not equally long, so "
            "that the folds are not known; put a first line 'folds<tab>pairs of each kind in a fold'"
        )
    return fold
