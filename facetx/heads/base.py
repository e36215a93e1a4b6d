"""What every head is: ``head(embeddings, labels) -> {"loss": ..., more scalars}``, and the checks that all share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from facetx.errors import ConfigError, DataError
from facetx.heads.precision import true_float32
from facetx.processes import all_rows

Choice = TypeVar("Choice", bound=str | int)


class Head(nn.Module, ABC):
    """A loss on embeddings; it owns whatever weights that loss learns. A head of one's own is a subclass.

    Calling it with embeddings (B, embedding_dim) and int64 labels (B,) in [0, num_classes) gives a dict of scalar
    tensors. "loss" is the mean over the batch and carries the gradient; all others are detached.

    The call checks what goes in and what comes out, and turns the embeddings to float32 (float64 stays). ``forward``
    runs in true float32 under any autocast and any setting of TF32. So does its backward pass, as long as its matrix
    products are those of ``facetx.heads.precision.product``.

    Attributes:
        embedding_dim: Width of the embeddings.
        num_classes: Identities of the training set.
        needs_pairs: Whether it learns from images of one identity that meet in a batch.
        per_sample: Whether the loss is a mean over images that know nothing of each other, so that a batch may come in
            equal parts and the losses be averaged. Not so for pairs, and for statistics of the batch.
        sees_all: Whether ``forward`` itself sees the images of all processes, where several train together. Else a head
            that is not ``per_sample`` is given, in training, the embeddings and labels of all.
        has_logits: Whether ``logits`` gives any.
    """

    embedding_dim: int
    num_classes: int
    needs_pairs: bool = False
    per_sample: bool = False
    sees_all: bool = False
    has_logits: bool = False

    def __init__(self, embedding_dim: int, num_classes: int):
        super().__init__()
        self.embedding_dim = at_least("embedding_dim", embedding_dim, 1)
        self.num_classes = at_least("num_classes", num_classes, 1)

    def __call__(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.check(embeddings, labels)
        if self.training and not (self.per_sample or self.sees_all):
            embeddings, labels = all_rows(embeddings), all_rows(labels)
        with true_float32(embeddings.device):
            scalars = super().__call__(full_precision(embeddings), labels)
        check_scalars(type(self).__name__, scalars, learns=embeddings.requires_grad and torch.is_grad_enabled())
        return scalars

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The scalars; embeddings are float32 or float64, and both arguments are checked."""

    def set_margin_scale(self, factor: float) -> None:
        """Multiplies the margins by ``factor`` in [0, 1] from now on: the margin warm-up sets it at each step.

        Zero is the normalized softmax. Heads without a class-center margin take no notice.
        """

    def logits(self, embeddings: Tensor) -> Tensor:
        """Scaled logits (B, num_classes) without a margin; ``ValueError`` where ``has_logits`` is false."""
        raise ValueError(f"{type(self).__name__} has no class centers, so it gives no logits")

    def check(self, embeddings: Tensor, labels: Tensor) -> None:
        """Raises ``DataError`` for a wrong shape or a label out of range.

        On CPU the message names the label. On an accelerator reading one would stop the queue at each step, so the
        check runs there as an asynchronous device assertion.
        """
        if not vars(self).keys() >= {"embedding_dim", "num_classes"}:
            raise ConfigError(
                f"head {type(self).__name__}: its __init__ must begin with super().__init__(embedding_dim, num_classes)"
            )
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


def check_scalars(name: str, scalars: object, learns: bool) -> None:
    """Raises ``ConfigError`` where a head's result is not what the trainer can use. Looks at no value.

    Args:
        name: Of the head, for the message.
        scalars: What its ``forward`` returned.
        learns: Whether the loss must carry a gradient.
    """
    if not isinstance(scalars, dict) or "loss" not in scalars:
        got = f"a dict of {_names(scalars)}" if isinstance(scalars, dict) else f"a {type(scalars).__name__}"
        raise ConfigError(f'head {name}: forward returns {got}; it must return a dict of scalars, with "loss"')
    wrong = [k for k, v in scalars.items() if not isinstance(v, Tensor) or v.ndim]
    if wrong:
        raise ConfigError(
            f"head {name}: forward returns {_names(wrong)}, which must be a scalar tensor (shape ()); take a mean over "
            "the batch"
        )
    if learns and not scalars["loss"].requires_grad:
        raise ConfigError(f'head {name}: "loss" carries no gradient, so nothing would be learned; is it detached?')


def _names(keys: Iterable[object]) -> str:
    return ", ".join(repr(k) for k in keys) or "nothing"


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
