"""Decoded once: a folder with all images of a set in one memory-mapped array.

``images.npy`` uint8 (N, H, W, 3), ``labels.npy`` int64 (N,), where known ``keypoints.npy`` float32 (N, 5, 2) in [0, 1],
``names.txt`` a line an image, and ``index.json``. The arrays are plain ``.npy`` files, as NumPy's own.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import MAX_PIXELS, resize
from facetx.errors import DataError
from facetx.files import draft_place

FORMAT = "facetx-packed-1"
HEADER_BYTES = 128


class Packed(FaceDataset):
    """A packed set, safe over worker processes: each maps the file at its first use.

    Args:
        path: The folder.
        size: Pixels a side to resize to; as packed, unless given.

    Attributes:
        identities: (C,) names.
        image_size: (height, width) of all images as packed.
        keypoints: (N, 5, 2) float32 in [0, 1], or None.

    Raises ``DataError`` where a file is missing, cut off, or does not fit the others.
    """

    def __init__(self, path: str, size: int | None = None):
        self.path = Path(path)
        self.size = size
        self.name = self.path.name
        index = _read_index(self.path / "index.json")
        count = index["count"]
        self.image_size: tuple[int, int] = (index["height"], index["width"])
        self.identities = index["identities"]
        self.num_classes = len(index["identities"])
        self._shape = (count, *self.image_size, 3)
        _map(self.path / "images.npy", "|u1", self._shape)
        self._images: NDArray[np.uint8] | None = None
        self.labels = np.array(_map(self.path / "labels.npy", "<i8", (count,)))
        if self.labels.min() < 0 or self.labels.max() >= self.num_classes:
            raise DataError(f"{self.path}/labels.npy: labels outside 0..{self.num_classes - 1}; {ANEW}")
        self.keypoints = None
        if index["keypoints"]:
            self.keypoints = np.array(_map(self.path / "keypoints.npy", "<f4", (count, 5, 2)))

    def __getitem__(self, index: int) -> Sample:
        if self._images is None:
            self._images = _map(self.path / "images.npy", "|u1", self._shape)
        image = np.array(self._images[index])
        if self.size is not None:
            image = resize(image, self.size)
        item = {"image": image, "label": int(self.labels[index])}
        if self.keypoints is not None:
            item["keypoints"] = self.keypoints[index]
        return item

    def names(self) -> list[str]:
        """(N,) the images' names when they were packed, ``identity/file``."""
        try:
            names = (self.path / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}/names.txt: cannot be read ({error}); {ANEW}") from None
        if len(names) != len(self):
            raise DataError(f"{self.path}/names.txt: {len(names)} lines for {len(self)} images; {ANEW}")
        return names

    def describe(self, index: int) -> str:
        return f"{self.path}, image {index} ({self.names()[index]})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}


class PackWriter:
    """Writes a packed set; the folder appears whole at ``finish``. Killed and begun anew, it goes on where it was.

    Args:
        path: The folder to be.
        size: (height, width) of all images.
        source: What is packed, in words. A draft of another source or size is begun anew.

    Attributes:
        handled: How many items of the source the draft has an answer for, in their order; begin with the next.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], source: str):
        self.path = Path(path)
        if self.path.exists():
            raise DataError(f"{path}: exists; name another folder, or delete this one")
        self.size = size
        self._draft = draft_place(self.path)
        self._draft.mkdir(parents=True, exist_ok=True)
        head = json.dumps([FORMAT, source, *size])
        lines = self._journal_lines()
        if not lines or lines[0] != head:
            lines = [head]
        images = self._draft / "images.npy"
        rows = sum(json.loads(line)[1] is None for line in lines[1:])
        full = (images.stat().st_size - HEADER_BYTES) // self._row if images.exists() else 0
        while rows > full:  # a row may be in the journal and not on the disk
            rows -= json.loads(lines.pop())[1] is None
        self.handled = len(lines) - 1
        (self._draft / "journal").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        self._journal = open(self._draft / "journal", "a", encoding="utf-8")  # noqa: SIM115
        self._images = open(images, "r+b" if images.exists() else "w+b")  # noqa: SIM115
        self._images.truncate(HEADER_BYTES + rows * self._row)
        self._images.seek(0, os.SEEK_END)

    @property
    def _row(self) -> int:
        return self.size[0] * self.size[1] * 3

    def _journal_lines(self) -> list[str]:
        """The complete lines."""
        path = self._draft / "journal"
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def add(
        self, name: str, label: int, image: NDArray[np.uint8], keypoints: NDArray[np.float32] | None = None
    ) -> None:
        """The next item: uint8 (H, W, 3) of the set's size; keypoints (5, 2) in [0, 1]."""
        assert image.shape == (*self.size, 3), image.shape
        self._images.write(np.ascontiguousarray(image).data)
        points = None if keypoints is None else np.asarray(keypoints, np.float64).tolist()
        self._journal.write(json.dumps([name, None, int(label), points]) + "\n")

    def drop(self, name: str, why: str) -> None:
        """The next item of the source is left out."""
        self._journal.write(json.dumps([name, why]) + "\n")

    def flush(self) -> None:
        """What was added survives a kill from here on."""
        self._images.flush()
        self._journal.flush()

    def dropped(self) -> dict[str, str]:
        """What is left out so far, also by a run that was killed: name -> why."""
        return {row[0]: row[1] for row in self._rows() if row[1] is not None}

    def _rows(self) -> list[list[Any]]:
        self.flush()
        return [json.loads(line) for line in self._journal_lines()[1:]]

    def finish(self, identities: list[str]) -> None:
        """Makes the folder appear. Classes without an image go, and the others are numbered anew in their order.

        Args:
            identities: Names by label.

        Raises ``DataError`` if nothing is left.
        """
        rows = self._rows()
        os.fsync(self._images.fileno())
        kept = [row for row in rows if row[1] is None]
        if not kept:
            raise DataError(f"{self.path}: no image is left; the first was dropped because: {rows[0][1]}")
        used, labels = np.unique([row[2] for row in kept], return_inverse=True)
        with_points = all(row[3] is not None for row in kept)
        self._images.seek(0)
        self._images.write(_npy_header("|u1", (len(kept), *self.size, 3)))
        self._images.close()
        self._journal.close()
        _save(self._draft / "labels.npy", labels.astype("<i8"))
        if with_points:
            _save(self._draft / "keypoints.npy", np.array([row[3] for row in kept], "<f4"))
        (self._draft / "names.txt").write_text(
            "".join(row[0].replace("\n", " ") + "\n" for row in kept), encoding="utf-8"
        )
        index = {
            "format": FORMAT,
            "count": len(kept),
            "height": self.size[0],
            "width": self.size[1],
            "keypoints": with_points,
            "identities": [identities[i] for i in used.tolist()],
        }
        (self._draft / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")
        (self._draft / "journal").unlink()
        self._draft.rename(self.path)


ANEW = "pack the set anew"


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The header of a ``.npy`` file of version 1.0, at one length for every shape."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.encode().ljust(HEADER_BYTES - 11) + b"\n"


def _save(path: Path, array: NDArray[Any]) -> None:
    path.write_bytes(_npy_header(array.dtype.str, array.shape) + array.tobytes())


def _map(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    expected = _npy_header(dtype, shape)
    size = HEADER_BYTES + int(np.dtype(dtype).itemsize) * int(np.prod(shape, dtype=object))
    try:
        with open(path, "rb") as file:
            head, found = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
        if head != expected or found != size:
            raise DataError(f"{path}: is not the array {shape} of {dtype} that index.json names, or is cut off; {ANEW}")
        return np.memmap(path, dtype, "r", HEADER_BYTES, shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}; expected the folder of a packed set"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); {ANEW}") from None
    match index:
        case {"format": "facetx-packed-1", "count": int(n), "height": int(h), "width": int(w), "keypoints": bool()} if (
            min(n, h, w) > 0 and h * w <= MAX_PIXELS and isinstance(index.get("identities"), list)
        ):
            if all(isinstance(name, str) for name in index["identities"]):
                return index
    raise DataError(f"{path}: is not the index of a packed set ({FORMAT}); {ANEW}")
