"""The plain engine, ``full``: all cosines at once. The others give its numbers in less memory or on more machines.

An engine is a function ``(unit, norms, centers, labels, criterion) -> Result``.

Shapes: B images, C classes, D numbers an embedding. ``unit`` (B, D) holds the normalized embeddings, ``norms`` (B,)
their lengths.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facetx.heads.criterion import MASKED, Criterion
from facetx.heads.precision import product

EPS = 1e-12  # the shortest length that is divided by


class Centers(NamedTuple):
    """The class centers as they are learned: weight (C, D), not normalized, and what is added to a class's product.

    Only a criterion without normalization has a bias (C,).
    """

    weight: Tensor
    bias: Tensor | None = None

    def some(self, classes: Tensor) -> "Centers":
        """Those of these classes (K,)."""
        return Centers(self.weight[classes], None if self.bias is None else self.bias[classes])

    def cosines(self, unit: Tensor, normalized: bool) -> Tensor:
        """Of all embeddings with all centers, (B, C)."""
        if normalized:
            return product(unit, F.normalize(self.weight, eps=EPS))
        cosine = product(unit, self.weight)
        return cosine if self.bias is None else cosine + self.bias


class Result(NamedTuple):
    """What an engine gives: the mean loss, and detached (B,) cosines to the own class and to the nearest other one."""

    loss: Tensor
    target: Tensor
    best_other: Tensor


def full(unit: Tensor, norms: Tensor, centers: Centers, labels: Tensor, criterion: Criterion) -> Result:
    """Holds a normalized copy of the weights and all B x C logits."""
    target, negatives = take_target(centers.cosines(unit, criterion.normalized), labels)
    if criterion.training:
        criterion.observe(target.detach(), norms.detach())
    loss = criterion.losses(target, criterion.aggregate(target.detach(), negatives, norms), norms).mean()
    return Result(loss, target.detach(), negatives.detach().amax(dim=1))


def take_target(cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (R, C) -> those to the own class (R,), and ``cosine`` itself with these masked, in place."""
    target = cosine[torch.arange(len(labels), device=labels.device), labels]
    return target, cosine.scatter_(1, labels[:, None], MASKED)
