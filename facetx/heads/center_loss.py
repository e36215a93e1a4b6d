"""Center loss: draws the embeddings of an identity together, beside a softmax that separates the identities."""

from typing import Literal

import torch
from torch import Tensor

from facetx.heads.base import Head, one_of, positive, within
from facetx.nn.statistics import LargeStatistics

Reduction = Literal["mean", "sum"]


class CenterLoss(Head, LargeStatistics):
    """Center loss (Wen et al., ECCV 2016, eq. 2 to 4): lambda / 2 sum |x - c_y|^2, joined to a softmax head.

    The centers c start at 0 and follow the embeddings from the first step on: after each training step's loss,
    c_j <- c_j + alpha sum (x - c_j) / (1 + n_j) over the n_j images of class j in the batch. They are a buffer, which
    no optimizer moves. It must be on from the beginning of training; centers that join later are far from the
    embeddings.

    Args:
        weight: lambda, > 0. In a joint head the part's own weight can play lambda, with 1 here.
        alpha: How fast centers follow, in [0, 1].
        reduction: "sum" over the batch is the paper's, whose softmax loss is a sum too. "mean" is that divided by the
            batch size, which fits this library's softmax heads, whose loss is a mean.

    Choose it to tighten plain softmax; alone it has a trivial optimum, all embeddings at one point. The paper's lambda
    beside softmax is 0.003.
    """

    centers: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        weight: float = 1.0,
        alpha: float = 0.5,
        reduction: Reduction = "mean",
    ):
        super().__init__(embedding_dim, num_classes)
        self.lambda_ = positive("weight", weight)
        self.alpha = within("alpha", alpha, 0, 1)
        self.reduction = one_of("reduction", reduction, Reduction)
        self.register_buffer("centers", torch.zeros(num_classes, embedding_dim))
        self._moved: tuple[Tensor, Tensor] | None = None  # labels (B,), and their centers before the last update

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        offset = embeddings - self.centers[labels]  # (B, D)
        losses = self.lambda_ / 2 * offset.square().sum(dim=1)
        if self.training:
            self._update(offset.detach(), labels)
        return {
            "loss": losses.sum() if self.reduction == "sum" else losses.mean(),
            "center_distance": offset.detach().norm(dim=1).mean(),
        }

    def _update(self, offset: Tensor, labels: Tensor) -> None:
        """c_j += alpha sum over the batch's images of j of (x - c_j), over 1 + their number."""
        self._moved = labels, self.centers[labels]
        count = (labels[:, None] == labels).sum(dim=1)  # (B,): images of one's own class
        step = self.alpha * offset / (1 + count[:, None].to(self.centers))
        self.centers.index_add_(0, labels, step.to(self.centers))

    def settle(self, finite: Tensor) -> None:
        """Puts the centers of the last update back where ``finite`` is false."""
        if self._moved is not None:
            labels, before = self._moved
            self.centers.index_copy_(0, labels, torch.where(finite, self.centers[labels], before))
            self._moved = None
