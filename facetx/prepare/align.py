"""Aligns a set of photos to the ArcFace template, by their landmarks or by a detector's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facetx.data.align import ARCFACE_SIZE, alignment_statistics, transform, warp
from facetx.data.formats.codec import encode_jpeg, encode_png
from facetx.data.lists.landmarks import write_landmarks
from facetx.errors import DataError
from facetx.files import draft_folder, finish_folder, lock, write_file
from facetx.inference.detect import MtcnnDetector
from facetx.prepare.outliers import USUAL, Bounds, Geometry
from facetx.prepare.report import Report, track
from facetx.prepare.sources import Source


def align_set(
    source: Source,
    out: str | Path,
    size: int = ARCFACE_SIZE,
    jpeg_quality: int | None = None,
    detector: MtcnnDetector | None = None,
    report_file: str | Path | None = None,
    bounds: Bounds = USUAL,
) -> Report:
    """Writes each image with landmarks to ``out/<identity>/<name>``, on the template, and ``out/landmarks.csv``.

    Args:
        source: With landmarks, unless there is a detector.
        out: Must not exist. A run that was cut short is gone on with: what was detected or written is not done again.
        size: Pixels a side.
        jpeg_quality: 1 to 100; PNG, which loses nothing, unless given.
        detector: Finds the landmarks, in place of the source's own.
        report_file: Where the report goes, before ``out`` appears.
        bounds: Beyond these an alignment went wrong, and its image is left out.

    The report's facts give the outliers with what is wrong with each, the alignment of the others afterwards, and with
    a detector the images with several faces. Raises ``DataError`` where no image has landmarks, none is left,
    or another process is writing ``out``.
    """
    out = Path(out)
    if source.landmarks is None and detector is None:
        raise DataError(f"{source.path}: landmarks are needed to align")
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report.of("align", source, out, report_file)
    report.facts |= {"template": "arcface", "size": size}
    by = "landmarks" if detector is None else detector.name
    with lock(out):
        if out.exists():
            raise DataError(f"{out}: exists; name another folder, or delete this one")
        draft = draft_folder(out, f"{source.fingerprint()} {size} {jpeg_quality} {by} {bounds}")
        why: dict[int, str] = {}
        if detector is not None:
            source, why = _detect(source, detector, draft / ".detected", report)
        _write(source, draft, report, size, jpeg_quality, bounds, why)
        report.save()
        finish_folder(draft, out, draft / ".detected")
    return report


def _write(
    source: Source,
    draft: Path,
    report: Report,
    size: int,
    jpeg_quality: int | None,
    bounds: Bounds,
    why: dict[int, str],
) -> None:
    """The aligned images and their landmarks; ``why`` an image has none, index -> reason."""
    assert source.landmarks is not None
    points = source.landmarks
    usable = np.isfinite(points).all((1, 2)) & (points != points[:, :1]).any((1, 2))
    for i in np.flatnonzero(~usable).tolist():
        at_one_point = bool(np.isfinite(points[i]).all())
        report.dropped[source.names[i]] = (
            "the landmarks are all at one point" if at_one_point else why.get(i, "no landmarks")
        )
    known = np.flatnonzero(usable).tolist()
    if not known:
        raise _nothing_left(source, report)
    geometry = Geometry.of(points[known], size)
    suffix = ".png" if jpeg_quality is None else ".jpg"
    outliers: dict[str, str] = {}
    names, moved, taken = [], [], set()
    for row in track(len(known), "align"):
        name = source.names[known[row]]
        target = draft / Path(name).with_suffix(suffix)
        if target in taken:
            report.dropped[name] = f"another image of the identity has the name {target.name}"
            continue
        taken.add(target)
        if not target.exists():  # else an earlier try has written it
            try:
                image = source.image(known[row])
            except DataError as error:
                report.dropped[name] = str(error)
                continue
            if (wrong := geometry.outlier(row, image.shape[1], image.shape[0], bounds)) is not None:
                outliers[name] = report.dropped[name] = wrong
                continue
            aligned = warp(image, geometry.matrix[row], size)
            target.parent.mkdir(exist_ok=True)
            write_file(target, encode_png(aligned) if jpeg_quality is None else encode_jpeg(aligned, jpeg_quality))
        moved.append(transform(geometry.matrix[row], points[known[row]]))
        names.append(target.relative_to(draft).as_posix())
    report.facts["outliers"] = geometry.facts(bounds, outliers)
    if not moved:
        raise _nothing_left(source, report)
    write_landmarks(draft / "landmarks.csv", names, np.round(moved, 2).astype(np.float32))
    report.facts["alignment"] = alignment_statistics(moved, size)


def _nothing_left(source: Source, report: Report) -> DataError:
    first = next(iter(report.dropped.values()))
    return DataError(f"{source.path}: no image is left; the first was dropped because: {first}")


def _detect(source: Source, detector: MtcnnDetector, path: Path, report: Report) -> tuple[Source, dict[int, str]]:
    """The source with the detector's landmarks, and why an image has none, index -> reason.

    ``path`` has one line an image, written as soon as it is known; an earlier run's lines are not computed again.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # without a line that was cut off
    path.write_text(whole, encoding="utf-8")
    found: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
    done = len(found)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        for i in track(len(source) - done, "detect"):
            found.append(_found(source, i + done, detector))
            file.write(json.dumps(found[-1]) + "\n")
    points = np.full((len(source), 5, 2), np.nan, np.float32)
    for i, row in enumerate(found):
        if "points" in row:
            points[i] = row["points"]
    report.facts["detector"] = detector.name
    several = [source.names[i] for i, row in enumerate(found) if row.get("faces", 1) > 1]
    report.facts["several_faces"] = {"images": len(several), "list": several}
    return replace(source, landmarks=points), {i: row["why"] for i, row in enumerate(found) if "why" in row}


def _found(source: Source, index: int, detector: MtcnnDetector) -> dict[str, Any]:
    try:
        face = detector(source.image(index))
    except DataError as error:
        return {"why": str(error)}
    return {"why": "no face found"} if face is None else {"points": face.points.tolist(), "faces": face.faces}
