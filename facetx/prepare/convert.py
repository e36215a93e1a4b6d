"""Converts any set of face images into a folder, a RecordIO set, a verification file, a packed set or a list."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from facetx.data.formats.codec import image_suffix, resize
from facetx.data.lists.image_lists import write_list
from facetx.data.lists.landmarks import relative, write_landmarks
from facetx.data.lists.pairs import Pairs, beside_bin, key_pairs_text, read_pairs, write_key_pairs, write_pairs
from facetx.data.sets.bins import write_bin
from facetx.data.sets.folder import unit_hash
from facetx.data.sets.packed import PackWriter
from facetx.data.sets.records import write_faces
from facetx.errors import ConfigError, DataError, some
from facetx.files import draft_folder, finish_folder, lock, read_file, write_file
from facetx.prepare.report import Report, track, why_unreadable
from facetx.prepare.sources import Source

KINDS = ("folder", "rec", "bin", "packed", "list")
NOT_SQUARE = "not square, and resized to a square it would be squashed; align or crop it"


def kind_of(out: str | Path) -> str:
    """What a path asks for by its ending: .rec, .bin, .txt a list, .packed; else a folder."""
    return {".rec": "rec", ".bin": "bin", ".txt": "list", ".packed": "packed"}.get(Path(out).suffix, "folder")


def check_target(source: Source, out: Path, kind: str) -> None:
    """Raises ``DataError`` where ``out`` exists, or is to be a list of images that are no files of their own."""
    if out.exists():
        raise DataError(f"{out}: exists; name another place, or delete it")
    if kind == "list" and source.paths is None:
        raise DataError(
            f"{source.path}: a list names image files, and these images are in one file; convert to a folder"
        )


def convert(
    source: Source,
    out: str | Path,
    kind: str | None = None,
    pairs: str | Path | None = None,
    size: int | None = None,
    report_file: str | Path | None = None,
    report: Report | None = None,
) -> Report:
    """Writes ``source`` to ``out``; what cannot be decoded is dropped and named in the report.

    Image files go over byte by byte, so nothing is lost on the way to a folder, a ``.rec`` or a ``.bin`` and back;
    packed sets hold pixels, and become PNGs. Landmarks go into a packed set, or a CSV file in the folder or beside the
    ``.rec``; the folds of a ``.bin`` into a list of its pairs beside it. ``open_source`` takes both from there. What
    has no place in ``out`` is named in the report's facts.

    Args:
        out: Must not exist. Written beside and renamed. A folder or packed set that was cut short is gone on with, if
            the source has not changed; a single file is begun anew.
        kind: One of ``KINDS``; by the ending of ``out`` unless given.
        pairs: For a ``.bin``: a pairs file that names the images; not needed where the source has its pairs.
        size: For a packed set: pixels a side to resize to; of square images only.
        report_file: Where the report goes, before ``out`` appears.
        report: Of a tool whose last step this is, to add to and save, in place of a new one.

    Raises ``DataError`` where nothing is left, the source cannot become that, or another process is writing ``out``;
    ``ConfigError`` for a size or pairs that this kind has no use for.
    """
    out = Path(out)
    kind = kind_of(out) if kind is None else kind
    if size is not None and kind != "packed":
        raise ConfigError(f"{out}: only a packed set is resized, not a {kind}; leave the size ({size}) out, or pack")
    if pairs is not None and kind != "bin":
        raise ConfigError(f"{out}: only a .bin takes a pairs file, not a {kind}; leave {pairs} out")
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report.of("convert", source, out, report_file) if report is None else report
    with lock(out, *_files_beside(out, kind)):
        _write(source, out, kind, report, pairs, size)
    return report


def _files_beside(out: Path, kind: str) -> list[Path]:
    suffixes = {"rec": (".idx", ".lst", ".landmarks.csv"), "bin": (".pairs.txt",)}.get(kind, ())
    return [out.with_suffix(suffix) for suffix in suffixes]


def _write(
    source: Source,
    out: Path,
    kind: str,
    report: Report,
    pairs: str | Path | None = None,
    size: int | None = None,
) -> None:
    check_target(source, out, kind)
    report.facts |= {"from": source.kind, "to": kind, **_left_out(source, kind)}
    if kind == "packed":
        _pack(source, out, report, size)
    elif kind == "bin":
        _to_bin(source, out, report, pairs)
    else:
        {"folder": _to_folder, "rec": _to_rec, "list": _to_list}[kind](source, out, report)


def _left_out(source: Source, kind: str) -> dict[str, str]:
    """What of the source has no place in a set of this kind, in words."""
    facts = {}
    if source.left_out is not None:
        facts["left_out"] = source.left_out
    if source.attributes is not None and kind != "packed":
        facts["attributes"] = f"left out, since only packed sets hold them: {len(source.attribute_names)}"
    labels = source.file_labels
    if labels is not None and kind != "folder" and not np.array_equal(labels, np.arange(len(labels))):
        facts["labels"] = f"numbered anew, 0..{len(labels) - 1}; they were {labels[0]}..{labels[-1]}"
    if source.landmarks is not None and kind in ("list", "bin"):
        facts["landmarks"] = "left out: the format holds none"
    if source.pairs is not None and kind not in ("folder", "bin"):
        facts["pairs"] = f"{len(source.pairs)} left out: the format holds none"
    elif source.pairs is not None and not source.folds_known:
        facts["folds"] = f"{source.pairs.folds} contiguous ones, as InsightFace takes them: none are in the files"
    return facts


def readable(source: Source, report: Report) -> Source:
    """What of the source can be decoded; the report says of the rest why not."""
    whys = [why_unreadable(source, i) for i in track(len(source), "check")]
    report.dropped |= {source.names[i]: why for i, why in enumerate(whys) if why is not None}
    kept = [i for i, why in enumerate(whys) if why is None]
    if not kept:
        raise DataError(f"{source.path}: no image can be read; the first: {whys[0]}")
    return subset(source, kept)


def subset(source: Source, indices: list[int]) -> Source:
    """Some images of a source, their identities numbered anew in their order; without its pairs."""
    used, labels = np.unique(source.labels[indices], return_inverse=True)
    return replace(
        source,
        identities=[source.identities[i] for i in used.tolist()],
        labels=labels,
        names=[source.names[i] for i in indices],
        encoded=lambda i: source.encoded(indices[i]),
        where=lambda i: source.where(indices[i]),
        landmarks=None if source.landmarks is None else source.landmarks[indices],
        attributes=None if source.attributes is None else source.attributes[indices],
        paths=None if source.paths is None else [source.paths[i] for i in indices],
        file_labels=None if source.file_labels is None else source.file_labels[used],
        pairs=None,
        packed=None,
    )


def _pack(source: Source, out: Path, report: Report, size: int | None) -> None:
    """Decodes a source once into a packed set (``facetx.data.sets.packed``). Goes on where it was cut short.

    Unless a size is given, images of another one than the first readable image are dropped; with it, those that are not
    square.
    """
    shape = _first_size(source) if size is None else (size, size)
    writer = PackWriter(out, shape, source.fingerprint(), source.attribute_names)
    done = writer.handled
    for i in track(len(source) - done, "pack"):
        index, name = i + done, source.names[i + done]
        try:
            image = source.image(index)
        except DataError as error:
            writer.drop(name, str(error))
            continue
        points = None
        if source.landmarks is not None and np.isfinite(source.landmarks[index]).all():
            points = relative(source.landmarks[index], image.shape[1], image.shape[0])
        h, w = image.shape[:2]
        if size is not None and h != w:
            writer.drop(name, f"{w}x{h} pixels: {NOT_SQUARE}")
            continue
        if size is not None:
            image, h, w = resize(image, size), size, size
        if (h, w) == shape:
            attributes = None if source.attributes is None else source.attributes[index]
            writer.add(name, int(source.labels[index]), image, points, attributes)
        else:
            writer.drop(name, f"{w}x{h} pixels, the first image has {shape[1]}x{shape[0]}")
        if i % 1000 == 999:
            writer.flush()
    report.dropped |= writer.dropped()
    if source.landmarks is not None:
        unknown = np.flatnonzero(~np.isfinite(source.landmarks).all((1, 2))).tolist()
        without = [source.names[i] for i in unknown if source.names[i] not in report.dropped]
        report.facts["landmarks"] = (
            f"left out: {len(without)} images have none, {some(without, show=2)}" if without else "of all"
        )
    report.save()
    writer.finish(source.identities)


def _first_size(source: Source) -> tuple[int, int]:
    """(height, width) of the first image that can be read."""
    first = None
    for i in range(len(source)):
        try:
            height, width = source.image(i).shape[:2]
        except DataError as error:
            first = first or error
            continue
        return height, width
    raise DataError(f"{source.path}: no image can be read; the first: {first}")


def split(
    source: Source,
    out: str | Path,
    val_identities: float = 0.1,
    seed: int = 0,
    kind: str = "list",
    report_file: str | Path | None = None,
) -> Report:
    """Writes two parts that share no identity, ``train`` and ``val`` in the folder ``out``.

    Args:
        out: Must not exist. A split of the same source that was cut short is gone on with.
        val_identities: Share of the identities in ``val``, in 0..1. Which ones is a function of their names and
            ``seed`` alone, the same as that of ``image_folder``, so the share of a few is rarely that one; the report
            has both.
        kind: What to write: one of ``KINDS`` but "bin".
        report_file: Where the report goes, before ``out`` appears.
    """
    out = Path(out)
    if not 0 <= val_identities <= 1:
        raise ConfigError(f"val_identities must be in 0..1, got {val_identities}")
    held = [unit_hash(name, seed) < val_identities for name in source.identities]
    parts: dict[str, list[int]] = {"train": [], "val": []}
    for i, label in enumerate(source.labels.tolist()):
        parts["val" if held[label] else "train"].append(i)
    if not parts["train"] or not parts["val"]:
        raise DataError(
            f"{source.path}: at val_identities={val_identities} one part of the {len(held)} identities is empty; "
            "choose another share or seed"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report.of("split", source, out, report_file)
    report.facts |= {"to": kind, "seed": seed, **_left_out(source, kind)}
    report.facts["val_identities"] = {"asked_for": val_identities, "drawn": round(sum(held) / len(held), 4)}
    if source.pairs is not None:
        report.facts["pairs"] = f"{len(source.pairs)} left out: neither part has all of their images"
    with lock(out):
        check_target(source, out, kind)
        draft = draft_folder(out, f"{source.fingerprint()} {val_identities} {seed} {kind}")
        for part, indices in parts.items():
            _write_part(subset(source, indices), draft, part, kind, report)
        report.save()
        finish_folder(draft, out, *(draft / f".{part}.json" for part in parts))
    return report


def _write_part(chosen: Source, draft: Path, part: str, kind: str, report: Report) -> None:
    """One part of a split, unless an earlier try has written it, after its own report."""
    suffix = {"rec": "/train.rec", "list": ".txt"}.get(kind, "")
    target, saved = draft / f"{part}{suffix}", draft / f".{part}.json"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        _write(chosen, target, kind, Report.of("convert", chosen, target, saved))
    done = json.loads(saved.read_text(encoding="utf-8"))
    report.dropped |= done["dropped"]
    report.facts[part] = {"identities": len(chosen.identities), "images": len(chosen) - len(done["dropped"])}
    if kind == "packed" and "landmarks" in done["facts"]:
        report.facts[part]["landmarks"] = done["facts"]["landmarks"]


def fitting_name(name: str, data: bytes, where: str) -> str:
    """The name, with the ending that fits the bytes where its own is of another kind of image."""
    stem, dot, suffix = name.rpartition(".")
    fitting = image_suffix(data, where)
    same = {"jpeg": ".jpg", "tiff": ".tif"}.get(suffix.lower(), dot + suffix.lower())
    return name if same == fitting else (stem or name) + fitting


def _to_folder(source: Source, out: Path, report: Report) -> None:
    draft = draft_folder(out, source.fingerprint())
    taken, kept, names = set(source.names), [], []
    for i in track(len(source), "write"):
        try:
            data, name = source.encoded(i), source.names[i]
            fitting = fitting_name(name, data, source.where(i))
            name = name if fitting in taken else fitting
            taken.add(name)
            if not (draft / name).exists():
                source.image(i)  # raises where it cannot be decoded
                (draft / name).parent.mkdir(exist_ok=True)
                write_file(draft / name, data)
        except DataError as error:
            report.dropped[source.names[i]] = str(error)
            continue
        kept.append(i)
        names.append(name)
    if not kept:
        shutil.rmtree(draft)
        raise DataError(f"{source.path}: no image can be read; the first: {report.dropped[source.names[0]]}")
    if source.landmarks is not None:
        write_landmarks(draft / "landmarks.csv", names, source.landmarks[kept])
    if source.pairs is not None:
        lost = {name.rpartition(".")[0] for name in report.dropped} & set(source.pairs.images)
        report.facts["pairs"] = (
            f"left out: {len(lost)} images that they name were dropped, {some(sorted(lost), show=2)}"
            if lost
            else _pairs_beside(draft / "pairs.txt", source.pairs)
        )
    report.save()
    finish_folder(draft, out)


def _to_rec(source: Source, out: Path, report: Report) -> None:
    source = readable(source, report)
    if source.landmarks is not None:
        write_landmarks(out.with_suffix(".landmarks.csv"), source.names, source.landmarks)
    report.save()
    write_faces(out, source.labels, source.names, source.encoded, source.image(0).shape[:2])


def _to_list(source: Source, out: Path, report: Report) -> None:
    source = readable(source, report)
    assert source.paths is not None
    paths = [os.path.relpath(path, out.parent) for path in source.paths]
    report.save()
    write_list(out, paths, source.labels.tolist())


def _to_bin(source: Source, out: Path, report: Report, pairs_file: str | Path | None) -> None:
    """Damaged images stop this: a benchmark without some of its pairs is another benchmark. So are its folds, which go
    beside the file."""
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
    beside, text = beside_bin(out), key_pairs_text(pairs)
    if beside.exists() and read_file(beside) != text:  # an equal one is of an earlier try that was killed
        raise DataError(f"{beside}: exists, and is where the folds of {out.name} go; move it, or name another place")
    report.facts["pairs"] = f"{len(pairs)} in {pairs.folds} folds, which {beside.name} keeps: a .bin has none"
    report.save()
    write_file(beside, text)
    write_bin(out, (source.encoded(place[key]) for key in keys), pairs.same)


def _pairs_beside(path: Path, pairs: Pairs) -> str:
    """LFW's form where it can say them, which other tools read too."""
    try:
        write_pairs(path, pairs)
    except DataError:
        write_key_pairs(path, pairs)
        return f"{len(pairs)} in {path.name}, in the form of facetx: LFW's cannot hold them"
    return f"{len(pairs)} in {path.name}"
