"""The engine ``sharded``: the classes split over the processes of a training, each with some rows of the weights.

Every process brings its own images, the same number each. The embeddings travel to all, each compares all images with
its own classes, and one number an image and process (the aggregate of its classes) travels back. The loss, equal on
all, is the mean over the images of all.

Gradients: a shard's weights get that of this global mean, and are not to be averaged again. The embeddings get that
times the number of processes, since DistributedDataParallel then averages the backbone's gradients.
"""

from typing import Any

import torch
from torch import Tensor

from facetx.heads.criterion import MASKED, Criterion
from facetx.heads.engine import Centers, Result
from facetx.heads.sampled import choose
from facetx.processes import all_parts, all_rows, rank, total


def sharded(
    unit: Tensor,
    norms: Tensor,
    centers: Centers,
    labels: Tensor,
    criterion: Criterion,
    first: int,
    sample_rate: float = 1.0,
) -> Result:
    """``full``'s numbers for the images of all processes together. All must call it at the same step.

    Args:
        unit, norms, labels, criterion: See ``engine``; of this process's images.
        centers: This process's rows.
        first: The class of the first of these.
        sample_rate: Below 1, a random part of the rows that no image belongs to is left out (Partial FC, arXiv
            2203.15565).
    """
    unit = all_rows(unit, partial=True)
    partial_norms = all_rows(norms, partial=True)  # used where each process sees its own classes alone
    norms = all_rows(norms)  # used where every process computes the same
    labels = all_rows(labels) - first
    if sample_rate < 1:
        kept = choose(torch.rand(len(centers.weight), device=unit.device), labels, sample_rate)
        here = (labels >= 0) & (labels < len(centers.weight))
        labels = torch.searchsorted(kept, labels).where(here, -1)
        centers = centers.some(kept)

    cosine = centers.cosines(unit, criterion.normalized)  # (all B, own C)
    here = (labels >= 0) & (labels < cosine.shape[1])  # (all B,): whether the image's class is
    place = labels.clamp(0, cosine.shape[1] - 1)
    own = cosine[torch.arange(len(place), device=place.device), place]
    target = _AllSum.apply(own.masked_fill(~here, 0))
    negatives = cosine.scatter_(1, place[:, None], own.masked_fill(here, MASKED)[:, None])
    if criterion.training:
        criterion.observe(target.detach(), norms.detach())
    parts = _AllParts.apply(criterion.aggregate(target.detach(), negatives, partial_norms))
    loss = criterion.losses(target, criterion.merge(parts), norms).mean()
    best_other = torch.stack(all_parts(negatives.detach().amax(dim=1))).amax(dim=0)
    return Result(loss, target.detach(), best_other)


class _AllParts(torch.autograd.Function):
    """(R,) -> (processes, R). What follows is the same on all, so the own part's gradient is complete."""

    @staticmethod
    def forward(ctx: Any, part):
        return torch.stack(all_parts(part))

    @staticmethod
    def backward(ctx: Any, grad):
        return grad[rank()]


class _AllSum(torch.autograd.Function):
    """The sum over processes. What follows is the same on all, so the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, part):
        return total(part)

    @staticmethod
    def backward(ctx: Any, grad):
        return grad
