"""The plain engine, ``full``: all cosines at once. The others give its numbers in less memory or on more machines.

An engine is a function ``(unit, norms, weight, labels, criterion) -> Result``.

Shapes: B images, C classes, D numbers an embedding. ``unit`` (B, D) holds the normalized embeddings, ``norms`` (B,)
their lengths, ``weight`` (C, D) the class centers as they are learned, not normalized.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facetx.heads.criterion import MASKED, Criterion

EPS = 1e-12  # the shortest length that is divided by


class Result(NamedTuple):
    """What an engine gives: the mean loss, and detached (B,) cosines to the own class and to the nearest other one."""

    loss: Tensor
    target: Tensor
    best_other: Tensor


def full(unit: Tensor, norms: Tensor, weight: Tensor, labels: Tensor, criterion: Criterion) -> Result:
    """Holds a normalized copy of the weights and all B x C logits."""
    centers = F.normalize(weight, eps=EPS) if criterion.normalized else weight
    target, negatives = take_target(F.linear(unit, centers), labels)
    if criterion.training:
        criterion.observe(target.detach(), norms.detach())
    loss = criterion.losses(target, criterion.aggregate(target.detach(), negatives, norms), norms).mean()
    return Result(loss, target.detach(), negatives.detach().amax(dim=1))


def take_target(cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (R, C) -> those to the own class (R,), and ``cosine`` itself with these masked, in place."""
    target = cosine[torch.arange(len(labels), device=labels.device), labels]
    return target, cosine.scatter_(1, labels[:, None], MASKED)
