"""Losses of parsing, of the logits of all pixels and their classes; pixels that are not labeled count for nothing."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetx.data.sample import IGNORED
from facetx.errors import ConfigError, did_you_mean

LossName = Literal["cross_entropy", "dice", "cross_entropy_dice", "focal"]


class MaskLoss(nn.Module):
    """Logits (B, M, H, W) and classes (B, H, W) to a loss, the mean over the images.

    - "cross_entropy": -log p of the pixel's class, summed over the labeled pixels and divided by all pixels. So the
      loss of a batch is the mean of its parts' losses, and an image of which half is labeled counts half.
    - "dice": 1 - the mean over an image's own classes of 2 sum(p g) / (sum(p) + sum(g)), g being 1 on the pixels of
      the class (Milletari et al., arXiv 1606.04797, with the sums themselves in place of their squares).
    - "cross_entropy_dice": the sum of both.
    - "focal": cross-entropy times (1 - p)^gamma (Lin et al., arXiv 1708.02002, eq. 4).

    Args:
        name: One of these.
        classes: (M,) names, for ``weights``.
        weights: Class -> its factor in each loss, 1 unless given: on its pixels' terms, and in the mean of dice.
        gamma: Of focal loss; 0 is plain cross-entropy.

    Raises ``ConfigError`` for weights of unknown classes and numbers below 0.
    """

    def __init__(
        self,
        name: LossName,
        classes: Sequence[str],
        weights: Mapping[str, float] | None = None,
        gamma: float = 2.0,
    ):
        super().__init__()
        given = dict(weights or {})
        if unknown := [c for c in given if c not in classes]:
            raise ConfigError(f"class_weights: no class is named {unknown[0]!r}; {did_you_mean(unknown[0], classes)}")
        if gamma < 0 or min(given.values(), default=0) < 0:
            raise ConfigError(f"gamma and class_weights must be at least 0, got {gamma} and {given}")
        self.name, self.gamma = name, gamma if name == "focal" else 0.0
        values = torch.tensor([float(given.get(c, 1.0)) for c in classes])
        self.register_buffer("weights", values, persistent=False)
        self.weights: Tensor

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        mask = mask.long()
        log_p = logits.log_softmax(1)  # (B, M, H, W)
        loss = logits.new_zeros(())
        if self.name != "dice":
            loss = loss + self._of_pixels(log_p, mask)
        if self.name in ("dice", "cross_entropy_dice"):
            loss = loss + self._dice(log_p.exp(), mask)
        return loss

    def _of_pixels(self, log_p: Tensor, mask: Tensor) -> Tensor:
        each = F.nll_loss(log_p, mask, self.weights, ignore_index=IGNORED, reduction="none")  # (B, H, W)
        if self.gamma:
            known = mask.masked_fill(mask == IGNORED, 0)[:, None]
            each = each * (1 - log_p.gather(1, known).squeeze(1).exp()) ** self.gamma
        return each.sum() / mask.numel()

    def _dice(self, p: Tensor, mask: Tensor) -> Tensor:
        labels = one_hot(mask, p.shape[1])
        known = (mask != IGNORED)[:, None]
        both = (p * labels).sum((2, 3))  # (B, M)
        sizes = labels.sum((2, 3))
        score = 2 * both / (sizes + (p * known).sum((2, 3))).clamp(min=1e-6)
        counted = self.weights * (sizes > 0)
        missed = (counted * (1 - score)).sum(1) / counted.sum(1).clamp(min=1e-6)  # (B,)
        return missed.mean()


def one_hot(mask: Tensor, classes: int) -> Tensor:
    """Classes (B, H, W) -> float (B, M, H, W), 1 at the pixel's class and 0 elsewhere; no class where not labeled."""
    return (mask[:, None] == torch.arange(classes, device=mask.device)[:, None, None]).float()
