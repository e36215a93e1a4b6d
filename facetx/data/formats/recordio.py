"""MXNet's RecordIO files, in which InsightFace ships CASIA-WebFace, MS1M and Glint360K: ``train.rec``, ``train.idx``.

The layout (dmlc-core's recordio.h, MXNet's recordio.py), all little-endian::

    record    u32 0xced7230a, u32 (part << 29 | length), the payload, zeros up to a multiple of 4
    part      0 a whole record; 1, 2, 3 the first, a middle, the last piece of one in which the magic number stood
              at a multiple of 4: the magic is dropped where it is cut, and put back between the pieces
    payload   u32 flag, f32 label, u64 id, u64 id2; where flag > 0, that many f32 labels instead; the encoded image
    .idx      lines "key<tab>offset of the record"

InsightFace's face sets have, at key 0, a record of two labels and no image: the key of the first identity record,
and the key after the last. Images lie at the keys from 1 on; an identity record holds the first key of its images
and the key after their last.
"""

import os
import re
import struct
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.data.formats.mapped import MappedFile
from facetx.errors import DataError
from facetx.files import draft_file, read_file

MAGIC = struct.pack("<I", 0xCED7230A)
LENGTH_BITS = 29
HEADER = struct.Struct("<IfQQ")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Record:
    """One record's fields.

    Attributes:
        content: The encoded image; empty in header records.
        labels: (K,) float32.
        vector: Whether the labels stand after the header (flag = K) and not in it (flag = 0, K = 1).
        id, id2: By convention the key, and 0.
    """

    content: bytes
    labels: NDArray[np.float32]
    vector: bool = False
    id: int = 0
    id2: int = 0

    @classmethod
    def of(cls, content: bytes, labels: ArrayLike, id: int = 0) -> "Record":
        """One label goes into the header, several behind it."""
        values = np.atleast_1d(np.asarray(labels, np.float32))
        return cls(content, values, len(values) != 1, id)

    def pack(self) -> bytes:
        """The payload."""
        if not self.vector:
            return HEADER.pack(0, self.labels[0], self.id, self.id2) + self.content
        return (
            HEADER.pack(len(self.labels), 0.0, self.id, self.id2) + self.labels.astype("<f4").tobytes() + self.content
        )

    @classmethod
    def unpack(cls, payload: bytes, where: str) -> "Record":
        """Raises ``DataError`` that begins with ``where`` if the payload is too short for what it announces."""
        if len(payload) < HEADER.size:
            raise DataError(f"{where}: {len(payload)} bytes are too few for a record's header of {HEADER.size}")
        flag, label, id, id2 = HEADER.unpack_from(payload)
        start = HEADER.size + 4 * flag
        if start > len(payload):
            raise DataError(f"{where}: announces {flag} labels, and the record has {len(payload)} bytes")
        labels = np.frombuffer(payload, "<f4", flag, HEADER.size) if flag else np.array([label], np.float32)
        return cls(payload[start:], labels, flag > 0, id, id2)


class RecordFile:
    """Random access to the records of a ``.rec``, safe over worker processes.

    Without ``.idx`` beside it, the file is scanned once, and the keys are the records' ids, or their positions where
    ids repeat.

    Attributes:
        path: The ``.rec``.
        keys: (N,) of each record, ascending.
        offsets: (N,) in bytes.

    Raises ``DataError`` where the files are damaged, cut off, or do not belong together.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = MappedFile(self.path)
        index = self.path.with_suffix(".idx")
        keys, offsets = read_index(index) if index.exists() else self._scan()
        order = np.argsort(keys, kind="stable")
        self.keys, self.offsets = keys[order], offsets[order]
        if len(keys) == 0 or (np.diff(self.keys) == 0).any():
            raise DataError(f"{index}: {'a key stands twice' if len(keys) else 'names no record'}; {REMAKE}")
        if (last := int(offsets.max())) >= self._file.size:
            raise DataError(
                f"{self.path}: has {self._file.size} bytes, and {index.name} names a record at {last}; the .rec may be "
                f"cut off, or the two are not of one set"
            )
        in_file = np.argsort(self.offsets)
        self._ends = np.empty_like(self.offsets)  # (N,) where the next record of the file begins
        self._ends[in_file] = np.append(self.offsets[in_file[1:]], self._file.size)
        _, end = self._payload(last, self._file.size)
        if end < self._file.size:
            raise DataError(
                f"{self.path}: {self._file.size - end} bytes follow the last record that {index.name} names, up "
                f"to byte {end}; the .idx is cut off, or the two are not of one set; {REMAKE}"
            )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, position: int) -> Record:
        """The record of the key ``keys[position]``."""
        offset = int(self.offsets[position])
        return Record.unpack(self._payload(offset, int(self._ends[position]))[0], f"{self.path}, byte {offset}")

    def find(self, key: int) -> int:
        """The position of a key; -1 if there is none."""
        position = int(np.searchsorted(self.keys, key))
        return position if position < len(self) and self.keys[position] == key else -1

    def where(self, position: int) -> str:
        """For messages."""
        return f"{self.path}, record {self.keys[position]}"

    def sizes(self, positions: Ints) -> Ints:
        """(M,) bytes of each record in the file."""
        return self._ends[positions] - self.offsets[positions]

    def labels(self, positions: Ints) -> NDArray[np.float32]:
        """(M,) first label of each record, reading its header only."""
        out = np.empty(len(positions), np.float32)
        for i, place in enumerate(zip(self.offsets[positions].tolist(), self._ends[positions].tolist())):
            part, start, stop = self._part(*place)
            if part == 0 and stop - start >= HEADER.size + 4:
                flag, label = struct.unpack_from("<If", self._file.bytes, start)
                out[i] = struct.unpack_from("<f", self._file.bytes, start + HEADER.size)[0] if flag else label
            else:
                out[i] = self[positions[i]].labels[0]
        return out

    def _part(self, offset: int, end: int) -> tuple[int, int, int]:
        """The part's kind, and where its payload begins and ends.

        Raises ``DataError`` if it reaches beyond ``end``: overlapping records could be many times the file together.
        """
        data = self._file.bytes
        if data[offset : offset + 4] != MAGIC:
            raise DataError(f"{self.path}: no record begins at byte {offset}; the file is damaged or no RecordIO file")
        if offset + 8 > self._file.size:
            raise DataError(f"{self.path}: ends inside the record at byte {offset}; the file is cut off")
        (word,) = struct.unpack_from("<I", data, offset + 4)
        start = offset + 8
        stop = start + (word & (1 << LENGTH_BITS) - 1)
        if -(-stop // 4) * 4 > self._file.size:
            raise DataError(
                f"{self.path}: ends inside the record at byte {offset}, which announces {stop - start} bytes; "
                "the file is cut off or damaged"
            )
        if -(-stop // 4) * 4 > end:
            raise DataError(f"{self.path}: the record at byte {offset} reaches into the one at byte {end}; {REMAKE}")
        return word >> LENGTH_BITS, start, stop

    def _payload(self, offset: int, end: int) -> tuple[bytes, int]:
        """The payload, its pieces rejoined, and where it ends, which is not beyond ``end``."""
        part, start, stop = self._part(offset, end)
        pieces = [self._file.bytes[start:stop]]
        at = -(-stop // 4) * 4
        if part not in (0, 1):
            raise DataError(f"{self.path}: byte {offset} is inside a record, not at its beginning; {REMAKE}")
        while part in (1, 2):
            part, start, stop = self._part(at, end)
            if part not in (2, 3):
                raise DataError(f"{self.path}: the record at byte {offset} has no end before byte {at}")
            pieces.append(self._file.bytes[start:stop])
            at = -(-stop // 4) * 4
        return MAGIC.join(pieces), at

    def _scan(self) -> tuple[Ints, Ints]:
        ids, offsets, at = array("Q"), array("q"), 0
        while at < self._file.size:
            offsets.append(at)
            payload, after = self._payload(at, self._file.size)
            ids.append(Record.unpack(payload, f"{self.path}, byte {at}").id)
            at = after
        repeated = len(set(ids)) < len(ids) or max(ids) >= 2**62
        return np.array(range(len(ids)) if repeated else ids, np.int64), np.array(offsets, np.int64)


INDEX_LINES = re.compile(rb"([ \t]*+([0-9]{1,18}+[ \t]++[0-9]{1,18}+[ \t]*+)?\r?\n)*+")
"""As many lines as are blank or two whole numbers. NumPy's own reader takes 1.5 for 1 in some versions."""
REMAKE = "delete the .idx to have the .rec scanned, or make it anew"


def read_index(path: Path) -> tuple[Ints, Ints]:
    """Keys and offsets (N,) of an ``.idx``. Raises ``DataError`` with the row, from 0 on."""
    data = read_file(path)
    text = data if data.endswith(b"\n") else data + b"\n"
    good = INDEX_LINES.match(text)
    assert good is not None  # it matches nothing, too
    if good.end() < len(text):
        row, line = text.count(b"\n", 0, good.end()), text[good.end() :].partition(b"\n")[0]
        raise DataError(f"{path}: row {row}: expected 'key<tab>offset', found {line[:40]!r}; {REMAKE}")
    numbers = np.fromstring(data, np.int64, sep=" ") if data.strip() else np.empty(0, np.int64)
    keys, offsets = numbers.reshape(-1, 2).T
    return keys, offsets


class RecordWriter:
    """Writes ``path`` and its ``.idx``; both appear at the end of the ``with`` block, or not at all::

    with RecordWriter("train.rec") as out:
        out.write(0, Record.of(jpeg, label))
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self) -> "RecordWriter":
        self._stack = ExitStack()
        paths = (self.path, self.path.with_suffix(".idx"))  # renamed in the other order: the .rec appears last
        self._files = [self._stack.enter_context(draft_file(path)) for path in paths]
        self._at = 0
        return self

    def write(self, key: int, record: Record) -> None:
        """Appends a record."""
        data, index = self._files
        index.write(b"%d\t%d\n" % (key, self._at))
        pieces = list(_pieces(record.pack()))
        for i, piece in enumerate(pieces):
            part = 0 if len(pieces) == 1 else 1 if i == 0 else 3 if i == len(pieces) - 1 else 2
            if len(piece) >= 1 << LENGTH_BITS:
                raise DataError(f"{self.path}: record {key} has {len(piece)} bytes, the format holds below 512 MiB")
            padding = b"\0" * (-len(piece) % 4)
            self._at += data.write(MAGIC + struct.pack("<I", part << LENGTH_BITS | len(piece)) + piece + padding)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._stack:  # where the disk is full, this fails too, and still nothing is left
            if error is not None:
                raise error
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())


def _pieces(payload: bytes) -> Iterator[bytes]:
    """The payload without the magic numbers that stand at multiples of 4, cut there."""
    start = at = 0
    while (at := payload.find(MAGIC, at)) >= 0:
        if at % 4:
            at += 1
        else:
            yield payload[start:at]
            start = at = at + 4
    yield payload[start:]
