"""Converts any set of face images into a folder, a RecordIO set, a verification file, a packed set or a list."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facetx.data.bins import write_bin
from facetx.data.codec import image_suffix, resize
from facetx.data.folder import unit_hash
from facetx.data.lists import write_list
from facetx.data.packed import PackWriter
from facetx.data.pairs import Pairs, read_pairs, write_pairs
from facetx.data.prepare import Report, track, why_unreadable
from facetx.data.records import write_faces
from facetx.data.sources import Source
from facetx.errors import DataError

KINDS = ("folder", "rec", "bin", "packed", "list")


def kind_of(out: str | Path) -> str:
    """What a path asks for by its ending: .rec, .bin, .txt a list, .packed; else a folder."""
    return {".rec": "rec", ".bin": "bin", ".txt": "list", ".packed": "packed"}.get(Path(out).suffix, "folder")


def check_target(source: Source, out: Path, kind: str) -> None:
    """Raises ``DataError`` where ``out`` exists, or is to be a list of images that are no files of their own."""
    if out.exists():
        raise DataError(f"{out}: exists; name another place, or delete it")
    if kind == "list" and source.kind not in ("folder", "list"):
        raise DataError(
            f"{source.path}: a list names image files, and these images are in one file; convert to a folder"
        )


def convert(
    source: Source,
    out: str | Path,
    kind: str | None = None,
    pairs: str | Path | None = None,
    size: int | None = None,
) -> Report:
    """Writes ``source`` to ``out``; what cannot be decoded is dropped and named in the report.

    Image files go over byte by byte, so nothing is lost on the way to a folder, a ``.rec`` or a ``.bin`` and back;
    packed sets hold pixels, and become PNGs.

    Args:
        out: Must not exist. Written beside and renamed. A folder or packed set that was cut short is gone on with.
        kind: One of ``KINDS``; by the ending of ``out`` unless given.
        pairs: For a ``.bin``: a pairs file that names the images; not needed where the source is a ``.bin``.
        size: For a packed set: pixels a side to resize to.

    Raises ``DataError`` where nothing is left, or the source cannot become that.
    """
    out = Path(out)
    kind = kind_of(out) if kind is None else kind
    check_target(source, out, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report("convert", str(source.path), str(out), len(source), facts={"from": source.kind, "to": kind})
    if kind == "packed":
        report.dropped = pack(source, out, size)
    elif kind == "bin":
        _to_bin(source, out, pairs)
    else:
        whys = [why_unreadable(source, i) for i in track(len(source), "check")]
        report.dropped = {source.names[i]: why for i, why in enumerate(whys) if why is not None}
        kept = [i for i, why in enumerate(whys) if why is None]
        if not kept:
            raise DataError(f"{source.path}: no image can be read; the first: {whys[0]}")
        part = subset(source, kept)
        {"folder": _to_folder, "rec": _to_rec, "list": _to_list}[kind](part, out)
    if source.pairs is not None and kind == "folder":
        report.facts["pairs"] = "left out: images that they name were dropped"
        if not report.dropped:
            report.facts["pairs"] = _pairs_beside(out / "pairs.txt", source.pairs)
    elif source.pairs is not None and kind != "bin":
        report.facts["pairs"] = f"{len(source.pairs)} left out: the format holds none"
    return report


def subset(source: Source, indices: list[int]) -> Source:
    """Some images of a source, their identities numbered anew in their order."""
    used, labels = np.unique(source.labels[indices], return_inverse=True)
    return replace(
        source,
        identities=[source.identities[i] for i in used.tolist()],
        labels=labels,
        names=[source.names[i] for i in indices],
        encoded=lambda i: source.encoded(indices[i]),
        where=lambda i: source.where(indices[i]),
        landmarks=None if source.landmarks is None else source.landmarks[indices],
        packed=None,
    )


def pack(source: Source, out: str | Path, size: int | None = None) -> dict[str, str]:
    """Decodes a source once into a packed set (``facetx.data.packed``). Goes on where it was cut short.

    Args:
        size: Pixels a side to resize to. Unless given, images of another size than the first readable one are dropped.

    Returns what was dropped, name -> why.
    """
    shape = _first_size(source) if size is None else (size, size)
    writer = PackWriter(out, shape, f"{source.path} {len(source)}")
    done = writer.handled
    for i in track(len(source) - done, "pack"):
        index, name = i + done, source.names[i + done]
        try:
            image = source.image(index)
        except DataError as error:
            writer.drop(name, str(error))
            continue
        points = _keypoints(source, index, image.shape)
        if size is not None:
            image = resize(image, size)
        h, w = image.shape[:2]
        if (h, w) == shape:
            writer.add(name, int(source.labels[index]), image, points)
        else:
            writer.drop(name, f"{w}x{h} pixels, the first image has {shape[1]}x{shape[0]}")
        if i % 1000 == 999:
            writer.flush()
    return writer.finish(source.identities)


def _first_size(source: Source) -> tuple[int, int]:
    """(height, width) of the first image that can be read."""
    for i in range(len(source)):
        if why_unreadable(source, i) is None:
            height, width = source.image(i).shape[:2]
            return height, width
    raise DataError(f"{source.path}: no image can be read; the first: {why_unreadable(source, 0)}")


def split(source: Source, out: str | Path, val_identities: float = 0.1, seed: int = 0, kind: str = "list") -> Report:
    """Writes two parts that share no identity, ``train`` and ``val`` below ``out``.

    Args:
        val_identities: Share of the identities in ``val``, in 0..1. Which ones is a function of their names and
            ``seed`` alone, the same as that of ``image_folder``.
        kind: What to write: one of ``KINDS`` but "bin".
    """
    held = [unit_hash(name, seed) < val_identities for name in source.identities]
    parts = {"train": [], "val": []}  # type: dict[str, list[int]]
    for i, label in enumerate(source.labels.tolist()):
        parts["val" if held[label] else "train"].append(i)
    if not parts["train"] or not parts["val"]:
        raise DataError(
            f"{source.path}: at val_identities={val_identities} one part of the {len(held)} identities is empty; "
            "choose another share or seed"
        )
    suffix = {"rec": "/train.rec", "list": ".txt"}.get(kind, "")
    report = Report("split", str(source.path), str(out), len(source), facts={"to": kind, "seed": seed})
    for part, indices in parts.items():
        chosen = subset(source, indices)
        done = convert(chosen, Path(out) / f"{part}{suffix}", kind)
        report.dropped |= done.dropped
        report.facts[part] = {"identities": len(chosen.identities), "images": len(chosen) - len(done.dropped)}
    return report


def draft_folder(out: Path, source: str) -> Path:
    """The folder beside ``out`` to write into: an earlier one of the same source, to go on with, or a new one."""
    draft = out.with_name(out.name + ".part")
    marker = draft / ".source"
    if draft.exists() and (not marker.exists() or marker.read_text(encoding="utf-8") != source):
        shutil.rmtree(draft)
    draft.mkdir(exist_ok=True)
    marker.write_text(source, encoding="utf-8")
    return draft


def finish_folder(draft: Path, out: Path) -> None:
    """The draft becomes ``out``."""
    (draft / ".source").unlink()
    draft.rename(out)


def write_file(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(data)
    draft.replace(path)


def fitting_name(name: str, data: bytes) -> str:
    """The name, with the ending that fits the bytes where its own is of another kind of image."""
    stem, dot, suffix = name.rpartition(".")
    fitting = image_suffix(data)
    same = {"jpeg": ".jpg", "tiff": ".tif"}.get(suffix.lower(), dot + suffix.lower())
    return name if same == fitting else (stem or name) + fitting


def _to_folder(source: Source, out: Path) -> None:
    draft = draft_folder(out, f"{source.path} {len(source)}")
    for i in track(len(source), "write"):
        target = draft / source.names[i]
        target.parent.mkdir(exist_ok=True)
        data = source.encoded(i)
        target = target.with_name(fitting_name(target.name, data))
        if not target.exists():
            write_file(target, data)
    finish_folder(draft, out)


def _to_rec(source: Source, out: Path) -> None:
    size = source.image(0).shape[:2]
    write_faces(out, source.labels, source.names, source.encoded, size)


def _to_list(source: Source, out: Path) -> None:
    paths = [os.path.relpath(source.where(i), out.parent) for i in range(len(source))]
    write_list(out, paths, source.labels.tolist())


def _to_bin(source: Source, out: Path, pairs_file: str | Path | None) -> None:
    """Damaged images stop this: a benchmark without some of its pairs is another benchmark."""
    pairs = source.pairs if pairs_file is None else read_pairs(pairs_file)
    if pairs is None:
        raise DataError(f"{out}: a .bin holds pairs; name the pairs file of these images (--pairs)")
    place = source.keys()
    missing = [key for key in pairs.images if key not in place]
    if missing:
        raise DataError(f"{source.path}: has no image {missing[0]} ({len(missing)} of {len(pairs.images)} are missing)")
    for i in sorted(place[key] for key in pairs.images):
        if (why := why_unreadable(source, i)) is not None:
            raise DataError(why)
    keys = [key for pair in zip(pairs.first, pairs.second) for key in pair]
    write_bin(out, (source.encoded(place[key]) for key in keys), pairs.same)


def _pairs_beside(path: Path, pairs: Pairs) -> str:
    try:
        write_pairs(path, pairs)
    except DataError as error:
        return f"left out: {error}"
    return f"{len(pairs)} in {path.name}"


def _keypoints(source: Source, index: int, shape: tuple[int, ...]) -> Any:
    """(5, 2) in [0, 1], None where they are not known."""
    if source.landmarks is None or not np.isfinite(source.landmarks[index]).all():
        return None
    return source.landmarks[index] / np.array([shape[1], shape[0]], np.float32)
