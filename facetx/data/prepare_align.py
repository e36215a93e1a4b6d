"""Aligns a set of photos to the ArcFace template by their landmarks."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from facetx.data.align import ARCFACE_SIZE, alignment_statistics, similarity, template, transform, warp
from facetx.data.codec import encode_png
from facetx.data.landmarks import COLUMNS
from facetx.data.prepare import Report, track
from facetx.data.prepare_convert import draft_folder, finish_folder, write_file
from facetx.data.sources import Source
from facetx.errors import DataError


def align_set(source: Source, out: str | Path, size: int = ARCFACE_SIZE, jpeg_quality: int | None = None) -> Report:
    """Writes each image with landmarks to ``out/<identity>/<name>``, on the template, and ``out/landmarks.csv``.

    Args:
        source: With landmarks.
        out: Must not exist. A run that was cut short is gone on with.
        size: Pixels a side.
        jpeg_quality: 1 to 100; PNG, which loses nothing, unless given.

    The report's facts give the alignment before, as it is in the source's own pixels, and after. Raises ``DataError``
    where no image has landmarks.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out}: exists; name another folder, or delete this one")
    if source.landmarks is None:
        raise DataError(f"{source.path}: landmarks are needed to align")
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report("align", str(source.path), str(out), len(source), facts={"template": "arcface", "size": size})
    suffix = ".png" if jpeg_quality is None else ".jpg"
    draft = draft_folder(out, f"{source.path} {len(source)} {size} {jpeg_quality}")
    rows, moved, written = [",".join(COLUMNS)], [], set()
    for i in track(len(source), "align"):
        name, points = source.names[i], source.landmarks[i]
        if not np.isfinite(points).all():
            report.dropped[name] = "no landmarks"
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
                write_file(target, encode_png(aligned) if jpeg_quality is None else _jpeg(aligned, jpeg_quality))
        except DataError as error:
            report.dropped[name] = str(error)
            continue
        moved.append(transform(matrix, points))
        rows.append(",".join([target.relative_to(draft).as_posix(), *(f"{v:.2f}" for v in moved[-1].ravel())]))
    if not moved:
        raise DataError(
            f"{source.path}: no image is left; the first was dropped because: {next(iter(report.dropped.values()))}"
        )
    (draft / "landmarks.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    finish_folder(draft, out)
    report.facts["alignment"] = alignment_statistics(moved, size)
    return report


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality, subsampling=0)
    return data.getvalue()
