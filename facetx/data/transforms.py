"""Augmentations of one sample, each a function of the sample and of a random generator that belongs to it alone.

A geometric transform gives one map, which moves every field; a photometric one touches the image alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from facetx.data import batched
from facetx.data.base import Sample
from facetx.data.sample import NO_SIDES, Map, Sides, moved
from facetx.errors import ConfigError, DataError
from facetx.registry import Registry

Size = tuple[int, int]
"""Height and width in pixels."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""
IDENTITY = np.eye(2, 3)


class Transform(ABC):
    """Gives a new sample, and leaves the one that it gets as it is.

    Attributes:
        sets_size: Whether it gives images of a size of its own, so that they need not be read at the model's.
    """

    sets_size: bool = False

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator, sides: Sides = NO_SIDES) -> Sample:
        """The changed sample. ``sides`` says what a mirror makes of the data's attributes and mask classes."""

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        """(K,) all that is random about one image of this size: what ``of_batch`` needs to know of it."""
        raise ConfigError(
            f"data.augment_on: the transform {type(self).__name__} knows no batches; set it to workers, or write its "
            "numbers and of_batch"
        )

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        """A batch, on any device, with each image changed by its ``numbers`` (B, K)."""
        raise AssertionError("a transform that gives numbers implements of_batch")

    def gives(self, size: Size) -> Size:
        """The size of what becomes of an image of this size."""
        return size


class Geometric(Transform):
    """Moves the image, and with it all that lies on it."""

    @abstractmethod
    def map(self, size: Size, rng: np.random.Generator) -> Map | None:
        """Where the pixels of an image of this size go; None leaves them."""

    def __call__(self, sample: Sample, rng: np.random.Generator, sides: Sides = NO_SIDES) -> Sample:
        change = self.map(sample["image"].shape[:2], rng)
        return sample if change is None else moved(sample, change, sides)

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        change = self.map(size, rng)
        if change is not None and change.new != self.gives(size):
            raise ConfigError(f"data.augment_on: {type(self).__name__} gives sizes of its own; set it to workers")
        return (IDENTITY if change is None else change.matrix).astype(np.float32).ravel()

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        height, width = batch["image"].shape[2:]
        return batched.moved(batch, numbers.view(-1, 2, 3), self.gives((height, width)), sides)


class Photometric(Transform):
    """Changes the colors of the image."""

    @abstractmethod
    def image(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """uint8 RGB (H, W, 3) -> the same."""

    def __call__(self, sample: Sample, rng: np.random.Generator, sides: Sides = NO_SIDES) -> Sample:
        return {**sample, "image": self.image(sample["image"], rng)}


class Batched(Photometric):
    """A photometric transform that is written for batches; workers apply it to a batch of one."""

    @abstractmethod
    def images(self, images: Tensor, numbers: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) and ``numbers`` (B, K) -> the same, each image by its own numbers alone."""

    def image(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        numbers = self.numbers((image.shape[0], image.shape[1]), rng)
        one = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        return np.ascontiguousarray(self.images(one, torch.from_numpy(numbers)[None])[0].permute(1, 2, 0).numpy())

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        return {**batch, "image": self.images(batch["image"], numbers)}


def mirror(sample: Sample, sides: Sides = NO_SIDES) -> Sample:
    """The sample seen in a mirror, its sides named anew so that "left" stays the image's left."""
    return moved(sample, Map.flip(sample["image"].shape[:2]), sides)


class Flip(Geometric):
    """Mirrors left and right; all that Face Transformer's training uses.

    Args:
        p: With this probability, in 0..1.
    """

    def __init__(self, p: float = 0.5):
        self.p = _share("p", p)

    def map(self, size: Size, rng: np.random.Generator) -> Map | None:
        return Map.flip(size) if rng.random() < self.p else None


class Shift(Geometric):
    """Moves the image, repeating its edge, as an alignment that is a little off would.

    Args:
        pixels: Up to so many each way.
    """

    def __init__(self, pixels: int = 4):
        self.pixels = pixels

    def map(self, size: Size, rng: np.random.Generator) -> Map:
        x, y = rng.integers(-self.pixels, self.pixels + 1, 2)
        return Map.shift(size, x, y)


class Affine(Geometric):
    """Turns, scales and moves the image about its middle, repeating its edge.

    Args:
        degrees: Turned by up to so many, either way.
        scale: Smallest and largest factor.
        translate: Moved by up to this share of the image's sides, each way.
    """

    def __init__(self, degrees: float = 10.0, scale: tuple[float, float] = (0.9, 1.1), translate: float = 0.05):
        if not 0 < scale[0] <= scale[1]:
            raise DataError(f"scale must be two factors above 0, the smaller first, got {scale}")
        self.degrees, self.scale, self.translate = degrees, scale, _share("translate", translate)

    def map(self, size: Size, rng: np.random.Generator) -> Map:
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        factor = np.exp(rng.uniform(*np.log(self.scale)))
        turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        sides = np.array([size[1], size[0]])
        middle = sides / 2
        offset = middle - turn @ middle + rng.uniform(-self.translate, self.translate, 2) * sides
        return Map(np.column_stack([turn, offset]), size, size)


class RandomCrop(Geometric):
    """A square part of the image, resized (Inception's crop, arXiv 1409.4842, without changes of shape).

    Args:
        size: Pixels a side of what is given.
        scale: Smallest and largest share of the largest square's area.
    """

    sets_size = True

    def __init__(self, size: int, scale: tuple[float, float] = (0.7, 1.0)):
        if not 0 < scale[0] <= scale[1] <= 1:
            raise DataError(f"scale must be two shares in 0..1, the smaller first, got {scale}")
        self.size, self.scale = size, scale

    def gives(self, size: Size) -> Size:
        return self.size, self.size

    def map(self, size: Size, rng: np.random.Generator) -> Map:
        side = min(size) * rng.uniform(*self.scale) ** 0.5
        left, upper = rng.uniform(0, size[1] - side), rng.uniform(0, size[0] - side)
        return Map.box(size, (left, upper, left + side, upper + side), (self.size, self.size))


class CenterCrop(Geometric):
    """The middle of the image. Not random: CelebA's 178x218 become 178x178 by it.

    Args:
        size: Pixels a side of what is cut out, and not resized.
    """

    sets_size = True

    def __init__(self, size: int):
        self.size = size

    def gives(self, size: Size) -> Size:
        return self.size, self.size

    def map(self, size: Size, rng: np.random.Generator) -> Map:
        if min(size) < self.size:
            raise DataError(f"center_crop: cuts out {self.size} pixels a side, and an image is {size[1]}x{size[0]}")
        left, upper = (size[1] - self.size) // 2, (size[0] - self.size) // 2
        return Map.box(size, (left, upper, left + self.size, upper + self.size), (self.size, self.size))


class Resize(Geometric):
    """Resizes to a square, antialiased. Not random: use it where the files have another size.

    Args:
        size: Pixels a side.
    """

    sets_size = True

    def __init__(self, size: int):
        self.size = size

    def gives(self, size: Size) -> Size:
        return self.size, self.size

    def map(self, size: Size, rng: np.random.Generator) -> Map:
        return Map.resize(size, (self.size, self.size))

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        return batched.resized(batch, self.size, sides)


class ColorJitter(Photometric):
    """Scales brightness, contrast about the mean gray, and saturation, each by a factor from [1 - x, 1 + x]; then turns
    the hue.

    Args:
        brightness, contrast, saturation: x of each.
        hue: Turned by up to this share of the color circle either way, in 0..0.5.
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.0):
        if not 0 <= hue <= 0.5:
            raise DataError(f"hue must be in 0..0.5, got {hue}")
        self.factors = np.array([brightness, contrast, saturation])
        self.hue = hue

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        factors = 1 + self.factors * rng.uniform(-1, 1, 3)
        return np.array([*factors, rng.uniform(-self.hue, self.hue) if self.hue else 0], np.float32)

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        return {**batch, "image": batched.jittered(batch["image"], numbers)}

    def image(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        b, c, s = 1 + (self.factors * rng.uniform(-1, 1, 3)).astype(np.float32)
        x = image.astype(np.float32) * b
        gray = x @ LUMA  # (H, W)
        mean = gray.mean()
        # Saturation then contrast, each a blend: gray + s (x - gray), then mean + c (y - mean).
        x = (c * s) * x + (c * (1 - s)) * gray[..., None] + (1 - c) * mean
        out = np.clip(x + 0.5, 0, 255).astype(np.uint8)
        return _turned(out, rng.uniform(-self.hue, self.hue)) if self.hue else out


def _turned(image: NDArray[np.uint8], hue: float) -> NDArray[np.uint8]:
    """The hue turned by a share of the circle."""
    colors = np.array(Image.fromarray(image).convert("HSV"))
    colors[..., 0] += np.uint8(round(hue * 256) % 256)  # 255 and 1 more are 0
    return np.array(Image.fromarray(colors, "HSV").convert("RGB"))


class Blur(Batched):
    """Blurs the image by a Gaussian, as a camera out of focus would.

    Args:
        sigma: Smallest and largest width of the Gaussian, in pixels, of at most 3.
        p: With this probability, in 0..1.
    """

    def __init__(self, sigma: tuple[float, float] = (0.5, 2.0), p: float = 0.3):
        if not 0 < sigma[0] <= sigma[1] <= 3:
            raise DataError(f"sigma must be two numbers in 0..3, the smaller first, got {sigma}")
        self.sigma, self.p = sigma, _share("p", p)

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        sigma, drawn = rng.uniform(*self.sigma), rng.random()
        return np.array([sigma if drawn < self.p else 0], np.float32)

    def images(self, images: Tensor, numbers: Tensor) -> Tensor:
        return batched.blurred(images, numbers[:, 0])


class LowResolution(Batched):
    """Shrinks the image and brings it back to its size, as of a face far away.

    Args:
        factors: One of these is drawn; how many times smaller.
        p: With this probability, in 0..1.
    """

    def __init__(self, factors: Sequence[int] = (2, 3, 4), p: float = 0.2):
        if not factors or min(factors) < 2:
            raise DataError(f"factors must be whole numbers of 2 or more, got {tuple(factors)}")
        self.factors, self.p = tuple(factors), _share("p", p)

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        factor, drawn = self.factors[rng.integers(len(self.factors))], rng.random()
        return np.array([factor if drawn < self.p else 1], np.float32)

    def images(self, images: Tensor, numbers: Tensor) -> Tensor:
        return batched.coarsened(images, numbers[:, 0], self.factors)


class Cutout(Batched):
    """Covers a square of the image with gray, as a hand or a mask would (DeVries and Taylor 2017, arXiv 1708.04552).

    Args:
        share: Of the image's side that the square has; its middle lies anywhere, so it may reach beyond the edge.
        p: With this probability, in 0..1.
    """

    def __init__(self, share: float = 0.3, p: float = 0.5):
        self.share, self.p = _share("share", share), _share("p", p)

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        x, y, drawn = rng.uniform(0, [size[1], size[0], 1])
        half = self.share * min(size) / 2 if drawn < self.p else 0
        return np.array([x - half, y - half, x + half, y + half], np.float32)

    def images(self, images: Tensor, numbers: Tensor) -> Tensor:
        return batched.covered(images, numbers, value=127)


class RandAugment(Transform):
    """Some changes in a row, each drawn from all with equal chances (Cubuk et al., arXiv 1909.13719).

    They are those of ``facetx.data.batched.COLOR_CHANGES``, and turns, shears and moves along x and y.

    Args:
        changes: How many.
        magnitude: How strong they are, in 0..10: at 10 turned by 30 degrees, moved by 0.45 of a side, sheared by 0.3,
            factors of 0.1 or 1.9.
    """

    MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")

    def __init__(self, changes: int = 2, magnitude: float = 5.0):
        if changes < 1 or not 0 <= magnitude <= 10:
            raise DataError(f"changes must be 1 or more and magnitude in 0..10, got {changes} and {magnitude}")
        self.changes, self.share = changes, magnitude / 10

    def _drawn(self, size: Size, rng: np.random.Generator) -> tuple[int, float, NDArray[np.float64]]:
        """One change: the number of a color change, its strength, and the map (2, 3)."""
        kinds = (*batched.COLOR_CHANGES, *self.MOVES)
        kind, sign = kinds[rng.integers(len(kinds))], rng.choice([-1.0, 1.0])
        change = sign * self.share
        if kind in self.MOVES:
            return 0, 0.0, self._map(kind, change, size)
        strength = {"posterize": 8 - round(4 * self.share), "solarize": 256 * (1 - self.share)}.get(
            kind, 1 + 0.9 * change
        )
        return batched.COLOR_CHANGES.index(kind), strength, IDENTITY

    def _map(self, kind: str, change: float, size: Size) -> NDArray[np.float64]:
        """About the image's middle."""
        sides = np.array([size[1], size[0]])
        turn, move = np.eye(2), np.zeros(2)
        if kind == "rotate":
            angle = np.deg2rad(30 * change)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        elif kind.startswith("shear"):
            turn[(0, 1) if kind == "shear_x" else (1, 0)] = 0.3 * change
        else:
            move["xy".index(kind[-1])] = 0.45 * change
        return np.column_stack([turn, sides / 2 - turn @ (sides / 2) + move * sides])

    def numbers(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        drawn = [self._drawn(size, rng) for _ in range(self.changes)]
        return np.concatenate([[kind, strength, *matrix.ravel()] for kind, strength, matrix in drawn]).astype(
            np.float32
        )

    def __call__(self, sample: Sample, rng: np.random.Generator, sides: Sides = NO_SIDES) -> Sample:
        height, width = sample["image"].shape[:2]
        for row in self.numbers((height, width), rng).reshape(self.changes, 8):
            if row[0]:
                one = torch.from_numpy(np.ascontiguousarray(sample["image"].transpose(2, 0, 1)))[None]
                found = batched.recolored(one, *torch.from_numpy(row[:2])[:, None])[0].permute(1, 2, 0).numpy()
                sample = {**sample, "image": np.ascontiguousarray(found)}
            elif not np.array_equal(matrix := row[2:].reshape(2, 3), IDENTITY):
                sample = moved(sample, Map(matrix.astype(np.float64), (height, width), (height, width)), sides)
        return sample

    def of_batch(self, batch: Mapping[str, Tensor], numbers: Tensor, sides: Sides = NO_SIDES) -> dict[str, Tensor]:
        out, size = dict(batch), (batch["image"].shape[2], batch["image"].shape[3])
        for row in numbers.split(8, dim=1):
            out = batched.moved(out, row[:, 2:].reshape(-1, 2, 3), size, sides)
            out["image"] = batched.recolored(out["image"], row[:, 0], row[:, 1])
        return out


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"{name} must be in 0..1, got {value}")
    return value


TRANSFORMS: Registry[Callable[..., Transform]] = Registry(
    "transform",
    {
        "flip": Flip,
        "shift": Shift,
        "affine": Affine,
        "random_crop": RandomCrop,
        "center_crop": CenterCrop,
        "color_jitter": ColorJitter,
        "blur": Blur,
        "low_resolution": LowResolution,
        "cutout": Cutout,
        "rand_augment": RandAugment,
        "resize": Resize,
    },
    base=Transform,
)
