"""The engine ``sharded``: the classes split over the ranks of torch.distributed, each rank a slice of the weights.

Every rank brings its own images, the same number on each. The embeddings travel to all ranks, each compares all images
with its own classes, and one number an image and rank (the aggregate of its classes) travels back. The loss, equal on
all ranks, is the mean over all images of all ranks.

Gradients: a shard's weights get that of this global mean, and are not to be averaged again. The embeddings get that
times the number of ranks, since DistributedDataParallel then averages the backbone's gradients over ranks.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from facetx.heads.criterion import MASKED, Criterion
from facetx.heads.engine import Centers, Result


@dataclass(frozen=True)
class Shard:
    """The classes [first, last) that this rank holds, of ``ranks`` as equal parts as can be."""

    first: int
    last: int
    num_classes: int = 0
    ranks: int = 1

    @classmethod
    def of_this_rank(cls, num_classes: int) -> "Shard":
        """This rank's part. ``ValueError`` if torch.distributed is not initialized, or classes are too few."""
        if not dist.is_initialized():
            raise ValueError(
                "engine 'sharded' splits the classes over the ranks of torch.distributed, which is not initialized; "
                "start with torchrun, or choose engine 'chunked' for one process"
            )
        rank, ranks = dist.get_rank(), dist.get_world_size()
        if num_classes < ranks:
            raise ValueError(f"engine 'sharded' needs a class for each rank: {num_classes} classes on {ranks} ranks")
        return cls(num_classes * rank // ranks, num_classes * (rank + 1) // ranks, num_classes, ranks)

    def gather(self, rows: Tensor) -> Tensor:
        """This rank's class rows -> all ranks' rows, in order."""
        if self.ranks == 1:
            return rows
        longest = -(-self.num_classes // self.ranks)
        parts = _all(F.pad(rows, (0, 0, 0, longest - len(rows))))
        bounds = [self.num_classes * r // self.ranks for r in range(self.ranks + 1)]
        return torch.cat([p[: b - a] for p, a, b in zip(parts, bounds[:-1], bounds[1:], strict=True)])


def sharded(
    unit: Tensor, norms: Tensor, centers: Centers, labels: Tensor, criterion: Criterion, shard: Shard
) -> Result:
    """``full``'s numbers for the images of all ranks together. All ranks must call it at the same step."""
    unit = _AllRows.apply(unit, True)
    partial_norms = _AllRows.apply(norms, True)  # used where each rank sees its own classes alone
    norms = _AllRows.apply(norms, False)  # used where every rank computes the same
    labels = torch.cat(_all(labels)) - shard.first

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
    best_other = torch.stack(_all(negatives.detach().amax(dim=1))).amax(dim=0)
    return Result(loss, target.detach(), best_other)


def _all(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks, in order."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts


class _AllRows(torch.autograd.Function):
    """Own rows -> the rows of all ranks. ``partial``: each rank's gradient is a part, and the sum is the whole."""

    @staticmethod
    def forward(ctx, rows, partial):
        ctx.partial, ctx.count = partial, len(rows)
        return torch.cat(_all(rows))

    @staticmethod
    def backward(ctx, grad):
        if ctx.partial:
            grad = grad.contiguous()
            dist.all_reduce(grad)
        own = grad[ctx.count * dist.get_rank() :][: ctx.count]
        return own * dist.get_world_size(), None


class _AllParts(torch.autograd.Function):
    """(R,) -> (ranks, R). What follows is the same on all ranks, so the own part's gradient is complete."""

    @staticmethod
    def forward(ctx, part):
        return torch.stack(_all(part))

    @staticmethod
    def backward(ctx, grad):
        return grad[dist.get_rank()]


class _AllSum(torch.autograd.Function):
    """The sum over ranks. What follows is the same on all ranks, so the gradient passes as it is."""

    @staticmethod
    def forward(ctx, part):
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad):
        return grad
