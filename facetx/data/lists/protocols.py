"""The official pairs of the benchmarks that have files of their own kind, as ``facetx.data.lists.pairs.Pairs``.

Keys are the images' paths below the benchmark's image folder, without suffix; ``find_images`` finds them there.

======== =========================== ==================================================================================
CALFW    ``pairs_CALFW.txt``         two lines a pair, ``Name_0001.jpg fold``: 1 to 10 for one person, 0 for two; images
                                     in one folder. The folds of the pairs of two people are not in the file: they are
                                     dealt in its order.
CPLFW    ``pairs_CPLFW.txt``         likewise
SLLFW    ``pair_SLLFW.txt``          two lines a pair, ``Name/Name_0001.jpg``, on LFW's images; one person where the
                                     names agree; folds are contiguous
AgeDB-30 ``agedb_30_pair.txt``       a line a pair, ``image image 1`` or ``0``; folds are contiguous
CFP      ``Protocol/``               ``Pair_list_F.txt``, ``Pair_list_P.txt`` number the frontal and profile images;
                                     ``Split/FF/01/same.txt`` and so on pair the numbers, ``i,j`` a line
======== =========================== ==================================================================================
"""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from facetx.data.lists.image_lists import read_lines, read_list
from facetx.data.lists.pairs import Pairs, check_key
from facetx.errors import DataError
from facetx.metrics.verification import contiguous_folds

FOLDS = 10


def read_calfw(path: str | Path) -> Pairs:
    """CALFW's or CPLFW's pairs. Raises ``DataError`` with the file and what is wrong."""
    images, tokens = read_list(path)
    for n in range(0, len(tokens) - 1, 2):
        if tokens[n] != tokens[n + 1] or tokens[n] > FOLDS:
            raise DataError(
                f"{path}: pair {n // 2 + 1} is marked {tokens[n]} and {tokens[n + 1]}; expected one fold, 0 to 10"
            )
    token = np.array(tokens[::2])
    same = token > 0
    fold = token - 1
    fold[~same] = _contiguous(path, int((~same).sum()))
    return _pairs(path, images, same, fold)


def read_sllfw(path: str | Path) -> Pairs:
    """SLLFW's pairs. Raises ``DataError`` with the file and what is wrong."""
    images = [line.strip() for _, line in read_lines(path)]
    names = [image.split("/")[0] for image in images]
    same = np.array([a == b for a, b in zip(names[::2], names[1::2])])
    return _pairs(path, images, same, _contiguous(path, len(same)))


def read_agedb(path: str | Path) -> Pairs:
    """Pairs of ``image image 1`` lines, as AgeDB-30's are passed on. Raises ``DataError`` with the line."""
    images, same = [], []
    for n, line in read_lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) != 3 or fields[2] not in ("0", "1"):
            raise DataError(f"{path}:{n}: expected 'image image 1' or 'image image 0', found {line[:80]!r}")
        images += fields[:2]
        same.append(fields[2] == "1")
    return _pairs(path, images, np.array(same), _contiguous(path, len(same)))


def read_cfp(protocol: str | Path, kind: Literal["FF", "FP"]) -> Pairs:
    """CFP's pairs: 10 folds of 350 + 350, each the same pairs first.

    Args:
        protocol: The folder ``Protocol``.
        kind: "FF" frontal with frontal, "FP" frontal with profile.

    Raises ``DataError`` with the file and what is wrong.
    """
    folder = Path(protocol)
    frontal = _numbered(folder / "Pair_list_F.txt")
    second = frontal if kind == "FF" else _numbered(folder / "Pair_list_P.txt")
    images: list[str] = []
    same: list[bool] = []
    fold: list[int] = []
    for number in range(FOLDS):
        for name in ("same", "diff"):
            file = folder / "Split" / kind / f"{number + 1:02d}" / f"{name}.txt"
            for n, line in read_lines(file):
                i, _, j = (part.strip() for part in line.partition(","))
                if i not in frontal or j not in second:
                    raise DataError(f"{file}:{n}: expected 'i,j', numbers of the pair lists, found {line[:80]!r}")
                images += [frontal[i], second[j]]
                same.append(name == "same")
                fold.append(number)
    return _pairs(folder, images, np.array(same), np.array(fold))


def _numbered(path: Path) -> dict[str, str]:
    """Number -> path below ``Images`` of a CFP pair list, ``1 ../Data/Images/001/frontal/01.jpg`` a line."""
    found = {}
    for n, line in read_lines(path):
        number, *image = line.split(None, 1)
        _, slash, below = "".join(image).partition("Images/")
        if not slash or not number.isdigit():
            raise DataError(f"{path}:{n}: expected 'number ../Data/Images/...', found {line[:80]!r}")
        found[number] = below
    return found


def _contiguous(path: str | Path, pairs: int) -> np.ndarray:
    if pairs < FOLDS:
        raise DataError(f"{path}: {pairs} pairs do not make {FOLDS} folds; the file may be cut off")
    return contiguous_folds(pairs, FOLDS)


def _pairs(path: str | Path, images: list[str], same: np.ndarray, fold: np.ndarray) -> Pairs:
    """``images`` are those of the pairs in turn, with suffixes."""
    if len(images) != 2 * len(same) or not len(same):
        raise DataError(f"{path}: {len(images)} images do not make pairs; the file may be cut off")
    for image in images:
        check_key(str(path), image)
    keys = [str(PurePosixPath(image).with_suffix("")) if image.strip("/.") else image for image in images]
    return Pairs(keys[::2], keys[1::2], same, fold)
