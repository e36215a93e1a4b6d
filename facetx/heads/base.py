"""What every head is: ``head(embeddings, labels) -> {"loss": ..., more scalars}``, and the checks that all share."""

import math
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from facetx.errors import DataError

Choice = TypeVar("Choice", bound=str | int)


class Head(nn.Module):
    """A loss on embeddings; it owns whatever weights that loss learns.

    Calling it with embeddings (B, embedding_dim) and int64 labels (B,) in [0, num_classes) gives a dict of scalar
    tensors. "loss" is the mean over the batch and carries the gradient; all others are detached.

    It computes in float32 under any autocast, and in float64 where its embeddings or its weights are float64.

    Attributes:
        embedding_dim: Width of the embeddings.
        num_classes: Identities of the training set.
        needs_pairs: Whether it learns from images of one identity that meet in a batch.
    """

    needs_pairs = False

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__()
        self.embedding_dim = at_least("embedding_dim", embedding_dim, 1)
        self.num_classes = at_least("num_classes", num_classes, 1)

    def set_margin_scale(self, factor: float) -> None:
        """Multiplies the margins by ``factor`` in [0, 1] from now on: the margin warm-up sets it at each step.

        Zero is the normalized softmax. Heads without a class-center margin take no notice.
        """

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        raise AssertionError("a head implements forward")

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """Raises ``DataError`` for a wrong shape or a label out of range.

        On CPU the message names the label. On an accelerator reading one would stop the queue at each step, so the
        check runs there as an asynchronous device assertion.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim or labels.shape != embeddings.shape[:1]:
            raise DataError(
                f"expected embeddings of shape (batch, {self.embedding_dim}) and labels of shape (batch,), "
                f"got {tuple(embeddings.shape)} and {tuple(labels.shape)}"
            )
        if not len(labels):
            raise DataError("the batch is empty; a loss needs at least one image")
        inside = (labels >= 0) & (labels < self.num_classes)
        if labels.device.type != "cpu":
            torch._assert_async(inside.all(), f"a label is outside [0, {self.num_classes})")
        elif not inside.all():
            raise DataError(
                f"label {labels[~inside][0].item()} is out of range: the head has {self.num_classes} classes, so "
                f"labels run from 0 to {self.num_classes - 1}; set num_classes to the identity count of the data"
            )


def full_precision(tensor: Tensor) -> Tensor:
    """float64 stays, everything else becomes float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def at_least(name: str, value: int, lowest: int) -> int:
    """``value``, or ``ValueError`` if it is below ``lowest``."""
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value


def positive(name: str, value: float) -> float:
    """``value``, or ``ValueError`` if it is not above 0 and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return value


def within(name: str, value: float, low: float, high: float) -> float:
    """``value``, or ``ValueError`` if it is outside [low, high]."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")
    return value


def one_of(name: str, value: Choice, literal: Any) -> Choice:
    """``value``, or ``ValueError`` if it is none of the values of the ``Literal`` type."""
    if value not in get_args(literal):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(literal)))}, got {value!r}")
    return value
