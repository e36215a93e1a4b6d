"""Face sets in a RecordIO file: which records are images, and whose."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image
from facetx.data.formats.recordio import Ints, Record, RecordFile, RecordWriter
from facetx.errors import DataError
from facetx.files import read_file, write_file

log = logging.getLogger(__name__)

EXACT = 2**24
"""What float32 holds is a number that was meant below this; here it may be a neighbor."""
PROPERTY = re.compile(r"\s*([0-9]{1,12})\s*,\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*")


class RecordFaces(FaceDataset):
    """The images of a ``.rec`` as InsightFace ships them, or of any whose records are images with a label first.

    Labels are taken from the identity records where these cover the images without a gap, else from every image's
    own header. Labels other than 0..C-1 are numbered anew in their order, and the log says so.

    Args:
        path: The ``.rec``, or the folder of a ``train.rec``. ``property`` beside it ("classes,height,width") is
            compared with what is found, unless the ``.rec`` has another name and stands beside a ``train.rec``.
        size: Pixels a side to resize to; as the images are, unless given.

    Attributes:
        stored: (C,) label in the file of each class; ``identities`` are these as text.
        size_stated: (height, width) by ``property``, or None.

    Raises ``DataError`` where the files are damaged or cut off, or a label is no whole number.
    """

    def __init__(self, path: str, size: int | None = None):
        file = Path(path)
        file = file / "train.rec" if file.is_dir() else file
        self.file = RecordFile(file)
        self.size = size
        self.name = file.stem if file.stem != "train" else file.absolute().parent.name
        self.positions, stored = _images(self.file)
        if len(self.positions) == 0:
            raise DataError(f"{file}: holds no images")
        whole = (abs(stored) < 2**31) & (stored == np.floor(stored))  # so NaN and infinity are not
        if not whole.all():
            bad = int(np.argmin(whole))
            raise DataError(f"{self.describe(bad)}: the label {stored[bad]} is no whole number")
        if abs(stored).max() >= EXACT:
            log.warning(
                "%s: has labels up to %d, and RecordIO keeps them as float32, in which those from %d on are rounded: "
                "people with neighboring numbers may have become one. Number the identities from 0 on, and convert "
                "the set anew",
                *(file, abs(stored).max(), EXACT),
            )
        self.stored = self._number_people(stored.astype(np.int64))
        if self.stored[-1] != self.num_classes - 1 or self.stored[0] != 0:
            log.warning(
                "%s: %d identities with labels from %d to %d; they are numbered anew, 0 to %d",
                *(file, self.num_classes, self.stored[0], self.stored[-1], self.num_classes - 1),
            )
        self.namespace = f"rec {os.path.realpath(file)}"
        self.size_stated = None
        of_another = file.name != "train.rec" and file.with_name("train.rec").exists()
        if not of_another and (stated := read_property(file.with_name("property"))) is not None:
            self.size_stated = stated[1:]
            if stated[0] != self.num_classes:
                log.warning("%s: has %d identities, and property says %d", file, self.num_classes, stated[0])

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file. Raises ``DataError`` where its label is not that of its identity record."""
        record = self.file[int(self.positions[index])]
        expected = self.stored[self.labels[index]]
        if record.labels[0] != expected:
            raise DataError(
                f"{self.describe(index)}: its label is {record.labels[0]:g}, and by its identity's record {expected}"
            )
        return record.content

    def __getitem__(self, index: int) -> Sample:
        image = decode_image(self.encoded(index), self.describe(index), self.size)
        return {"image": image, "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        return self.file.where(int(self.positions[index]))

    def names_digest(self) -> str:
        return hashlib.sha256(self.file.keys[self.positions].astype("<i8").tobytes()).hexdigest()

    def file_sizes(self, indices: Sequence[int]) -> list[int]:
        return self.file.sizes(self.positions[indices]).tolist()


def read_property(path: Path) -> tuple[int, int, int] | None:
    """(identities, height, width) of a ``property`` file, None where there is none."""
    if not path.exists():
        return None
    text = read_file(path)[:200].decode("ascii", "replace")
    if (match := PROPERTY.fullmatch(text)) is None:
        raise DataError(f"{path}: expected 'classes,height,width', found {text[:60]!r}; mend or delete the file")
    return int(match[1]), int(match[2]), int(match[3])


def write_faces(
    path: str | Path, labels: Ints, names: Sequence[str], read: Callable[[int], bytes], size: tuple[int, int]
) -> None:
    """Writes a face set in InsightFace's form: ``path`` (a ``.rec``), and ``.idx`` and ``.lst`` beside it.

    Of a ``train.rec`` also ``property``, which there is one of in a folder. The ``.rec`` appears last.

    Args:
        labels: (N,) 0..C-1, of each identity at least one. The images are written in the order of these.
        names: (N,) for the ``.lst``.
        read: Index -> encoded image.
        size: (height, width) for ``property``.
    """
    path = Path(path)
    order = np.argsort(labels, kind="stable")
    stops = 1 + np.cumsum(np.bincount(labels))  # key after the last image of each identity
    first, last = int(stops[-1]), int(stops[-1]) + len(stops)
    with RecordWriter(path) as out:
        for key, index in enumerate(order.tolist(), start=1):
            out.write(key, Record.of(read(index), labels[index], key))
        out.write(0, Record.of(b"", [first, last]))
        for key, start, stop in zip(range(first, last), [1, *stops[:-1]], stops):
            out.write(key, Record.of(b"", [start, stop], key))
        listed = (f"1\t{names[index]}\t{labels[index]}\n" for index in order.tolist())
        write_file(path.with_suffix(".lst"), "".join(listed).encode())
        if path.name == "train.rec":
            write_file(path.with_name("property"), f"{len(stops)},{size[0]},{size[1]}\n".encode())


def _images(file: RecordFile) -> tuple[Ints, NDArray[np.float32]]:
    """Positions (N,) of the images, and the label (N,) of each as stored."""
    head = file.find(0)
    if head < 0 or not _is_header(file[head]):
        positions = np.arange(len(file))
        return positions, file.labels(positions)
    first, last = (_key(file, head, value) for value in file[head].labels)
    start, stop = (int(np.searchsorted(file.keys, key)) for key in (1, first))
    # A float32 above 2 ** 24 names a neighbor of the key that was meant: images have content, identities none.
    while stop < len(file) and file[stop].content:
        stop += 1
    while stop > start and not file[stop - 1].content:
        stop -= 1
    positions = np.arange(start, stop)
    identities = np.arange(stop, int(np.searchsorted(file.keys, last)))
    labels = _labels_of_ranges(file, positions, identities)
    return positions, file.labels(positions) if labels is None else labels


def _is_header(record: Record) -> bool:
    return record.vector and len(record.labels) == 2 and not record.content


def _key(file: RecordFile, position: int, value: float) -> int:
    if not 0 <= value < 2**62 or value != int(value):
        raise DataError(f"{file.where(position)}: {value} is no key of a record")
    return int(value)


def _labels_of_ranges(file: RecordFile, positions: Ints, identities: Ints) -> NDArray[np.float32] | None:
    """The label (N,) of each image from the identity records, None where these do not cover the images exactly."""
    ranges = []
    for position in identities.tolist():
        if not _is_header(record := file[position]):
            return None
        ranges.append(record.labels)
    if not len(positions) or not ranges:
        return None
    starts, stops = np.array(ranges, np.float64).T
    keys = file.keys[positions]
    edges = np.append(starts, keys[-1] + 1)
    covered = starts[0] == keys[0] and (edges[1:] == stops).all() and (np.diff(edges) > 0).all()
    if not covered or (starts % 1).any() or keys[-1] - keys[0] != len(keys) - 1:
        return None
    places = (starts - keys[0]).astype(np.int64)
    return np.repeat(file.labels(positions[places]), (stops - starts).astype(np.int64))
