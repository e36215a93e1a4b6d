"""A canvas for soft-edged shapes: signed distances in, blended colors and a label mask out (NumPy, float32).

A shape is an array of signed distances to its edge, below 0 inside. Its coverage of a pixel is ``0.5 - distance`` in
pixels, clipped to 0..1: an edge one pixel wide, which is anti-aliasing for the price of a subtraction. Shapes are
drawn on a `Patch`, the box of pixels that they can touch, in coordinates about their own center.
"""

import math
from functools import lru_cache

import numpy as np

FRAME = 112.0  # the side of the frame that all lengths refer to


@lru_cache(maxsize=8)
def _axis(size: int) -> np.ndarray:
    """The pixels' positions along one side, in frame units."""
    return np.arange(size, dtype=np.float32) * np.float32(FRAME / size)


class Canvas:
    """Planes of color and labels, with head-frame coordinates for every pixel.

    Args:
        size: Side in pixels.
        turn, shift: The similarity, as complex numbers, from the head frame to the 112 frame: ``turn * p + shift``.
    """

    def __init__(self, size: int, turn: complex, shift: complex):
        self.size, self.turn, self.shift = size, turn, shift
        # One block for all planes: the allocator keeps one large block at hand where it returns many small ones.
        planes = np.empty((8, size, size), np.float32)
        self.rgb, self.u, self.v = planes[:3], planes[3], planes[4]
        self.scratch = planes[5:].reshape(-1)  # room for `Patch.fill`
        self.mask = np.zeros((size, size), np.uint8)
        self.sharpness = abs(turn) * size / FRAME  # pixels per unit of length
        # The inverse map is affine, so each coordinate is a sum of a row and a column.
        inverse, origin, axis = 1 / turn, -shift / turn, _axis(size)
        np.subtract(axis * inverse.real + origin.real, (axis * inverse.imag)[:, None], out=self.u)
        np.add(axis * inverse.imag + origin.imag, (axis * inverse.real)[:, None], out=self.v)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Head-frame points (n,) complex -> (n, 2) float32 pixels."""
        placed = (self.turn * points + self.shift) * (self.size / FRAME)
        return np.stack([placed.real, placed.imag], axis=1).astype(np.float32)

    def patch(
        self, center: complex, half_width: float, half_height: float, angle: float = 0.0, apart: float = 0.0
    ) -> "Patch":
        """The pixels within a box about ``center``, with coordinates about it, turned by ``angle``.

        With ``apart``, a pair of boxes at that distance to the left and the right, which share their coordinates as
        mirror images do: u grows outwards. What is drawn on such a patch is drawn twice.
        """
        if angle:
            half_width = half_height = math.hypot(half_width, half_height)
        half_width += apart
        zoom = self.size / FRAME
        middle = (self.turn * center + self.shift) * zoom
        c, s = abs(self.turn.real) * zoom, abs(self.turn.imag) * zoom
        across, along = c * half_width + s * half_height + 1, s * half_width + c * half_height + 1
        rows = slice(max(int(middle.imag - along), 0), max(int(middle.imag + along) + 2, 0))
        columns = slice(max(int(middle.real - across), 0), max(int(middle.real + across) + 2, 0))
        u, v = self.u[rows, columns] - center.real, self.v[rows, columns] - center.imag
        right = u > 0
        if apart:
            u = np.abs(u) - apart
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            u, v = c * u + s * v, c * v - s * u
        return Patch(self, rows, columns, u, v, right)


class Patch:
    """A box of a canvas with local coordinates ``u`` (right) and ``v`` (down), and ``right`` of its middle or not."""

    def __init__(self, canvas: Canvas, rows: slice, columns: slice, u: np.ndarray, v: np.ndarray, right: np.ndarray):
        self.rgb = canvas.rgb[:, rows, columns]
        self.mask = canvas.mask[rows, columns]
        self.sharpness = canvas.sharpness
        self.step = canvas.scratch[: self.rgb.size].reshape(self.rgb.shape)
        self.rows, self.columns, self.u, self.v, self.right = rows, columns, u, v, right

    def cover(self, distance: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """Coverage 0..1 of a shape whose edge is ``soft`` units wide, one pixel at the least."""
        alpha = distance * (-self.sharpness / max(1.0, soft * self.sharpness))
        alpha += 0.5
        return unit(alpha)

    def label(self, alpha: np.ndarray, left: int, right: int | None = None) -> None:
        """Writes a class to the mask where a shape covers more than half of a pixel; a pair may have two classes."""
        value = left if right is None else np.where(self.right, np.uint8(right), np.uint8(left))
        np.copyto(self.mask, value, where=alpha > 0.5)

    def fill(self, alpha: np.ndarray, color: np.ndarray, opacity: float = 1.0, tone: np.ndarray | None = None) -> None:
        """Blends a color (3, 1, 1), its brightness times ``tone`` (h, w), over the patch."""
        if opacity != 1.0:
            alpha = alpha * opacity
        step = np.subtract(color if tone is None else np.multiply(color, tone, out=self.step), self.rgb, out=self.step)
        step *= alpha
        self.rgb += step

    def shade(self, amount: np.ndarray) -> None:
        """Multiplies what is there by ``1 + amount``."""
        self.rgb *= amount + 1.0


def unit(x: np.ndarray) -> np.ndarray:
    """Clips to 0..1 in place (np.clip's own overhead counts here: most patches are small)."""
    np.maximum(x, 0.0, out=x)
    return np.minimum(x, 1.0, out=x)


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """sqrt(x^2 + y^2): several times as fast as np.hypot, whose care for overflow is not needed here."""
    return np.sqrt(x * x + y * y)


def ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    """Distance to an ellipse of half axes ``a``, ``b``, exact to first order at its edge."""
    x, y = u * (1 / a), v * (1 / b)
    r = length(x, y)
    return (r - 1) * (r + 1e-4) / (length(x * (1 / a), y * (1 / b)) + 1e-4)


def rounded_box(u: np.ndarray, v: np.ndarray, a: float, b: float, corner: float) -> np.ndarray:
    """Distance to a box of half sides ``a``, ``b`` with rounded corners, exact outside and near the edge."""
    x, y = np.abs(u) - (a - corner), np.abs(v) - (b - corner)
    return length(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - corner


def egg(
    u: np.ndarray, v: np.ndarray, width: float, taper: float, top: float, bottom: float, jaw: float, crown: float = 0.0
) -> np.ndarray:
    """Distance to a head's outline, right where the outline is upright, elsewhere up to a factor of ``end / width``.

    The outline is ``(u / w)^2 + (1 - k) d^2 + k d^4 = 1``, d the share of the way from v = 0 to the end, up or down.

    Args:
        width: w at v = 0; it shrinks by ``taper`` of it towards ``bottom``.
        top, bottom: Where the outline ends, top < 0 < bottom.
        jaw, crown: k below and above v = 0: 0 is an ellipse, 1 is squarer.
    """
    across = u / (width - (width * taper / bottom) * np.minimum(np.maximum(v, 0), 1.1 * bottom))
    d = np.maximum(v * (1 / top), v * (1 / bottom))
    d *= d
    square = d * d
    square -= d
    square *= np.where(v < 0, np.float32(crown), np.float32(jaw))
    across *= across
    across += d
    across += square
    return np.sqrt(across, out=across) * width - width
