"""Margin softmaxes whose margin follows the image: AdaFace, MagFace, and CurricularFace with its running mean.

Running statistics are buffers, saved in the state dict; they move once a training step and stand still in ``eval()``.
"""

import math

import torch
from torch import Tensor

from facetx.heads.base import positive, within
from facetx.heads.criterion import MarginSoftmax, scaled_logsumexp
from facetx.heads.margins import AngularMargin, NoMargin, angle, unfolded_cosine


class AdaFaceCriterion(MarginSoftmax):
    """cos(theta + g_angle) - g_add, with g_angle = -m q and g_add = m q + m (AdaFace, arXiv 2204.00964).

    q = clip(h (norm - mean) / std, -1, 1) is the image's quality: its embedding's length among the running mean and
    standard deviation of lengths. No gradient flows through q. theta + g_angle is kept in [0, pi].
    """

    per_sample = False  # its statistics are of the batch
    mean: Tensor
    std: Tensor

    def __init__(self, scale: float, margin: float, h: float, momentum: float):
        super().__init__(scale, NoMargin())
        self.m = within("margin", margin, 0, 2)
        self.h = positive("h", h)
        self.momentum = within("momentum", momentum, 0, 1)
        self.register_buffer("mean", torch.tensor(20.0))  # the authors' start: lengths of embeddings after batch norm
        self.register_buffer("std", torch.tensor(100.0))

    def observe(self, target: Tensor, norms: Tensor) -> None:
        norms = norms.clamp(0.001, 100)
        self.mean.lerp_(norms.mean().to(self.mean), self.momentum)
        if len(norms) > 1:  # one image has no spread
            self.std.lerp_(norms.std().to(self.std), self.momentum)

    def margined(self, target: Tensor, norms: Tensor) -> Tensor:
        quality = (norms.detach().clamp(0.001, 100) - self.mean) / (self.std + 1e-3)
        quality = (self.h * quality).clamp(-1, 1)
        m = self.margin_scale * self.m
        if m == 0:
            return target
        return (angle(target) - m * quality).clamp(0, math.pi).cos() - m * (1 + quality)


class MagFaceCriterion(MarginSoftmax):
    """cos(theta + m(a)), and lambda_g g(a) on top of the loss (MagFace, arXiv 2103.06627).

    a is the embedding's length, clamped to [l_a, u_a]. m(a) rises linearly from l_m to u_m over that range, and
    g(a) = 1/a + a/u_a^2 pulls lengths towards u_a. Gradients flow through a. With ``easy_margin`` only an image on its
    center's side, cos theta > 0, gets the margin.
    """

    def __init__(
        self,
        scale: float,
        margins: tuple[float, float],
        norms: tuple[float, float],
        regularizer: float,
        easy_margin: bool = False,
    ):
        super().__init__(scale, NoMargin())
        self.low_m, self.high_m = (within("margin (radians)", m, 0, math.pi) for m in margins)
        self.low_a, self.high_a = (positive("norm", a) for a in norms)
        if self.low_a >= self.high_a:
            raise ValueError(f"norm_low must be below norm_high, got {self.low_a} and {self.high_a}")
        self.regularizer = within("regularizer", regularizer, 0, math.inf)
        self.easy_margin = easy_margin

    def margined(self, target: Tensor, norms: Tensor) -> Tensor:
        if self.margin_scale == 0:
            return target
        part = (norms.clamp(self.low_a, self.high_a) - self.low_a) / (self.high_a - self.low_a)
        m = self.low_m + (self.high_m - self.low_m) * part
        margined = unfolded_cosine(angle(target) + self.margin_scale * m)
        return torch.where(target > 0, margined, target) if self.easy_margin else margined

    def losses(self, target: Tensor, aggregate: Tensor, norms: Tensor) -> Tensor:
        a = norms.clamp(self.low_a, self.high_a)
        return super().losses(target, aggregate, norms) + self.regularizer * (1 / a + a / self.high_a**2)


class CurricularFaceCriterion(MarginSoftmax):
    """ArcFace's target; a harder negative, cos_j > cos(theta_y + m), becomes cos_j (t + cos_j).

    CurricularFace, arXiv 2004.00288. t is the running mean of the target cosines, near 0 at the start (hard negatives
    count little) and rising.
    """

    per_sample = False  # its statistics are of the batch
    t: Tensor

    def __init__(self, scale: float, margin: float, momentum: float):
        super().__init__(scale, AngularMargin(m2=within("margin (radians)", margin, 0, math.pi)))
        self.momentum = within("momentum", momentum, 0, 1)
        self.register_buffer("t", torch.tensor(0.0))

    def observe(self, target: Tensor, norms: Tensor) -> None:
        self.t.lerp_(target.mean().to(self.t), self.momentum)

    def aggregate(self, target: Tensor, negatives: Tensor, norms: Tensor, scratch: bool = False) -> Tensor:
        if self.margin_scale > 0:
            hard = negatives > self.margined(target, norms)[:, None]
            negatives = torch.where(hard, negatives * (self.t + negatives), negatives)
        return scaled_logsumexp(negatives, self.scale, scratch)
