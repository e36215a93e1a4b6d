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
    weight, bias = centers
    num_classes = len(weight)
    count = min(num_classes, max(math.ceil(sample_rate * num_classes), len(labels)))
    # A class of the batch ranks above every random number, so the highest `count` hold them all.
    order = from_first(torch.rand(num_classes, device=weight.device)).index_fill_(0, labels, 2.0)
    kept = order.topk(count, sorted=False).indices.sort().values
    some = Centers(weight[kept], None if bias is None else bias[kept])
    return full(unit, norms, some, torch.searchsorted(kept, labels), criterion)
