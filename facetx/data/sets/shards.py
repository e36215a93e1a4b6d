"""WebDataset's tar shards, with random access: the tar headers are read once, and no package but Python's is needed.

A sample is a run of files of one name up to the first dot: the image (``.jpg``, ``.png``, ...), and its identity, a
whole number or a name, in ``.cls`` or under "label" in ``.json`` unless another place is given.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from glob import glob
from io import FileIO
from pathlib import Path, PurePosixPath

import numpy as np

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image
from facetx.data.formats.mapped import MappedFile
from facetx.data.formats.paths import Names
from facetx.data.lists.folders import EXTENSIONS, is_junk
from facetx.errors import DataError, is_resource

BRACES = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
GZIP = b"\x1f\x8b"
MOST_SHARDS = 1_000_000
LONGEST_NAME = 200
LONGEST_HEADER = 2**13
"""Bytes of what stands before a file besides its header: a longer name, attributes. A path has 4096 at most."""
LONG_NUMBER = re.compile(rb"[0-9]{256}")
"""Python's reader takes time that grows with the square of a number's length, a minute for 256 KB of digits."""
MOST_ATTRIBUTES = 20
"""Of an archive as a whole ("pax global headers"); Python's reader keeps a copy of them all with each file."""


class Shards(FaceDataset):
    """The samples of some shards as a data set; labels other than 0..C-1 are numbered anew in their order, as numbers
    where all are, else as text.

    Args:
        path: One ``.tar``, or many: with ``*`` as in a shell, or ``train-{000..099}.tar`` as WebDataset writes it.
        size: Pixels a side to resize to; as the images are, unless given.
        label: The suffix of the files that hold the identities (``txt``, ``id.cls``), or its key in ``.json``.

    Attributes:
        stored: (C,) label in the files of each class; ``identities`` are these as text.

    Raises ``DataError`` where a shard is missing, compressed or damaged, or a sample lacks its image or label.
    """

    def __init__(self, path: str, size: int | None = None, label: str | None = None):
        self.shards = [MappedFile(file) for file in shard_files(path)]
        self.size = size
        self.name = Path(path).parent.name or "shards"
        names: list[str] = []
        spans: list[tuple[int, int, int]] = []
        stored: list[int | str] = []
        for number, shard in enumerate(self.shards):
            for name, files in _samples(shard):
                where = f"{shard.path}, {name}"
                images = [span for suffix, span in files.items() if f".{suffix.lower()}" in EXTENSIONS]
                if len(images) != 1:
                    raise DataError(f"{where}: expected one image, found the files {', '.join(files)}")
                names.append(name)
                spans.append((number, *images[0]))
                stored.append(_label(shard, files, where, label))
        if not stored:
            raise DataError(f"{path}: holds no samples")
        self._names = Names(names)
        self._spans = np.array(spans, np.int64)  # (N, 3): shard, start, stop
        self.namespace = f"shards {os.path.realpath(path)}"
        self.stored = self._number_people(stored)

    def encoded(self, index: int) -> bytes:
        shard, start, stop = self._spans[index].tolist()
        data: bytes = self.shards[shard].bytes[start:stop]
        return data

    def __getitem__(self, index: int) -> Sample:
        image = decode_image(self.encoded(index), self.describe(index), self.size)
        return {"image": image, "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        return f"{self.shards[int(self._spans[index, 0])].path}, {self._names[index]}"

    def key(self, index: int) -> str:
        return f"{self._spans[index, 0]}/{self._names[index]}"

    def names_digest(self) -> str:
        return self._names.digest()

    def file_sizes(self, indices: Sequence[int]) -> list[int]:
        spans = self._spans[indices]
        sizes: list[int] = (spans[:, 2] - spans[:, 1]).tolist()
        return sizes


def shard_files(path: str) -> list[str]:
    """The files that a pattern names, sorted; ``{000..099}`` names each of its numbers, there or not."""
    if match := BRACES.search(path):
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MOST_SHARDS:
            raise DataError(f"{path}: {match[0]} names {last - first + 1} shards")
        numbers = (f"{n:0{len(match[1])}d}" for n in range(first, last + 1))
        return [f for n in numbers for f in shard_files(f"{path[: match.start()]}{n}{path[match.end() :]}")]
    if not any(c in path for c in "*?["):
        return [path]
    if not (found := sorted(glob(path))):
        raise DataError(f"{path}: names no file")
    return found


class _Headers(FileIO):
    """A tar file for Python's reader, of which only headers are read; raises ``ValueError`` for one out of bounds."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise ValueError(f"a header announces {size} bytes; at most {LONGEST_HEADER} are read")
        data = super().read(size) or b""
        if LONG_NUMBER.search(data):
            raise ValueError("a header has a number of more than 256 digits")
        return data


def _samples(shard: MappedFile) -> list[tuple[str, dict[str, tuple[int, int]]]]:
    """(name, suffix -> (start, stop)) of each sample of a shard."""
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    try:
        with _Headers(shard.path) as headers, tarfile.open(fileobj=headers, mode="r:") as tar:
            members = [m for m in _forward(tar) if m.isfile() and not any(map(is_junk, PurePosixPath(m.name).parts))]
    except Exception as error:  # besides TarError: ValueError, OSError, EOFError, ... of damaged headers
        if is_resource(error):
            raise
        if shard.bytes[:2] == GZIP:
            raise DataError(
                f"{shard.path}: is compressed, and samples are read from any place of the file; unpack it (gzip -d)"
            ) from None
        raise DataError(f"{shard.path}: no tar file, or damaged ({error})") from error
    for member in members:
        start, stop = member.offset_data, member.offset_data + member.size
        if member.sparse is not None or not 0 <= start <= stop <= shard.size:
            raise DataError(f"{shard.path}, {member.name}: ends behind the file's end; the shard is cut off or damaged")
        base = PurePosixPath(member.name).name
        stem, _, suffix = base.partition(".")
        name = member.name.removesuffix(base) + stem
        if not samples or samples[-1][0] != name:
            samples.append((name, {}))
        samples[-1][1][suffix] = (start, stop)
    return samples


def _forward(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members. Raises ``ValueError`` where one has a negative size, so that the same would come again for ever."""
    last = -1
    for member in tar:
        if member.offset <= last:
            raise ValueError(f"{member.name} has a negative size")
        if len(tar.pax_headers) > MOST_ATTRIBUTES:
            raise ValueError(f"the archive has {len(tar.pax_headers)} attributes")
        last = member.offset
        yield member


def _label(shard: MappedFile, files: dict[str, tuple[int, int]], where: str, label: str | None) -> int | str:
    kind = (label or "cls") if (label or "cls") in files else "json"
    start, stop = files.get(kind, (0, 0))
    text = shard.bytes[start:stop].decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if kind == "json":
        value = value.get(label or "label") if isinstance(value, dict) else None
    match value:
        case bool():
            pass
        case int() if abs(value) < 2**62:
            return value
        case str() if 0 < len(value) <= LONGEST_NAME and value.isprintable():
            return value
    place = f"in .{label}, or under {label!r} in .json" if label else "in .cls, or under 'label' in .json"
    raise DataError(
        f"{where}: no identity; expected a whole number or a name {place}, found the files {', '.join(files)}; "
        "the argument label says where it is"
    )
