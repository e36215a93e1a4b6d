"""Aligns a set of photos to the ArcFace template, by their landmarks or by a detector's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facetx.data.align import ARCFACE_SIZE, alignment_statistics, similarity, template, transform, warp
from facetx.data.formats.codec import encode_jpeg, encode_png
from facetx.data.lists.landmarks import write_landmarks
from facetx.errors import DataError
from facetx.files import draft_folder, finish_folder, write_file
from facetx.inference.detect import MtcnnDetector
from facetx.prepare.report import Report, track
from facetx.prepare.sources import Source


def align_set(
    source: Source,
    out: str | Path,
    size: int = ARCFACE_SIZE,
    jpeg_quality: int | None = None,
    detector: MtcnnDetector | None = None,
    report_file: str | Path | None = None,
) -> Report:
    """Writes each image with landmarks to ``out/<identity>/<name>``, on the template, and ``out/landmarks.csv``.

    Args:
        source: With landmarks, unless there is a detector.
        out: Must not exist. A run that was cut short is gone on with: what was detected or written is not done again.
        size: Pixels a side.
        jpeg_quality: 1 to 100; PNG, which loses nothing, unless given.
        detector: Finds the landmarks, in place of the source's own.
        report_file: Where the report goes, before ``out`` appears.

    The report's facts give the alignment afterwards, and with a detector the images with several faces. Raises
    ``DataError`` where no image has landmarks.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out}: exists; name another folder, or delete this one")
    if source.landmarks is None and detector is None:
        raise DataError(f"{source.path}: landmarks are needed to align")
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report.of("align", source, out, report_file)
    report.facts |= {"template": "arcface", "size": size}
    suffix = ".png" if jpeg_quality is None else ".jpg"
    by = "landmarks" if detector is None else detector.name
    draft = draft_folder(out, f"{source.fingerprint()} {size} {jpeg_quality} {by}")
    why: dict[int, str] = {}
    if detector is not None:
        source, why = _detect(source, detector, draft / ".detected", report)
    assert source.landmarks is not None
    names, moved, written = [], [], set()
    for i in track(len(source), "align"):
        name, points = source.names[i], source.landmarks[i]
        if not np.isfinite(points).all():
            report.dropped[name] = why.get(i, "no landmarks")
            continue
        target = draft / Path(name).with_suffix(suffix)
        if target in written:
            report.dropped[name] = f"another image of the identity is written as {target.name}"
            continue
        written.add(target)
        try:
            matrix = similarity(points, template(size))
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                aligned = warp(source.image(i), matrix, size)
                write_file(target, encode_png(aligned) if jpeg_quality is None else encode_jpeg(aligned, jpeg_quality))
        except DataError as error:
            report.dropped[name] = str(error)
            continue
        moved.append(transform(matrix, points))
        names.append(target.relative_to(draft).as_posix())
    if not moved:
        raise DataError(
            f"{source.path}: no image is left; the first was dropped because: {next(iter(report.dropped.values()))}"
        )
    write_landmarks(draft / "landmarks.csv", names, np.round(moved, 2).astype(np.float32))
    report.facts["alignment"] = alignment_statistics(moved, size)
    report.save()
    (draft / ".detected").unlink(missing_ok=True)
    finish_folder(draft, out)
    return report


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
