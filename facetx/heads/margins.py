"""Margins: what a loss makes of the cosine to the image's own class center, so that it has to try harder.

Each is a frozen object, ``margin(cosine, factor) -> cosine``, elementwise and without state. ``factor`` in [0, 1] is
the warm-up: 0 leaves the cosine as it is, 1 is the whole margin. All angles are in radians.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from facetx.heads.base import one_of, within

Gradient = Literal["exact", "straight_through"]

SAFE_COSINE = 1 - 1e-6  # the derivative of arccos is infinite at +-1


def angle(cosine: Tensor) -> Tensor:
    """arccos in radians, with a finite gradient everywhere: cosines are clamped to +-(1 - 1e-6)."""
    return cosine.clamp(-SAFE_COSINE, SAFE_COSINE).arccos()


def unfolded_cosine(angle: Tensor) -> Tensor:
    """cos(angle), continued beyond pi so that it keeps falling: (-1)^k cos(angle) - 2k, k = floor(angle / pi).

    SphereFace's psi (arXiv 1704.08063), here for any angle >= 0. A plain cosine would rise again beyond pi, and
    reward an image for lying further away from its own center.
    """
    k = (angle.detach() / math.pi).floor()
    return (1 - 2 * k.remainder(2)) * angle.cos() - 2 * k


@dataclass(frozen=True)
class NoMargin:
    """The cosine as it is: plain and normalized softmax."""

    def __call__(self, cosine: Tensor, factor: float) -> Tensor:
        return cosine


@dataclass(frozen=True)
class AngularMargin:
    """The combined margin, cos(m1 theta + m2) - m3 (ArcFace, arXiv 1801.07698, eq. 4).

    (1, m, 0) is ArcFace, (1, 0, m) is CosFace, (m, 0, 0) is SphereFace's margin with a fixed scale.

    Where m1 theta + m2 passes pi, ``unfolded_cosine`` continues the cosine downwards, so that the result is defined,
    continuous and falling for every theta.

    Attributes:
        m1: Factor on the angle, in (0, 8]. Below 1 it alone would be a bonus; the paper has it with m2 and m3.
        m2: Added to the angle, radians, in [0, pi].
        m3: Taken off the cosine, in [0, 2].
        gradient: "exact" differentiates the equation. "straight_through" is that of InsightFace's training program:
            the margin changes the value alone, and the gradient passes as if there were none (a factor of 1). Its value
            differs: where theta + m passes pi, the program's plain cosine rises again; it passes every cosine through
            arccos and cos, which rounds; and with m3 > 0 it takes off m3 alone, whatever m1 and m2 are.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    gradient: Gradient = "exact"

    def __post_init__(self) -> None:
        within("m1", self.m1, 1e-6, 8)
        within("m2 (radians)", self.m2, 0, math.pi)
        within("m3", self.m3, 0, 2)
        one_of("gradient", self.gradient, Gradient)

    def __call__(self, cosine: Tensor, factor: float) -> Tensor:
        m1, m2, m3 = 1 + factor * (self.m1 - 1), factor * self.m2, factor * self.m3
        turned = cosine if (m1, m2) == (1, 0) else unfolded_cosine(m1 * angle(cosine) + m2)
        margined = turned - m3
        if self.gradient == "straight_through":
            return cosine + (margined - cosine).detach()
        return margined


@dataclass(frozen=True)
class AnnealedMargin:
    """SphereFace's psi(theta) = unfolded cos(m theta), blended with the plain cosine.

    (lambda cos theta + psi(theta)) / (1 + lambda), as the authors anneal it (arXiv 1704.08063). The warm-up's
    ``factor`` multiplies psi's weight 1 / (1 + lambda).

    Attributes:
        m: Factor on the angle, >= 1; the paper's best is 4.
        annealing: lambda that the blend ends at, >= 0. 0 is the pure margin, the authors end at 5.
    """

    m: float = 4.0
    annealing: float = 0.0

    def __post_init__(self) -> None:
        within("margin", self.m, 1, 8)
        within("annealing", self.annealing, 0, math.inf)

    def __call__(self, cosine: Tensor, factor: float) -> Tensor:
        psi = unfolded_cosine(self.m * angle(cosine))
        return torch.lerp(cosine, psi, factor / (1 + self.annealing))
