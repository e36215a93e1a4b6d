"""Masks in colors, and CelebAMask-HQ's parts, to index masks, a PNG an image, which data sets read."""

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facetx.data.base import Description
from facetx.data.formats.codec import decode_image, decode_mask
from facetx.data.lists.classes import class_list
from facetx.data.lists.folders import is_image
from facetx.data.mask_classes import CELEBAMASK_HQ, Color, colors_of
from facetx.data.sample import Sides
from facetx.data.sets.masks import check_classes, files_of
from facetx.data.sets.parsing import MaskParts
from facetx.errors import DataError
from facetx.files import draft_folder, finish_folder, lock, read_file, write_file
from facetx.prepare.report import Report, track

Mask = NDArray[np.uint8]


def convert_masks(
    source: str | Path,
    out: str | Path,
    classes: str | None = None,
    nearest: bool = False,
    report_file: str | Path | None = None,
) -> Report:
    """Writes an index mask, with a palette, for each mask below ``source``; what is wrong is dropped and told.

    Args:
        source: A folder of masks in colors, or of index masks, which are checked; or, without ``classes``,
            CelebAMask-HQ's folder of parts, which are merged in the official order.
        out: A folder that must not exist; it appears whole or not at all. One that was cut short is gone on with.
        classes: A known list, or a file with a class and its red, green and blue a line.
        nearest: Takes the class of the nearest color, for masks that a lossy format or smooth edges spoiled.
        report_file: Where the report goes, before ``out`` appears.

    The report has each class's images and share of the pixels, and in how many images two sides lie the other way
    round than in most: mirrored images whose names were not swapped.

    Raises ``DataError`` where a folder or the list is missing, or no mask can be read.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise DataError(f"{out}: exists; name another place, or delete it")
    names, colors = (CELEBAMASK_HQ, colors_of(CELEBAMASK_HQ)) if classes is None else class_list(classes)
    jobs = _parts(source) if classes is None else _files(source, names, colors, nearest)
    if not jobs:
        raise DataError(f"{source}: holds no masks")
    out.parent.mkdir(parents=True, exist_ok=True)
    report = Report("masks", str(source), str(out), len(jobs), file=report_file)
    tally = Tally(names)
    with lock(out):
        draft = draft_folder(out, f"{source.resolve()} {names} {colors} {nearest}")
        for _, (name, read) in zip(track(len(jobs), "masks"), jobs.items()):
            try:
                mask = decode_mask(read_file(draft / name), name) if (draft / name).is_file() else read()
            except DataError as error:
                report.dropped[name] = str(error)
                continue
            tally.add(mask)
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(draft / name, encode_mask(mask, colors))
        if len(report.dropped) == len(jobs):
            raise DataError(f"{source}: no mask can be read; the first: {next(iter(report.dropped.values()))}")
        report.facts |= tally.facts()
        report.save()
        finish_folder(draft, out)
    return report


def encode_mask(mask: Mask, colors: Sequence[Color]) -> bytes:
    """uint8 (H, W) as a PNG file of the same numbers, whose palette shows them in colors."""
    image = Image.fromarray(mask)
    image.putpalette([value for color in colors for value in color])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _parts(folder: Path) -> dict[str, Callable[[], Mask]]:
    parts = MaskParts(folder)
    return {f"{number}.png": partial(parts.mask, number) for number in sorted(parts.files)}


def _files(
    folder: Path, names: tuple[str, ...], colors: tuple[Color, ...], nearest: bool
) -> dict[str, Callable[[], Mask]]:
    found = [name for name in files_of(folder) if is_image(os.path.basename(name))]
    return {
        f"{os.path.splitext(name)[0]}.png": partial(_index_mask, folder / name, names, colors, nearest)
        for name in found
    }


def _index_mask(path: Path, names: tuple[str, ...], colors: tuple[Color, ...], nearest: bool) -> Mask:
    data = read_file(path)
    with Image.open(io.BytesIO(data)) as image:
        indexed = image.mode in ("1", "L", "P")
    if indexed:
        mask = decode_mask(data, str(path))
        check_classes(mask, names, str(path))
        return mask
    return classes_of(decode_image(data, str(path)), colors, nearest, str(path))


def classes_of(picture: NDArray[np.uint8], colors: Sequence[Color], nearest: bool, where: str) -> Mask:
    """A picture (H, W, 3) in the classes' colors -> the class of each pixel (H, W).

    Raises ``DataError`` that begins with ``where`` for a color of no class, unless the nearest is wanted.
    """
    code = picture.astype(np.int64) @ (65536, 256, 1)
    there, places, counts = np.unique(code, return_inverse=True, return_counts=True)
    seen = np.stack([there >> 16, there >> 8 & 255, there & 255], 1)  # (K, 3)
    distance = np.square(seen[:, None] - np.array(colors)[None]).sum(2)  # (K, M)
    if not nearest and (unknown := np.flatnonzero(distance.min(1) > 0)).size:
        worst = unknown[counts[unknown].argmax()]
        raise DataError(
            f"{where}: has {len(unknown)} colors of no class, such as {tuple(seen[worst].tolist())} in {counts[worst]} "
            "pixels; correct the list of colors, or take the nearest ones (--nearest)"
        )
    return distance.argmin(1).astype(np.uint8)[places].reshape(picture.shape[:2])


class Tally:
    """What masks hold: images and pixels of each class, and which side is where."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.images, self.pixels = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        partner = Sides.of(Description(0, (), names)).mask
        self.pairs = [(i, int(partner[i])) for i in range(len(names)) if i < partner[i]]
        self.right = np.zeros((len(self.pairs), 2), np.int64)  # images with the first to the right of the other, or not

    def add(self, mask: Mask) -> None:
        counts = np.bincount(mask.ravel(), minlength=256)[: len(self.names)]
        self.images += counts > 0
        self.pixels += counts
        for n, pair in enumerate(self.pairs):
            if all(counts[c] for c in pair):
                first, other = (np.nonzero(mask == c)[1].mean() for c in pair)
                self.right[n, int(first < other)] += 1

    def facts(self) -> dict[str, object]:
        """For a report."""
        share = self.pixels / max(int(self.pixels.sum()), 1)
        rows = zip(self.names, self.images.tolist(), share)
        return {
            "classes": {name: f"in {images} images, {100 * part:.2f} % of the pixels" for name, images, part in rows},
            "sides the other way round": {
                f"{self.names[a]}, {self.names[b]}": f"in {min(counts)} of {sum(counts)} images"
                for (a, b), counts in zip(self.pairs, self.right.tolist())
            },
        }
