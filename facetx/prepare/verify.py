"""Looks through a set of face images for what spoils training: damage, doubles, wrong sizes, thin identities."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facetx.data.align import alignment_statistics
from facetx.data.formats.codec import is_turned
from facetx.errors import DataError
from facetx.prepare.report import Report, label_words, size_counts, track
from facetx.prepare.sources import Source

HASH_SIDE = 16
NEAR_BITS = 16
"""Images whose difference hashes differ in at most so many of 256 bits are near-duplicates. On 3,000 aligned images of
LFW, other images differ in 32 bits at least and about 110; one saved anew as a JPEG of quality 60, in 8 or fewer for
nine of ten."""
LISTED = 1000
"""Images, or groups of them, that the report lists; it counts all."""
NEAR_AT_MOST = 50_000
"""Every two images are compared; above this many the time, which grows with the square, is not spent."""


def verify(source: Source, report_file: str | Path | None = None) -> Report:
    """Reads every image once; the report goes to ``report_file``. Its facts:

    - ``identities``, ``images_per_identity`` (smallest, median, largest, and a histogram);
    - ``labels``: as the files have them, whether they are 0..C-1;
    - ``skipped``: what lies there and is no image of an identity, where there is such -> why;
    - ``undecodable``: image -> why;
    - ``turned``: images that a tag in the file (EXIF) turns or mirrors. They are read as they are to be seen; landmarks
      must be of that;
    - ``sizes``: "WxH" -> images;
    - ``duplicates``: groups of images with equal bytes (equal pixels in a packed set), and how many groups span two
      identities;
    - ``near_duplicates``: pairs by difference hash, likewise;
    - ``alignment``: where landmarks are known and all images are of one square size, against the ArcFace template.
    """
    report = Report.of("verify", source, None, report_file)
    undecodable: dict[str, str] = {}
    digests: dict[bytes, list[int]] = {}
    hashes, sizes, read, turned = [], [], [], []
    for i in track(len(source), "verify"):
        try:
            image = source.image(i)
            content = image.tobytes() if source.packed is not None else source.encoded(i)
        except DataError as error:
            undecodable[source.names[i]] = str(error)
            continue
        digests.setdefault(hashlib.sha256(content).digest(), []).append(i)
        if source.packed is None and is_turned(content):
            turned.append(source.names[i])
        hashes.append(difference_hash(image))
        sizes.append(image.shape[:2])
        read.append(i)

    counts = np.bincount(source.labels, minlength=len(source.identities))
    used = np.flatnonzero(counts)
    report.facts |= {
        "kind": source.kind,
        "identities": len(source.identities),
        "labels": "none in the files" if source.file_labels is None else label_words(source.file_labels[used]),
        "images_per_identity": class_histogram(counts),
        "undecodable": undecodable,
        "turned": {"images": len(turned), "list": turned[:LISTED]},
        "sizes": size_counts(sizes),
        "duplicates": _groups(source, [group for group in digests.values() if len(group) > 1]),
    }
    if len(read) <= NEAR_AT_MOST:
        once = {group[0] for group in digests.values()}
        first = [place for place, i in enumerate(read) if i in once]
        found = near_duplicates(np.stack([hashes[p] for p in first])) if first else []
        pairs = [[read[first[a]], read[first[b]]] for a, b in found]
        report.facts["near_duplicates"] = _groups(source, pairs)
    else:
        report.facts["near_duplicates"] = f"not looked for among more than {NEAR_AT_MOST} images"
    if source.landmarks is not None:
        report.facts["alignment"] = _alignment(source.landmarks[read], sizes)
    report.save()
    return report


def class_histogram(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Images of the identities (C,): smallest, median, largest, and how many identities have 1, 2 to 4, 5 to 9, ..."""
    edges = [1, 2, 5, 10, 20, 50, 100, 500]
    named = ["1 image", *(f"{a}-{b - 1} images" for a, b in pairwise(edges[1:])), f"{edges[-1]}+ images"]
    filled = np.histogram(counts, [*edges, np.inf])[0].tolist()
    return {
        "smallest": int(counts.min()),
        "median": float(np.median(counts)),
        "largest": int(counts.max()),
        "identities_with": {name: n for name, n in zip(named, filled) if n},
    }


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(256,) bool: in a gray picture of 17x16, whether each pixel is brighter than its right neighbor."""
    gray = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(gray, np.int16)
    return (pixels[:, :-1] > pixels[:, 1:]).ravel()


def near_duplicates(hashes: NDArray[np.bool_], bits: int = NEAR_BITS) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of hashes (N, 256) that differ in at most ``bits``."""
    signs = np.where(hashes, 1, -1).astype(np.float32)
    least = signs.shape[1] - 2 * bits  # a . b = equal bits - other bits
    found = []
    for start in range(0, len(signs), 1024):
        a, b = np.nonzero(signs[start : start + 1024] @ signs[start:].T >= least)
        found += [(int(i) + start, int(j) + start) for i, j in zip(a, b) if i < j]
    return found


def _groups(source: Source, groups: list[list[int]]) -> dict[str, Any]:
    across = [g for g in groups if len(set(source.labels[g].tolist())) > 1]
    return {
        "groups": len(groups),
        "across_identities": len(across),
        "images": [[source.names[i] for i in g] for g in sorted(groups, key=lambda g: g not in across)[:LISTED]],
    }


def _alignment(landmarks: NDArray[np.float32], sizes: list[tuple[int, int]]) -> dict[str, Any] | str:
    known = np.isfinite(landmarks).all((1, 2))
    if not known.any():
        return "no image has landmarks"
    if len(set(sizes)) > 1 or sizes[0][0] != sizes[0][1]:
        return "not compared: the images are not of one square size"
    return {"with_landmarks": int(known.sum()), **alignment_statistics(landmarks[known], sizes[0][0])}
