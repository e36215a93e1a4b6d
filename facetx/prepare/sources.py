"""Any set of face images as one kind of thing, for the tools that prepare data.

``open_source`` knows a set by what lies at its path: a ``.rec`` (or the folder of a ``train.rec``), a ``.bin``, tar
shards (``.tar``, with ``*`` or ``{000..099}`` for many), a packed folder, CelebA's (with ``identity_CelebA.txt``), a
folder of the ``datasets`` library, a folder of folders, or a list file.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.formats.codec import decode_image, encode_png, image_suffix
from facetx.data.lists.folders import list_identities
from facetx.data.lists.image_lists import read_attributes, read_names
from facetx.data.lists.landmarks import read_landmarks
from facetx.data.lists.pairs import Pairs, beside_bin, pairs_of_bin, read_pairs
from facetx.data.sets.bins import BinImages
from facetx.data.sets.hugging_face import HuggingFaceFolder
from facetx.data.sets.image_list import ImageList
from facetx.data.sets.packed import Packed
from facetx.data.sets.records import RecordFaces
from facetx.data.sets.shards import Shards
from facetx.errors import DataError, some
from facetx.files import read_file
from facetx.metrics.verification import contiguous_folds

PLAIN = re.compile(r"(?!\.{1,2}/)[^/\\\0\n]+/(?!\.{1,2}$)[^/\\\0\n]+")
"""``identity/file``, which leads nowhere else when it is joined to a folder."""
FOLDS = 10
"""Of a ``.bin`` that no folds are known of: InsightFace's evaluation takes so many contiguous parts."""


@dataclass(frozen=True)
class Source:
    """N images with their names and identities.

    Attributes:
        kind: "folder", "rec", "bin", "packed", "list", "shards" or "hugging_face".
        path: Where.
        files: What of the disk it is read from.
        identities: (C,) names.
        labels: (N,) 0..C-1.
        names: (N,) ``identity/file.ext``, each once.
        encoded: Index -> the bytes of its image file. A packed image is made a PNG.
        where: Index -> words for messages.
        pairs: Of a ``.bin``, or in a folder's ``pairs.txt``, by the names without suffix; else None.
        folds_known: Whether the folds of the pairs are in the files; else they are ``FOLDS`` contiguous parts.
        landmarks: (N, 5, 2) in pixels, NaN where unknown; None where all are.
        attribute_names, attributes: (A,) names, and (N, A) of 0 and 1; None where the files have none.
        packed: The packed set itself.
        paths: (N,) of the image files; None where images are no files of their own.
        file_labels: (C,) label of each identity in the files; None where identities have names only.
        skipped: What lies there and is no image of an identity -> why.
        left_out: What the files say besides, which goes into no other set, in words.
    """

    kind: str
    path: Path
    files: list[Path]
    identities: list[str]
    labels: NDArray[np.int64]
    names: list[str]
    encoded: Callable[[int], bytes]
    where: Callable[[int], str]
    pairs: Pairs | None = None
    folds_known: bool = True
    landmarks: NDArray[np.float32] | None = None
    attribute_names: tuple[str, ...] = ()
    attributes: NDArray[np.float32] | None = None
    packed: Packed | None = None
    paths: list[Path] | None = None
    file_labels: NDArray[np.int64] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3). Raises ``DataError`` for what is no image."""
        if self.packed is not None:
            image: NDArray[np.uint8] = self.packed[index]["image"]
            return image
        return decode_image(self.encoded(index), self.where(index))

    def fingerprint(self) -> str:
        """Another one wherever the names, labels or landmarks are others, or a file by its size or time of change."""
        digest = hashlib.sha256(repr((self.names, self.identities)).encode("utf-8", "surrogateescape"))
        digest.update(self.labels.tobytes() + np.asarray(self.landmarks).tobytes())
        for file in self.files:
            if file.exists():
                state = file.stat()
                digest.update(f"{state.st_size} {state.st_mtime_ns} ".encode())
        return f"{self.path} {digest.hexdigest()}"

    def keys(self) -> dict[str, int]:
        """Index of each image by its name without suffix, as pairs files speak of it."""
        return {name.rpartition(".")[0]: i for i, name in enumerate(self.names)}


def open_source(
    path: str | Path,
    landmarks: str | Path | None = None,
    root: str | Path | None = None,
    label: str | None = None,
) -> Source:
    """Opens a set of images. Raises ``DataError`` where it is none, or is damaged.

    Args:
        path: See the head of this file.
        landmarks: Their file (``facetx.data.lists.landmarks``), with rows by the names of the images, or by those of
            the files alone where no two are the same. Unless given, the one that was written with the set.
        root: Folder that the paths of a list start from, or CelebA's images.
        label: Where shards or a folder of the ``datasets`` library have the identities.
    """
    path = Path(path)
    beside = path / "landmarks.csv"
    if path.suffix == ".rec" or (path / "train.rec").exists():
        source = _records(path)
        beside = source.path.with_suffix(".landmarks.csv")
    elif path.suffix == ".bin":
        source = _bin(path)
    elif path.suffix == ".tar":
        source = _shards(path, label)
    elif (path / "index.json").exists():
        source = _packed(path)
    elif (path / "identity_CelebA.txt").exists():
        source = _celeba(path, path / "img_align_celeba" if root is None else Path(root))
    elif (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        source = _hugging_face(path, label)
    elif path.is_dir():
        source = _folder(path)
    elif path.is_file():
        source = _list(path, root)
    else:
        raise DataError(f"{path}: nothing is there; expected a folder, a .rec, a .bin, a .tar or a list file")
    if landmarks is None and not beside.exists():
        return source
    rows = read_landmarks(beside if landmarks is None else landmarks)
    names = source.names
    files = [name.rpartition("/")[2] for name in names]
    if len(set(files)) == len(files) and not any(name in rows for name in names):
        names = files
    unknown = np.full((5, 2), np.nan, np.float32)
    return replace(source, landmarks=np.stack([rows.get(name, unknown) for name in names]))


def _folder(root: Path) -> Source:
    listing = list_identities(root)
    identities = list(listing.images)
    labels = np.repeat(np.arange(len(identities)), [len(files) for files in listing.images.values()])
    names = [f"{who}/{file}" for who, files in listing.images.items() for file in files]
    if not names:
        raise DataError(f"{root}: holds no images; expected {root}/<identity>/<image>")
    paths = [root / name for name in names]
    source = Source(
        "folder", root, [*paths, root / "pairs.txt"], identities, labels, names,
        lambda i: read_file(paths[i]), lambda i: str(paths[i]), paths=paths, skipped=listing.left_out,
    )  # fmt: skip
    return replace(source, pairs=_pairs_in(root / "pairs.txt", source))


def _pairs_in(path: Path, source: Source) -> Pairs | None:
    """The pairs of a folder; where they are no pairs of its images, what it has skipped says so."""
    if not path.exists():
        return None
    try:
        pairs = read_pairs(path)
    except DataError as error:
        source.skipped[path.name] = str(error)
        return None
    missing = set(pairs.images) - set(source.keys())
    if missing:
        source.skipped[path.name] = (
            f"names {len(missing)} images that are not in the folder: {some(sorted(missing), show=2)}"
        )
        return None
    return pairs


def _list(path: Path, root: str | Path | None) -> Source:
    data = ImageList(str(path), None if root is None else str(root))
    names = ["/".join(p.parts[-2:]) for p in data.paths]
    folders = [names[i].split("/")[0] for i in np.unique(data.labels, return_index=True)[1].tolist()]
    if not _names_fit(names, data.labels) or folders != sorted(folders):  # else other numbers would come of them
        files = [p.name for p in data.paths]
        once = len(set(files)) == len(files)
        folders = _numbered(data.stored)
        rows = enumerate(zip(data.labels.tolist(), files))
        names = [f"{folders[label]}/{file if once else f'{i:08d}_{file}'}" for i, (label, file) in rows]
    return Source(
        "list", path, [path, *data.paths], folders, data.labels, names, data.encoded, data.describe,
        paths=list(data.paths), file_labels=data.stored,
    )  # fmt: skip


def _celeba(path: Path, images: Path) -> Source:
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; name the one of CelebA's images (--root)")
    source = _list(path / "identity_CelebA.txt", images)
    source = replace(source, path=path, left_out="partition, by another file of CelebA")
    listed = path / "list_attr_celeba.txt"
    if not listed.exists():
        return source
    names, rows = read_attributes(listed)
    files = [file.name for file in source.paths or ()]
    missing = [name for name in files if name not in rows]
    if missing:
        raise DataError(f"{listed}: has no attributes of {len(missing)} images: {some(missing, show=3)}")
    attributes = np.stack([rows[name] for name in files])
    return replace(source, files=[*source.files, listed], attribute_names=tuple(names), attributes=attributes)


def _records(path: Path) -> Source:
    data = RecordFaces(str(path))
    path = data.file.path
    listed = path.with_suffix(".lst")
    names = read_names(listed, len(data)) if listed.exists() else None
    if names is None or not _names_fit(names, data.labels):
        folders = _numbered(data.stored)
        rows = enumerate(zip(data.labels.tolist(), data.file.keys[data.positions].tolist()))
        names = [f"{folders[label]}/{key:08d}{_suffix(data.encoded, i)}" for i, (label, key) in rows]
    first = np.unique(data.labels, return_index=True)[1]
    identities = [names[i].split("/")[0] for i in first.tolist()]
    width = len(data.file[int(data.positions[0])].labels)
    return Source(
        "rec", path, [path, path.with_suffix(".idx")], identities, data.labels, names, data.encoded, data.describe,
        file_labels=data.stored, left_out=f"labels 2 to {width} of each record" if width > 1 else None,
    )  # fmt: skip


def _shards(path: Path, label: str | None) -> Source:
    data = Shards(str(path), label=label)
    return _numbered_source("shards", path, data, [shard.path for shard in data.shards])


def _hugging_face(path: Path, label: str | None) -> Source:
    data = HuggingFaceFolder(str(path), label=label or "label")
    return _numbered_source("hugging_face", path, data, sorted(path.rglob("*.arrow")))


def _numbered_source(kind: str, path: Path, data: Shards | HuggingFaceFolder, files: list[Path]) -> Source:
    """Images that have no names of their own."""
    whole = data.stored.dtype.kind == "i"
    texts = [str(identity) for identity in data.stored.tolist()]
    plain = not whole and all(PLAIN.fullmatch(f"{text}/x") for text in texts)
    folders = texts if plain else _numbered(data.stored if whole else np.arange(len(texts)))
    rows = enumerate(data.labels.tolist())
    names = [f"{folders[label]}/{i:08d}{_suffix(data.encoded, i)}" for i, label in rows]
    return Source(
        kind, path, files, folders, data.labels, names, data.encoded, data.describe,
        file_labels=data.stored if whole else None,
    )  # fmt: skip


def _numbered(labels: NDArray[np.int64]) -> list[str]:
    """Names that sort as these numbers do."""
    width = max(7, len(str(labels.max())))
    return [f"{label:0{width}d}" for label in labels.tolist()]


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
    listed = pairs_of_bin(path, data.same)
    fold = contiguous_folds(len(data.same), min(FOLDS, len(data.same))) if listed is None else listed.fold
    return Source(
        "bin", path, [path, beside_bin(path)], identities, labels, names, lambda i: data.encoded(first[i]),
        lambda i: data.describe(first[i]), pairs=Pairs(keys[::2], keys[1::2], data.same, fold),
        folds_known=listed is not None,
    )  # fmt: skip


def _packed(path: Path) -> Source:
    data = Packed(str(path))
    names = data.names()
    if not _names_fit(names, data.labels):
        raise DataError(f"{path}/names.txt: expected lines 'identity/file', each once")
    points = None
    if data.keypoints is not None:
        points = data.keypoints * np.array(data.image_size[::-1], np.float32)
    return Source(
        "packed", path, sorted(path.iterdir()), list(data.identities), data.labels, names,
        lambda i: encode_png(data[i]["image"]), lambda i: f"{path}, image {i} ({names[i]})", landmarks=points,
        attribute_names=data.attribute_names, attributes=data.attributes, packed=data,
        file_labels=np.arange(data.num_classes), left_out="masks" if data.mask_classes else None,
    )  # fmt: skip


def _suffix(encoded: Callable[[int], bytes], index: int) -> str:
    try:
        return image_suffix(encoded(index), "")
    except DataError:
        return ".img"  # found out where the image is read
