"""Decoded once: a folder with all images of a set in one memory-mapped array.

``images.npy`` uint8 (N, H, W, 3), ``labels.npy`` int64 (N,), where known ``keypoints.npy`` float32 (N, 5, 2) in [0, 1],
``attributes.npy`` float32 (N, A) and ``mask.npy`` uint8 (N, H, W), ``names.txt`` a line an image (a line's end within
a name as ``\\n``, a backslash doubled), and ``index.json``. The arrays are plain ``.npy`` files, as NumPy's own.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import MAX_PIXELS
from facetx.data.formats.mapped import MappedFile
from facetx.data.formats.paths import Names
from facetx.data.sample import Map, moved
from facetx.errors import DataError, is_resource, some
from facetx.files import draft_place, open_file, read_file

FORMAT = "facetx-packed-1"
HEADER_BYTES = 128


class Packed(FaceDataset):
    """A packed set, safe over worker processes: each maps the files at its first use.

    Args:
        path: The folder.
        size: Pixels a side to resize to; as packed, unless given.

    Attributes:
        identities: (C,) names.
        image_size: (height, width) of all images as packed.
        keypoints: (N, 5, 2) float32 in [0, 1], or None.

    Raises ``DataError`` where a file is missing, cut off, or does not fit the others, or ``size`` would squash.
    """

    keys_are_files = True

    def __init__(self, path: str, size: int | None = None):
        self.path = Path(path)
        self.size = size
        self.name = self.path.name
        self.namespace = f"packed {os.path.realpath(path)}"
        index = _read_index(self.path / "index.json")
        count = index["count"]
        self.image_size: tuple[int, int] = (index["height"], index["width"])
        if size is not None and self.image_size[0] != self.image_size[1]:
            raise DataError(
                f"{path}: images of {index['width']}x{index['height']} pixels would be squashed to {size}x{size}; "
                "say crop: true beside the data set (--crop in evaluate.py), which takes the square in the middle"
            )
        self.identities = index["identities"]
        self.num_classes = len(index["identities"])
        self.attribute_names = tuple(index["attributes"])
        self.mask_classes = tuple(index["mask_classes"])
        self._escaped = index["escaped_names"]
        shapes = {"images": (count, *self.image_size, 3), "mask": (count, *self.image_size)}
        self._shapes = {name: shapes[name] for name in (("images", "mask") if self.mask_classes else ("images",))}
        self._files = {name: self._file(name) for name in self._shapes}
        self._names: Names | None = None
        self.labels = np.array(_map(self.path / "labels.npy", "<i8", (count,)))
        if self.labels.min() < 0 or self.labels.max() >= self.num_classes:
            raise DataError(f"{self.path}/labels.npy: labels outside 0..{self.num_classes - 1}; {ANEW}")
        self._small: dict[str, NDArray[np.float32]] = {}
        if index["keypoints"]:
            self._small["keypoints"] = np.array(_map(self.path / "keypoints.npy", "<f4", (count, 5, 2)))
            finite = np.isfinite(self._small["keypoints"]).all((1, 2))
            if not finite.all():
                bad = map(self.describe, np.flatnonzero(~finite)[:5].tolist())
                raise DataError(f"keypoints that are not finite: {some(bad, int((~finite).sum()))}; {ANEW}")
        if self.attribute_names:
            shape = (count, len(self.attribute_names))
            self._small["attributes"] = np.array(_map(self.path / "attributes.npy", "<f4", shape))

    @property
    def keypoints(self) -> NDArray[np.float32] | None:
        return self._small.get("keypoints")

    @property
    def attributes(self) -> NDArray[np.float32] | None:
        return self._small.get("attributes")

    def _file(self, name: str) -> MappedFile:
        path = self.path / f"{name}.npy"
        _map(path, "|u1", self._shapes[name])
        return MappedFile(path)

    def _pixels(self, name: str, index: int) -> NDArray[np.uint8]:
        shape = self._shapes[name][1:]
        count = math.prod(shape)
        start = HEADER_BYTES + index * count
        return np.frombuffer(self._files[name].bytes, np.uint8, count, start).reshape(shape).copy()

    def __getitem__(self, index: int) -> Sample:
        item: Sample = {"image": self._pixels("images", index), "label": int(self.labels[index])}
        item |= {name: values[index] for name, values in self._small.items()}
        if "mask" in self._files:
            item["mask"] = self._pixels("mask", index)
        if self.size is None or self.image_size == (self.size, self.size):
            return item
        return moved(item, Map.resize(self.image_size, (self.size, self.size)))

    def many(self, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]] | None:
        if self.size is not None and self.image_size != (self.size, self.size):
            return None
        found: dict[str, NDArray[Any]] = {"label": self.labels[indices]}
        found |= {name: values[indices] for name, values in self._small.items()}
        for name, shape in self._shapes.items():
            whole = np.frombuffer(self._files[name].bytes, np.uint8, offset=HEADER_BYTES).reshape(len(self), -1)
            found[name if name == "mask" else "image"] = whole[indices].reshape(len(indices), *shape[1:])
        return found

    def names(self) -> list[str]:
        """(N,) the images' names when they were packed, ``identity/file``."""
        return self._listed()[:]

    def _listed(self) -> Names:
        if self._names is None:
            path = self.path / "names.txt"
            lines = os.fsdecode(read_file(path)).split("\n")[:-1]
            if len(lines) != len(self):
                raise DataError(f"{path}: {len(lines)} lines for {len(self)} images; {ANEW}")
            self._names = Names(map(_unescaped, lines) if self._escaped else lines)
        return self._names

    def describe(self, index: int) -> str:
        return f"{self.path}, image {index} ({self._listed()[index]})"

    def key(self, index: int) -> str:
        return self._listed()[index]

    def names_digest(self) -> str:
        return self._listed().digest()


class PackWriter:
    """Writes a packed set; the folder appears whole at ``finish``. Killed and begun anew, it goes on where it was.

    Args:
        path: The folder to be.
        size: (height, width) of all images.
        source: What is packed, in words. A draft of another source or size is begun anew.
        attributes, mask_classes: Names of the attributes and of the masks' classes, of sets that have them.

    Attributes:
        handled: How many items of the source the draft has an answer for, in their order; begin with the next.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        source: str,
        attributes: Sequence[str] = (),
        mask_classes: Sequence[str] = (),
    ):
        self.path = Path(path)
        if self.path.exists():
            raise DataError(f"{path}: exists; name another folder, or delete this one")
        self.size, self.attributes, self.mask_classes = size, list(attributes), list(mask_classes)
        self._draft = draft_place(self.path)
        self._draft.mkdir(parents=True, exist_ok=True)
        head = json.dumps([FORMAT, source, *size, self.attributes, self.mask_classes])
        lines = self._journal_lines()
        if not lines or lines[0] != head:
            lines = [head]
        self._shapes = {"images": (*size, 3)} | ({"mask": size} if mask_classes else {})
        rows = sum(json.loads(line)[1] is None for line in lines[1:])
        full = min(self._rows_on_disk(name) for name in self._shapes)
        while rows > full:  # a row may be in the journal and not on the disk
            rows -= json.loads(lines.pop())[1] is None
        self.handled = len(lines) - 1
        (self._draft / "journal").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        self._journal = open(self._draft / "journal", "a", encoding="utf-8")  # noqa: SIM115
        self._files = {name: self._opened(name, rows) for name in self._shapes}

    def _rows_on_disk(self, name: str) -> int:
        path = self._draft / f"{name}.npy"
        return (path.stat().st_size - HEADER_BYTES) // math.prod(self._shapes[name]) if path.exists() else 0

    def _opened(self, name: str, rows: int) -> BinaryIO:
        """The file of an array of bytes, cut off behind so many rows."""
        path = self._draft / f"{name}.npy"
        file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        file.truncate(HEADER_BYTES + rows * math.prod(self._shapes[name]))
        file.seek(0, os.SEEK_END)
        return file

    def _journal_lines(self) -> list[str]:
        """The complete lines."""
        path = self._draft / "journal"
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def add(
        self,
        name: str,
        label: int,
        image: NDArray[np.uint8],
        keypoints: NDArray[np.float32] | None = None,
        attributes: NDArray[np.float32] | None = None,
        mask: NDArray[np.uint8] | None = None,
    ) -> None:
        """The next item: uint8 (H, W, 3) of the set's size; keypoints (5, 2) in [0, 1].

        ``attributes`` (A,) and ``mask`` (H, W) are given with each item of a set that has them, and with no other.
        """
        assert image.shape == (*self.size, 3), image.shape
        assert (attributes is not None) == bool(self.attributes)
        assert (mask is not None) == bool(self.mask_classes)
        self._files["images"].write(np.ascontiguousarray(image).data)
        if mask is not None:
            assert mask.shape == self.size, mask.shape
            self._files["mask"].write(np.ascontiguousarray(mask).data)
        small = [None if value is None else np.asarray(value, np.float64).tolist() for value in (keypoints, attributes)]
        self._journal.write(json.dumps([name, None, int(label), *small]) + "\n")

    def drop(self, name: str, why: str) -> None:
        """The next item of the source is left out."""
        self._journal.write(json.dumps([name, why]) + "\n")

    def flush(self) -> None:
        """What was added survives a kill from here on."""
        for file in self._files.values():
            file.flush()
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
        kept = [row for row in rows if row[1] is None]
        if not kept:
            raise DataError(f"{self.path}: no image is left; the first was dropped because: {rows[0][1]}")
        used, labels = np.unique([row[2] for row in kept], return_inverse=True)
        with_points = all(row[3] is not None for row in kept)
        for name, file in self._files.items():
            file.seek(0)
            file.write(_npy_header("|u1", (len(kept), *self._shapes[name])))
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._journal.close()
        _save(self._draft / "labels.npy", labels.astype("<i8"))
        if with_points:
            _save(self._draft / "keypoints.npy", np.array([row[3] for row in kept], "<f4"))
        if self.attributes:
            _save(self._draft / "attributes.npy", np.array([row[4] for row in kept], "<f4"))
        (self._draft / "names.txt").write_bytes(os.fsencode("".join(_escaped(row[0]) + "\n" for row in kept)))
        index = {
            "format": FORMAT,
            "count": len(kept),
            "height": self.size[0],
            "width": self.size[1],
            "keypoints": with_points,
            "attributes": self.attributes,
            "mask_classes": self.mask_classes,
            "escaped_names": True,
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
        with open_file(path) as file:
            head, found = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
        if head != expected or found != size:
            raise DataError(f"{path}: is not the array {shape} of {dtype} that index.json names, or is cut off; {ANEW}")
        return np.memmap(path, dtype, "r", HEADER_BYTES, shape)
    except OSError as error:
        if is_resource(error):
            raise
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(read_file(path))
    except DataError as error:
        raise DataError(f"{error}; expected the folder of a packed set") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error}); {ANEW}") from None
    match index:
        case {"format": "facetx-packed-1", "count": int(n), "height": int(h), "width": int(w), "keypoints": bool()} if (
            min(n, h, w) > 0 and h * w <= MAX_PIXELS and isinstance(index.get("identities"), list)
        ):
            index = {"attributes": [], "mask_classes": [], "escaped_names": False, **index}  # of earlier versions
            lists = [index[key] for key in ("identities", "attributes", "mask_classes")]
            if all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
                return index
    raise DataError(f"{path}: is not the index of a packed set ({FORMAT}); {ANEW}")


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(line: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], line)
