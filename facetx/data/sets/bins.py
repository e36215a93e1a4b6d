"""InsightFace's verification files (``lfw.bin``, ``cfp_fp.bin``, ...): a pickle of (images, is_same).

``images`` holds 2N encoded images, as bytes or as arrays of uint8, those of one pair side by side; ``is_same`` N bools.
"""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image
from facetx.data.formats.mapped import MappedFile
from facetx.data.formats.pickles import Array, Span, read_pickle
from facetx.errors import DataError
from facetx.files import draft_file


class BinImages(FaceDataset):
    """The 2N images of a verification file as a data set without identities.

    Args:
        path: The file, of any pickle protocol, from Python 2 or 3.
        size: Pixels a side to resize to; as the images are, unless given.

    Attributes:
        same: (N,) bool, whether images 2i and 2i + 1 show one person.

    Raises ``DataError`` for a file that is damaged, cut off, or holds anything else.
    """

    def __init__(self, path: str | Path, size: int | None = None):
        self.file = MappedFile(path)
        self.size = size
        self.name = self.file.path.stem
        match read_pickle(self.file):
            case [list() as images, list() | tuple() as same]:
                pass
            case _:
                raise DataError(f"{path}: expected a pair of lists, the images and which pairs are of one person")
        for i, flag in enumerate(same):
            if not isinstance(flag, int) or flag not in (0, 1):
                raise DataError(f"{path}: pair {i + 1}: expected true or false, found a {type(flag).__name__}")
        if not same or len(images) != 2 * len(same):
            raise DataError(f"{path}: {len(images)} images do not make {len(same)} pairs")
        self._spans = [self._span(i, image) for i, image in enumerate(images)]
        self.same = np.array(same, bool)
        self.labels = np.zeros(len(images), np.int64)
        self.num_classes = 1

    def _span(self, index: int, image: Any) -> Span:
        match image:
            case Span():
                return image
            case Array(dtype="u1" | "|u1" | "uint8", span=Span() as span):
                return span
        raise DataError(f"{self.describe(index)}: expected bytes or an array of uint8, found {type(image).__name__}")

    def encoded(self, index: int) -> bytes:
        return self._spans[index].read(self.file)

    def __getitem__(self, index: int) -> Sample:
        return {"image": decode_image(self.encoded(index), self.describe(index), self.size), "label": 0}

    def describe(self, index: int) -> str:
        return f"{self.file.path}, image {index + 1} (pair {index // 2 + 1})"


def write_bin(path: str | Path, images: Iterable[bytes], same: ArrayLike) -> None:
    """Writes a verification file that InsightFace's tools read too; it appears whole or not at all.

    Args:
        images: 2N encoded images, those of one pair side by side.
        same: (N,) bool.
    """
    content = list(images), np.asarray(same, bool).tolist()
    if len(content[0]) != 2 * len(content[1]):
        raise DataError(f"{path}: {len(content[0])} images do not make {len(content[1])} pairs")
    with draft_file(path) as file:
        pickle.dump(content, file, protocol=4)
