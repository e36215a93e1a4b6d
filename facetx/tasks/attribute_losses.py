"""Losses of attributes, each of one logit and its label; what is not known about an image counts for nothing."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetx.errors import ConfigError
from facetx.processes import total


class AttributeLoss(nn.Module, ABC):
    """Logits and labels (B, A) to a loss.

    Labels are 1, 0, something between (of mixed images), or NaN where that is not known.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over what is known, divided by B x A: so the loss of a batch is the mean of its parts' losses, and an
        image of which half is known counts half."""
        known = labels.isfinite()
        labels = labels.masked_fill(~known, 0)
        positive, negative = self.both(logits, labels, known)
        each = labels * positive + (1 - labels) * negative
        return each.masked_fill(~known, 0).sum() / labels.numel()

    def begin_step(self) -> None:
        """Called before each step of training: what was seen in the last one counts from now on."""

    @abstractmethod
    def both(self, logits: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) each: the loss where the attribute holds, and where it does not."""


class BinaryCrossEntropy(AttributeLoss):
    """-log p, and -log(1 - p)."""

    def both(self, logits: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(-logits), F.softplus(logits)


class Balanced(AttributeLoss):
    """Binary cross-entropy, weighted so that the images with an attribute weigh as much together as those without.

    The shares are those of all labels seen in training before this step, so that they are the same for all parts of a
    batch; they are a part of the checkpoint.

    Args:
        num_attributes: A.
        most: A weight is no larger than this.
    """

    def __init__(self, num_attributes: int, most: float = 10.0):
        super().__init__()
        if most < 1:
            raise ConfigError(f"most must be at least 1, got {most}")
        self.most = most
        self.register_buffer("seen", torch.ones(2, num_attributes))  # with and without; one each to begin with
        self.register_buffer("now", torch.zeros(2, num_attributes))
        self.seen: Tensor
        self.now: Tensor

    def begin_step(self) -> None:
        self.seen += self.now
        self.now.zero_()

    def both(self, logits: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self.now += total(torch.stack([labels.sum(0), ((1 - labels) * known).sum(0)]))
        weights = (self.seen.sum(0) / (2 * self.seen)).clamp(max=self.most)  # (2, A)
        return weights[0] * F.softplus(-logits), weights[1] * F.softplus(logits)


class Focal(AttributeLoss):
    """-(1 - p)^gamma log p, and its mirror: what is decided already counts less (Lin et al., arXiv 1708.02002, eq. 4).

    Args:
        num_attributes: A; any.
        gamma: 0 is plain cross-entropy.
    """

    def __init__(self, num_attributes: int, gamma: float = 2.0):
        super().__init__()
        self.gamma = _not_negative("gamma", gamma)

    def both(self, logits: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.sigmoid()
        return (1 - p) ** self.gamma * F.softplus(-logits), p**self.gamma * F.softplus(logits)


class Asymmetric(AttributeLoss):
    """Focal loss with a stronger focus, and a margin, where the attribute does not hold (Ridnik et al., arXiv
    2009.14119, eq. 4 to 7): -(1 - p)^gamma_positive log p, and -q^gamma_negative log(1 - q), q = max(p - margin, 0).

    Args:
        num_attributes: A; any.
        gamma_positive, gamma_negative: The two focuses.
        margin: Probabilities up to this count as none.
    """

    def __init__(
        self, num_attributes: int, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05
    ):
        super().__init__()
        self.gamma_positive = _not_negative("gamma_positive", gamma_positive)
        self.gamma_negative = _not_negative("gamma_negative", gamma_negative)
        if not 0 <= margin < 1:
            raise ConfigError(f"margin must be at least 0 and below 1, got {margin}")
        self.margin = margin

    def both(self, logits: Tensor, labels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.sigmoid()
        positive = (1 - p) ** self.gamma_positive * F.softplus(-logits)
        if self.margin == 0:
            return positive, p**self.gamma_negative * F.softplus(logits)
        q = (p - self.margin).clamp(min=0)
        return positive, -(q**self.gamma_negative) * torch.log1p(-q)


def _not_negative(name: str, value: float) -> float:
    if value < 0:
        raise ConfigError(f"{name} must be at least 0, got {value}")
    return value


_LOSSES: dict[str, type[AttributeLoss]] = {"balanced": Balanced, "focal": Focal, "asymmetric": Asymmetric}


def attribute_loss(name: str, num_attributes: int, args: Mapping[str, float]) -> AttributeLoss:
    """One of "bce", "balanced", "focal", "asymmetric". Raises ``ConfigError`` for arguments that it does not take."""
    known = () if name == "bce" else tuple(inspect.signature(_LOSSES[name]).parameters)[1:]
    if unknown := [arg for arg in args if arg not in known]:
        raise ConfigError(f"loss_args: {name} takes {', '.join(known) or 'none'}, and not {', '.join(unknown)}")
    return BinaryCrossEntropy() if name == "bce" else _LOSSES[name](num_attributes, **args)
