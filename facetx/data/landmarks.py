"""The five facial keypoints of each image, from a CSV file beside the images.

The file has the header line ``COLUMNS`` and one row an image: its path below the image folder, then x and y in pixels
of the image as it lies on disk, of both eyes, the nose, and both corners of the mouth, the image's left ones first.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError, some

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = ("image", *(f"{point}_{axis}" for point in POINTS for axis in "xy"))
FILLED_AT_MOST = 0.05
"""Share of images that may go without a row where the mean stands in: more are a file of other images."""


def read_landmarks(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Image -> its five keypoints (5, 2), (x, y) in pixels.

    Raises ``DataError`` with the line for a file that is not of this format.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the landmarks ({error})") from None
    if not lines or tuple(lines[0].split(",")) != COLUMNS:
        raise DataError(f"{path}:1: expected the header line {','.join(COLUMNS)}")
    found: dict[str, NDArray[np.float32]] = {}
    reader = csv.reader(lines[1:])
    try:
        for row in filter(None, reader):
            where = f"{path}:{reader.line_num + 1}"
            try:
                points = np.array(row[1:], np.float32).reshape(len(POINTS), 2)
            except ValueError:
                raise DataError(f"{where}: expected an image and ten numbers, found {','.join(row)[:80]!r}") from None
            if not np.isfinite(points).all():
                raise DataError(f"{where}: a coordinate is not finite: {','.join(row)[:80]!r}")
            found[row[0]] = points
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num + 1}: not a line of a CSV file ({error})") from None
    return found


def landmarks_of(
    path: str | Path, images: Sequence[str], missing: Literal["error", "mean"] = "error"
) -> tuple[NDArray[np.float32], int]:
    """The keypoints (N, 5, 2) of N images in their order, in pixels, and for how many the mean stands in.

    Args:
        path: The CSV file.
        images: Paths below the image folder, as the file has them.
        missing: What is done about images without a row (the detector found no face there): "error" refuses them;
            "mean" gives them the mean of the other images' keypoints, for benchmarks that may leave no image out. That
            follows the alignment of the images at hand, which a fixed template does not.

    Raises ``DataError`` for a row too few; with "mean", for more than ``FILLED_AT_MOST`` of them.
    """
    rows = read_landmarks(path)
    without = [image for image in images if image not in rows]
    if without and (missing == "error" or len(without) > FILLED_AT_MOST * len(images)):
        raise DataError(
            f"{path}: {len(without)} of {len(images)} images have no row: {some(without, show=3)}; add their rows, "
            f"take these images out of the folder, or name the file that belongs to this folder"
        )
    known = np.stack([rows[image] for image in images if image in rows])
    mean = known.mean(axis=0)
    return np.stack([rows.get(image, mean) for image in images]), len(without)
