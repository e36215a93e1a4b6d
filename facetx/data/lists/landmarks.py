"""The five facial keypoints of each image, from a CSV file beside the images.

The file has the header line ``COLUMNS`` and one row an image: its path below the image folder, then x and y of both
eyes, the nose, and both corners of the mouth, the image's left ones first. They are in pixels of the picture turned as
its EXIF tag says, as ``facetx.data.formats.codec`` reads it. CelebA's own files (``list_landmarks_align_celeba.txt``:
the number of images, a line of names, a line an image) are read too; their rows name files without a folder.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError, some
from facetx.files import read_file, write_file

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
COLUMNS = ("image", *(f"{point}_{axis}" for point in POINTS for axis in "xy"))
CELEBA_COLUMNS = tuple(f"{point.replace('_', '')}_{axis}" for point in POINTS for axis in "xy")
FILLED_AT_MOST = 0.05
"""Share of images that may go without a row where the mean stands in: more are a file of other images."""


def read_landmarks(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Image -> its five keypoints (5, 2), (x, y) in pixels.

    Raises ``DataError`` with the line for a file that is not of this format.
    """
    path = Path(path)
    text = read_file(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = text.split("\n")
    celeba = len(lines) > 1 and lines[0].strip().isdecimal() and tuple(lines[1].split()) == CELEBA_COLUMNS
    if not celeba and tuple(lines[0].strip().split(",")) != COLUMNS:
        raise DataError(f"{path}:1: expected the header line {','.join(COLUMNS)}")
    heads = 2 if celeba else 1
    found: dict[str, NDArray[np.float32]] = {}
    # With the ends of lines, which a quoted name may hold.
    reader = csv.reader([",".join(line.split()) for line in lines[2:]] if celeba else [f"{x}\n" for x in lines[1:]])
    try:
        for row in filter(None, reader):
            where = f"{path}:{reader.line_num + heads}"
            try:
                points = np.array(row[1:], np.float32).reshape(len(POINTS), 2)
            except ValueError:
                raise DataError(f"{where}: expected an image and ten numbers, found {','.join(row)[:80]!r}") from None
            if not np.isfinite(points).all():
                raise DataError(f"{where}: a coordinate is not finite: {','.join(row)[:80]!r}")
            found[row[0]] = points
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num + heads}: not a line of a CSV file ({error})") from None
    if celeba and str(len(found)) != lines[0].strip():
        raise DataError(f"{path}: {len(found)} images, and the first line says {lines[0].strip()}; it may be cut off")
    return found


def write_landmarks(path: str | Path, images: Sequence[str], points: NDArray[np.float32]) -> None:
    """Writes the CSV file of N images and their keypoints (N, 5, 2), without those that are not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image, values in zip(images, points.reshape(-1, 10)):  # (N, 5, 2) -> (N, 10)
        if np.isfinite(values).all():
            writer.writerow([image, *map(str, values)])
    write_file(path, text.getvalue())


def relative(points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Keypoints (5, 2) in pixels of an image, in [0, 1] of it, as the items of data sets have them."""
    return (points / np.array([width, height])).astype(np.float32)


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
