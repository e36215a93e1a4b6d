"""From cosines to losses: what a class-center loss computes, whatever engine holds the class centers.

A criterion never sees a weight, a label or the whole batch. It gets rows of cosines, taken apart into the one to the
image's own class (``target``) and those to all others (``negatives``, where the own class is ``MASKED``), and works in
three steps, so that the classes may lie on several machines::

    aggregate = criterion.aggregate(target, negatives, norms)   # (R,): what the other classes add up to
    aggregate = criterion.merge(stack of aggregates)            # (shards, R) -> (R,), where classes are split
    losses = criterion.losses(target, aggregate, norms)         # (R,)

Shapes: R rows (images), C classes. ``norms`` (R,) are the lengths of the embeddings before they were normalized.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from facetx.heads.base import positive
from facetx.heads.margins import SAFE_COSINE, angle

MASKED = -1e30  # in the place of the own class among the negatives: finite, so that no gradient becomes NaN

Margin = Callable[[Tensor, float], Tensor]


class Criterion(nn.Module):
    """A loss on rows of cosines.

    Attributes:
        scale: Radius s of the hypersphere; it multiplies the cosines.
        normalized: Whether embeddings and class centers are normalized first. Else "cosine" is their dot product.
        margin_scale: The warm-up's factor on the margin, in [0, 1].
        per_sample: Whether a row's loss depends on this row alone, and not on statistics of the batch.
    """

    normalized = True
    per_sample = True

    def __init__(self, scale: float):
        super().__init__()
        self.scale = positive("scale", scale)
        self.margin_scale = 1.0

    def observe(self, target: Tensor, norms: Tensor) -> None:
        """Sees the whole batch's target cosines and norms (B,), detached, once a training step before the losses."""

    def row_scale(self, norms: Tensor) -> Tensor | float:
        """What multiplies a row of cosines: one number, or one a row (R,)."""
        return self.scale

    def logits(self, cosine: Tensor, norms: Tensor) -> Tensor:
        """Scaled logits without the margin, (R, C)."""
        scale = self.row_scale(norms)
        return cosine * (scale if isinstance(scale, float | int) else scale[:, None])

    def aggregate(self, target: Tensor, negatives: Tensor, norms: Tensor, scratch: bool = False) -> Tensor:
        """Sums up the other classes, (R, C) -> (R,). ``target`` is only compared with and gets no gradient.

        With ``scratch``, ``negatives`` may be overwritten, now and in the only backward, with their gradient.
        """
        raise AssertionError("a criterion implements aggregate")

    def merge(self, parts: Tensor) -> Tensor:
        """The aggregate over all classes from those of their shards, (shards, R) -> (R,)."""
        raise AssertionError("a criterion implements merge")

    def losses(self, target: Tensor, aggregate: Tensor, norms: Tensor) -> Tensor:
        """The loss of each row, (R,)."""
        raise AssertionError("a criterion implements losses")


class MarginSoftmax(Criterion):
    """Cross-entropy with a margin: -log(e^(s m(t)) / (e^(s m(t)) + sum over the others of e^(s cos_j))).

    Args:
        scale: s.
        margin: Changes the target cosine; see ``margins``.
        normalized: See ``Criterion``.
    """

    def __init__(self, scale: float, margin: Margin, normalized: bool = True):
        super().__init__(scale)
        self.margin = margin
        self.normalized = normalized

    def margined(self, target: Tensor, norms: Tensor) -> Tensor:
        """The target cosine with its margin, (R,)."""
        return self.margin(target, self.margin_scale)

    def aggregate(self, target: Tensor, negatives: Tensor, norms: Tensor, scratch: bool = False) -> Tensor:
        return scaled_logsumexp(negatives, self.row_scale(norms), scratch)

    def merge(self, parts: Tensor) -> Tensor:
        return parts.logsumexp(dim=0)

    def losses(self, target: Tensor, aggregate: Tensor, norms: Tensor) -> Tensor:
        return -F.logsigmoid(self.row_scale(norms) * self.margined(target, norms) - aggregate)


def scaled_logsumexp(cosine: Tensor, scale: Tensor | float, scratch: bool = False) -> Tensor:
    """log sum_j e^(scale cosine_j) over each row, (R, C) -> (R,); ``scale`` is a number, or one a row (R,).

    As torch's, with one R x C buffer forward and one backward; with ``scratch`` with none but ``cosine``'s own.
    """
    return _ScaledLogSumExp.apply(cosine, scale if isinstance(scale, Tensor) else cosine.new_full((1,), scale), scratch)


class _ScaledLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cosine, scale, scratch):
        ctx.scratch = scratch and not ctx.needs_input_grad[1]  # the gradient of the scale needs the cosines
        powers = cosine.detach().mul_(scale[:, None]) if ctx.scratch else cosine * scale[:, None]
        largest = powers.amax(dim=1)
        powers.sub_(largest[:, None]).exp_()
        total = powers.sum(dim=1)
        ctx.save_for_backward(cosine if ctx.needs_input_grad[1] else None, scale, powers, total)
        return total.log() + largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        cosine, scale, powers, total = ctx.saved_tensors
        share = grad / total
        by_scale = share * torch.linalg.vecdot(powers, cosine) if ctx.needs_input_grad[1] else None
        factor = (share * scale)[:, None]
        return powers.mul_(factor) if ctx.scratch else powers * factor, by_scale, None


class NormScaledSoftmax(MarginSoftmax):
    """SphereFace's convention: the class centers are normalized, and the embedding's own length scales its logits."""

    def row_scale(self, norms: Tensor) -> Tensor:
        return self.scale * norms


class SFaceCriterion(Criterion):
    """-[r_intra(theta_y)] cos theta_y + sum over the others of [r_inter(theta_j)] cos theta_j (arXiv 2205.12010).

    r_intra(theta) = s / (1 + e^(-k (theta - a))), r_inter(theta) = s / (1 + e^(k (theta - b))); [.] takes no
    gradient, so r re-scales the gradients. The margin warm-up has nothing to act on here.
    """

    def __init__(self, scale: float, k: float, a: float, b: float):
        super().__init__(scale)
        self.k, self.a, self.b = positive("k", k), a, b

    def aggregate(self, target: Tensor, negatives: Tensor, norms: Tensor, scratch: bool = False) -> Tensor:
        with torch.no_grad():
            theta = negatives.clamp(-SAFE_COSINE, SAFE_COSINE).arccos_()
            weight = theta.sub_(self.b).mul_(-self.k).sigmoid_().mul_(self.scale).masked_fill_(negatives == MASKED, 0)
        return _WeightedSum.apply(negatives, weight, scratch)

    def merge(self, parts: Tensor) -> Tensor:
        return parts.sum(dim=0)

    def losses(self, target: Tensor, aggregate: Tensor, norms: Tensor) -> Tensor:
        weight = self.scale * torch.sigmoid(self.k * (angle(target.detach()) - self.a))
        return aggregate - weight * target


class _WeightedSum(torch.autograd.Function):
    """sum_j weight_j cosine_j over each row, with constant weights; keeps the weights alone."""

    @staticmethod
    def forward(ctx: Any, cosine, weight, scratch):
        ctx.scratch = scratch
        ctx.save_for_backward(weight)
        return torch.einsum("rc,rc->r", weight, cosine)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad):
        (weight,) = ctx.saved_tensors
        return weight.mul_(grad[:, None]) if ctx.scratch else weight * grad[:, None], None, None
