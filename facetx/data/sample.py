"""What a sample may hold: one table of fields, and what mirrors, moves, resizes and stacks all of them alike.

Points are counted in pixels from the upper left corner of the image, so that the middle of the first pixel lies at
(0.5, 0.5); keypoints are kept in [0, 1] of the image. H, W height and width, A attributes, B batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facetx.data.base import Description, Sample
from facetx.errors import DataError

Array = NDArray[Any]

KEYPOINTS_MIRRORED = [1, 0, 2, 4, 3]
"""Left eye, right eye, nose, left and right mouth corner: which keypoint is which after a mirror."""
IGNORED = 255
"""The class of a mask's pixels that count for nothing."""


@dataclass(frozen=True)
class Sides:
    """Which attribute and which class of a mask is which after a mirror; "left" stays the image's left.

    Attributes:
        attributes: (A,) the attribute that each becomes.
        mask: (256,) uint8, the class that each becomes.
    """

    attributes: NDArray[np.int64]
    mask: NDArray[np.uint8]

    @classmethod
    def of(cls, data: Description) -> "Sides":
        """By the names: ``left_eye`` and ``right_eye``, ``l_brow`` and ``r_brow``, ``Eye_Left`` and ``Eye_Right``."""
        mask = np.arange(256, dtype=np.uint8)
        mask[: len(data.mask_classes)] = _partners(data.mask_classes)
        return cls(_partners(data.attributes), mask)


def _partners(names: Sequence[str]) -> NDArray[np.int64]:
    """(K,) the place of each name's partner on the other side; its own where it has none."""
    places = {name.lower(): i for i, name in enumerate(names)}
    return np.array([places.get(_other_side(name.lower()), i) for i, name in enumerate(names)], np.int64)


def _other_side(name: str) -> str:
    for left, right in (("left", "right"), ("l", "r")):
        for a, b in ((left, right), (right, left)):
            if name.startswith(f"{a}_"):
                return f"{b}_{name.removeprefix(f'{a}_')}"
            if name.endswith(f"_{a}"):
                return f"{name.removesuffix(f'_{a}')}_{b}"
    return name


NO_SIDES = Sides.of(Description(0))


@dataclass(frozen=True, eq=False)
class Map:
    """A change of the image's geometry, the same for all fields.

    Attributes:
        matrix: (2, 3), takes a point (x, y) in pixels of the old image to one in pixels of the new.
        old, new: (height, width) of both.
    """

    matrix: NDArray[np.float64]
    old: tuple[int, int]
    new: tuple[int, int]

    @property
    def mirrors(self) -> bool:
        """Whether left and right change places."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    @property
    def inverse(self) -> NDArray[np.float64]:
        """(2, 3), from the new image to the old."""
        return np.linalg.inv(np.vstack([self.matrix, [0, 0, 1]]))[:2]

    def __call__(self, points: Array) -> Array:
        """Points (..., 2) in [0, 1] of the old image, in [0, 1] of the new; float32."""
        old, new = (np.array([width, height], np.float64) for height, width in (self.old, self.new))
        turn = (self.matrix[:, :2] * old / new[:, None]).astype(np.float32)
        return points @ turn.T + (self.matrix[:, 2] / new).astype(np.float32)

    @classmethod
    def flip(cls, size: tuple[int, int]) -> "Map":
        """A mirror of left and right."""
        return cls(np.array([[-1.0, 0, size[1]], [0, 1, 0]]), size, size)

    @classmethod
    def shift(cls, size: tuple[int, int], x: float, y: float) -> "Map":
        """A move by x pixels to the right, and y down."""
        return cls(np.array([[1.0, 0, x], [0, 1, y]]), size, size)

    @classmethod
    def box(cls, size: tuple[int, int], box: tuple[float, float, float, float], new: tuple[int, int]) -> "Map":
        """The part of the image from ``box``'s left and upper edge to its right and lower one, as the whole."""
        left, upper, right, lower = box
        x, y = new[1] / (right - left), new[0] / (lower - upper)
        return cls(np.array([[x, 0, -left * x], [0, y, -upper * y]]), size, new)

    @classmethod
    def resize(cls, size: tuple[int, int], new: tuple[int, int]) -> "Map":
        """The whole image at another size."""
        return cls.box(size, (0, 0, size[1], size[0]), new)


def move_image(image: Array, change: Map) -> Array:
    """(H, W, 3) uint8: bilinear, antialiased where it shrinks; the edge is repeated beyond the image's end."""
    (a, b, tx), (c, d, ty) = change.matrix
    straight = b == c == 0
    if straight and a == d == 1 and change.old == change.new and tx == int(tx) and ty == int(ty):
        return _shifted(image, int(tx), int(ty))
    if straight and (a, d, tx, ty) == (-1, 1, change.old[1], 0) and change.old == change.new:
        return np.ascontiguousarray(image[:, ::-1])
    if straight and a > 0 and d > 0:
        edges = (-tx / a, -ty / d, (change.new[1] - tx) / a, (change.new[0] - ty) / d)
        left, upper, right, lower = (round(float(edge), 9) for edge in edges)  # or one lies outside by 1e-14
        if min(left, upper) >= 0 and right <= change.old[1] and lower <= change.old[0]:
            size = (change.new[1], change.new[0])
            return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, (left, upper, right, lower)))
    inverse = change.inverse
    corners = np.array([(0, 0, 1), (change.new[1], 0, 1), (0, change.new[0], 1), (change.new[1], change.new[0], 1)])
    reached = inverse @ corners.T  # (2, 4): x and y in the old image
    left, upper = (math.ceil(max(0.0, -low)) + 1 for low in reached.min(1))
    right, lower = (math.ceil(max(0.0, high - end)) + 1 for high, end in zip(reached.max(1), change.old[::-1]))
    whole = Image.fromarray(np.pad(image, ((upper, lower), (left, right), (0, 0)), mode="edge"))  # Pillow ends there
    shrinks = max(1, int(abs(np.linalg.det(inverse[:, :2])) ** 0.5 + 1e-6))  # old pixels a side of a new one
    whole = whole.reduce(shrinks)
    matrix = (inverse + np.array([[0, 0, left], [0, 0, upper]])) / shrinks
    size = (change.new[1], change.new[0])
    moved = whole.transform(size, Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BILINEAR)
    return np.array(moved)


def move_mask(mask: Array, change: Map) -> Array:
    """(H, W) uint8: the nearest pixel's class; the edge is repeated beyond the image's end."""
    (a, b, tx), (c, d, ty) = change.inverse
    column, row = np.arange(change.new[1]) + 0.5, (np.arange(change.new[0]) + 0.5)[:, None]
    # Of a straight map (1, W) and (H, 1), else (H, W) both.
    x, y = (a * column + b * row + tx, c * column + d * row + ty) if b or c else (a * column + tx, d * row + ty)
    x, y = (np.floor(place).astype(np.int64) for place in (x, y))
    return mask[np.clip(y, 0, change.old[0] - 1), np.clip(x, 0, change.old[1] - 1)]


def _shifted(image: Array, dx: int, dy: int) -> Array:
    """``image`` moved to the right and down by whole pixels, its edge repeated."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return image[rows[:, None], columns]


@dataclass(frozen=True)
class Field:
    """One kind of value that a sample may hold.

    Attributes:
        meaning: In words, with its shape.
        dtype: Of the array that it is kept as.
        shape: Of the array, None where a size differs from data set to data set.
        moved: A value and a ``Map`` -> the value of the new image.
        mirrored: A value and ``Sides`` -> the value with left and right named anew.
        channels_last: Whether its last axis comes first in a batch, as convolutions want it. The numbers stay where
            they are: to lay them out anew is the device's work.
    """

    meaning: str
    dtype: type[np.generic]
    shape: tuple[int | None, ...]
    moved: Callable[[Any, Map], Any] = lambda value, change: value
    mirrored: Callable[[Any, Sides], Any] = lambda value, sides: value
    channels_last: bool = False

    def problem(self, value: Any) -> str | None:
        """What a value of another type or shape is, and what it must be."""
        array = np.asarray(value)
        fits = len(array.shape) == len(self.shape) and all(
            want in (None, got) for want, got in zip(self.shape, array.shape)
        )
        if fits and np.can_cast(array.dtype, self.dtype, "same_kind"):
            return None
        shape = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"must be {self.dtype.__name__} of shape ({shape}), it is {array.dtype} of shape {array.shape}"

    def batch(self, values: Sequence[Any] | Array) -> Tensor:
        """The samples' values (B, ...) as one tensor, the batch first; its last axis may be the next one's view."""
        array = values if isinstance(values, np.ndarray) else np.stack([np.asarray(v, self.dtype) for v in values])
        tensor = torch.from_numpy(np.ascontiguousarray(array, self.dtype))
        return tensor.movedim(-1, 1) if self.channels_last else tensor


FIELDS: dict[str, Field] = {
    "image": Field(
        meaning="uint8 RGB (H, W, 3); in a batch (B, 3, H, W)",
        dtype=np.uint8,
        shape=(None, None, 3),
        moved=move_image,
        channels_last=True,
    ),
    "label": Field(meaning="identity, 0 to num_classes - 1", dtype=np.int64, shape=()),
    "keypoints": Field(
        meaning="(5, 2): x, y in [0, 1] of both eyes, the nose, both corners of the mouth; image-left first",
        dtype=np.float32,
        shape=(5, 2),
        moved=lambda points, change: change(points),
        mirrored=lambda points, sides: points[KEYPOINTS_MIRRORED],
    ),
    "attributes": Field(
        meaning="(A,): 1 where it holds, 0 where it does not, NaN where that is not known",
        dtype=np.float32,
        shape=(None,),
        mirrored=lambda values, sides: values[sides.attributes],
    ),
    "mask": Field(
        meaning=f"(H, W): the class of each pixel, {IGNORED} where it counts for nothing",
        dtype=np.uint8,
        shape=(None, None),
        moved=move_mask,
        mirrored=lambda mask, sides: sides.mask[mask],
    ),
    "place": Field(
        meaning="(2,): epoch and index, which all that is random about a sample follows from",
        dtype=np.int64,
        shape=(2,),
    ),
    "augmentation": Field(
        meaning="(K,): the numbers that its augmentations are made of, where the device makes them",
        dtype=np.float32,
        shape=(None,),
    ),
}
"""All fields by name. A field of one's own is added to this table, by a module that is imported with ``--import``."""

NOTES = frozenset({"unreadable"})
"""What else a loader puts into a sample: index -> why, of the items that could not be read in its place."""


def check(sample: Sample, where: Callable[[], str]) -> None:
    """Raises ``DataError`` for a field that is not known, or is not what it should be.

    ``where`` gives the words that the message begins with; it is called where there is one.
    """
    for name, value in sample.items():
        if name in NOTES:
            continue
        if name not in FIELDS:
            raise DataError(
                f"{where()}: gives the field {name!r}, which is not known; the fields are {', '.join(FIELDS)}; others "
                "are added to facetx.data.sample.FIELDS"
            )
        if problem := FIELDS[name].problem(value):
            raise DataError(f"{where()}: the field {name!r} {problem}")


def moved(sample: Sample, change: Map, sides: Sides = NO_SIDES) -> Sample:
    """A new sample, all fields of the image moved by one map, and left and right named anew where it mirrors."""
    out = dict(sample)
    for name in sample.keys() & FIELDS.keys():
        out[name] = FIELDS[name].moved(sample[name], change)
        if change.mirrors:
            out[name] = FIELDS[name].mirrored(out[name], sides)
    return out


def collate(samples: list[Sample] | dict[str, Array]) -> dict[str, Any]:
    """Samples -> one batch. All must have the fields of the first. Or fields (B, ...) that were read at once."""
    batch: dict[str, Any] = {}
    if isinstance(samples, dict):
        found = {name: FIELDS[name].batch(samples[name]) for name in FIELDS if name in samples}
        return {**found, **{name: samples[name] for name in NOTES & samples.keys()}}
    for name in (name for name in FIELDS if name in samples[0]):
        batch[name] = FIELDS[name].batch([sample[name] for sample in samples])
    if "unreadable" in samples[0]:
        batch["unreadable"] = {k: v for sample in samples for k, v in sample["unreadable"].items()}
    return batch
