"""Any set of face images as one kind of thing, for the tools that prepare data.

``open_source`` knows a set by what lies at its path: a ``.rec`` (or the folder of a ``train.rec``), a ``.bin``, a
packed folder, a folder of folders, or a list file.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.bins import BinImages
from facetx.data.codec import decode_image, encode_png, image_suffix
from facetx.data.folder import EXTENSIONS
from facetx.data.landmarks import read_landmarks
from facetx.data.lists import ImageList, read_names
from facetx.data.packed import Packed
from facetx.data.pairs import Pairs
from facetx.data.records import RecordFaces
from facetx.errors import DataError

PLAIN = re.compile(r"(?!\.{1,2}/)[^/\\\0\n]+/(?!\.{1,2}$)[^/\\\0\n]+")
"""``identity/file``, which leads nowhere else when it is joined to a folder."""


@dataclass(frozen=True)
class Source:
    """N images with their names and identities.

    Attributes:
        kind: "folder", "rec", "bin", "packed" or "list".
        path: Where.
        identities: (C,) names.
        labels: (N,) 0..C-1.
        names: (N,) ``identity/file.ext``, each once.
        encoded: Index -> the bytes of its image file. A packed image is made a PNG.
        where: Index -> words for messages.
        pairs: Of a ``.bin``, by the names without suffix; else None.
        landmarks: (N, 5, 2) in pixels, NaN where unknown; None where all are.
        packed: The packed set itself.
    """

    kind: str
    path: Path
    identities: list[str]
    labels: NDArray[np.int64]
    names: list[str]
    encoded: Callable[[int], bytes]
    where: Callable[[int], str]
    pairs: Pairs | None = None
    landmarks: NDArray[np.float32] | None = None
    packed: Packed | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3). Raises ``DataError`` for what is no image."""
        if self.packed is not None:
            image: NDArray[np.uint8] = self.packed[index]["image"]
            return image
        return decode_image(self.encoded(index), self.where(index))

    def keys(self) -> dict[str, int]:
        """Index of each image by its name without suffix, as pairs files speak of it."""
        return {name.rpartition(".")[0]: i for i, name in enumerate(self.names)}


def open_source(path: str | Path, landmarks: str | Path | None = None) -> Source:
    """Opens a set of images. Raises ``DataError`` where it is none, or is damaged.

    Args:
        path: See the head of this file.
        landmarks: CSV file (``facetx.data.landmarks``) with rows by the names of the images.
    """
    path = Path(path)
    if path.suffix == ".rec" or (path / "train.rec").exists():
        source = _records(path)
    elif path.suffix == ".bin":
        source = _bin(path)
    elif (path / "index.json").exists():
        source = _packed(path)
    elif path.is_dir():
        source = _folder(path)
    elif path.is_file():
        source = _list(path)
    else:
        raise DataError(f"{path}: nothing is there; expected a folder, a .rec, a .bin, or a list file")
    if landmarks is None:
        return source
    rows = read_landmarks(landmarks)
    unknown = np.full((5, 2), np.nan, np.float32)
    return replace(source, landmarks=np.stack([rows.get(name, unknown) for name in source.names]))


def _folder(root: Path) -> Source:
    identities: list[str] = []
    labels: list[int] = []
    names: list[str] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        files = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)
        if files:
            names += [f"{folder.name}/{file}" for file in files]
            labels += [len(identities)] * len(files)
            identities.append(folder.name)
    if not names:
        raise DataError(f"{root}: holds no images; expected {root}/<identity>/<image>")
    return Source(
        "folder",
        root,
        identities,
        np.array(labels),
        names,
        lambda i: _read(root / names[i]),
        lambda i: str(root / names[i]),
    )


def _list(path: Path) -> Source:
    data = ImageList(str(path))
    identities = [str(label) for label in data.identities]
    names = [f"{identities[label]}/{i:08d}_{p.name}" for i, (label, p) in enumerate(zip(data.labels, data.paths))]
    return Source("list", path, identities, data.labels, names, lambda i: _read(data.paths[i]), data.describe)


def _records(path: Path) -> Source:
    data = RecordFaces(path)
    listed = data.file.path.with_suffix(".lst")
    names = read_names(listed, len(data)) if listed.exists() else None
    if names is None or not _names_fit(names, data.labels):
        numbers = data.identities[data.labels].tolist()
        keys = data.file.keys[data.positions].tolist()
        names = [f"{n:07d}/{key:08d}{_suffix(data.encoded, i)}" for i, (n, key) in enumerate(zip(numbers, keys))]
    first = np.unique(data.labels, return_index=True)[1]
    identities = [names[i].split("/")[0] for i in first.tolist()]
    return Source("rec", data.file.path, identities, data.labels, names, data.encoded, data.describe)


def _names_fit(names: list[str], labels: NDArray[np.int64]) -> bool:
    """Whether these are plain ``identity/file`` names, each once, with one folder for each label."""
    if len(set(names)) < len(names) or not all(map(PLAIN.fullmatch, names)):
        return False
    folders = [name.split("/")[0] for name in names]
    of_label: dict[int, str] = {}
    fits = all(of_label.setdefault(label, folder) == folder for label, folder in zip(labels.tolist(), folders))
    return fits and len(set(of_label.values())) == len(of_label)


def _bin(path: Path) -> Source:
    """Identities are what the same pairs join; equal files are one image, but for the two of one pair."""
    data = BinImages(path)
    digests = [hashlib.sha256(data.encoded(i)).digest() for i in range(len(data))]
    content = [(digest, i % 2 == 1 and digest == digests[i - 1]) for i, digest in enumerate(digests)]
    place: dict[tuple[bytes, bool], int] = {}
    image_of = [place.setdefault(key, len(place)) for key in content]
    first = np.unique(image_of, return_index=True)[1].tolist()
    joined = list(range(len(place)))

    def root(i: int) -> int:
        while joined[i] != i:
            joined[i] = joined[joined[i]]
            i = joined[i]
        return i

    for pair, same in enumerate(data.same.tolist()):
        if same:
            joined[root(image_of[2 * pair + 1])] = root(image_of[2 * pair])
    labels = np.unique([root(i) for i in range(len(place))], return_inverse=True)[1]
    identities = [f"person{label:06d}" for label in range(labels.max() + 1)]
    seen: dict[int, int] = {}
    names = []
    for i, label in zip(first, labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        names.append(f"{identities[label]}/{identities[label]}_{seen[label]:04d}{_suffix(data.encoded, i)}")
    keys = [names[i].rpartition(".")[0] for i in image_of]
    fold = np.concatenate([[0], np.cumsum(data.same[1:] & ~data.same[:-1])])  # a new one where same follows different
    return Source(
        "bin", path, identities, labels, names, lambda i: data.encoded(first[i]), lambda i: data.describe(first[i]),
        pairs=Pairs(keys[::2], keys[1::2], data.same, fold),
    )  # fmt: skip


def _packed(path: Path) -> Source:
    data = Packed(path)
    names = data.names()
    if not _names_fit(names, data.labels):
        raise DataError(f"{path}/names.txt: expected lines 'identity/file', each once")
    points = None
    if data.keypoints is not None:
        points = data.keypoints * np.array(data.image_size[::-1], np.float32)
    return Source(
        "packed", path, data.identities, data.labels, names, lambda i: encode_png(data[i]["image"]),
        lambda i: f"{path}, image {i} ({names[i]})", landmarks=points, packed=data,
    )  # fmt: skip


def _suffix(encoded: Callable[[int], bytes], index: int) -> str:
    try:
        return image_suffix(encoded(index))
    except DataError:
        return ".img"  # found out where the image is read


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
