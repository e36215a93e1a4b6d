"""The engine ``sampled``: Partial FC, the batch's own classes and a random part of the others (arXiv 2203.15565)."""

import math

import torch
from torch import Tensor

from facetx.heads.criterion import Criterion
from facetx.heads.engine import Centers, Result, full
from facetx.processes import from_first


def sampled(
    unit: Tensor, norms: Tensor, centers: Centers, labels: Tensor, criterion: Criterion, sample_rate: float
) -> Result:
    """``full`` over a fresh choice of classes: every class of the batch, then others, up to ``sample_rate`` of all.

    At rate 1 it is ``full``. The choice comes from torch's random state, so that a seeded step repeats. At least as
    many classes as images are kept. Class centers left out get a gradient of zero; the optimizer's momentum and decay
    move them all the same.
    """
    numbers = from_first(torch.rand(len(centers.weight), device=unit.device))  # one choice for all processes
    kept = choose(numbers, labels, sample_rate)
    return full(unit, norms, centers.some(kept), torch.searchsorted(kept, labels), criterion)


def choose(numbers: Tensor, labels: Tensor, sample_rate: float) -> Tensor:
    """Which classes are kept, in order: those of ``labels``, and of the others those of the largest ``numbers``.

    Args:
        numbers: (C,), of each class one in [0, 1).
        labels: (B,); those outside of [0, C) are of classes that lie elsewhere.
        sample_rate: Part of the C to keep; never fewer than B, if there are as many.
    """
    classes = len(numbers)
    count = min(classes, max(math.ceil(sample_rate * classes), len(labels)))
    # A class of the batch ranks above every random number, so the highest `count` hold them all. One place more takes
    # the labels from elsewhere.
    places = labels.where((labels >= 0) & (labels < classes), classes)
    order = torch.cat([numbers, numbers.new_zeros(1)]).index_fill_(0, places, 2.0)[:classes]
    return order.topk(count, sorted=False).indices.sort().values
