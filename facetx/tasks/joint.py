"""Identity and more in one: a backbone, a loss on its embeddings, and another task on the same backbone."""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from facetx.data.base import Description
from facetx.errors import ConfigError
from facetx.heads import Head
from facetx.nn.backbone import Backbone
from facetx.nn.compiled import Compile
from facetx.tasks.attributes import Attributes, GroupsArg
from facetx.tasks.attributes import LossName as AttributeLossName
from facetx.tasks.base import Batch, Task
from facetx.tasks.mask_losses import LossName as MaskLossName
from facetx.tasks.parsing import DecoderArgs, Parsing
from facetx.tasks.recognition import Recognition


class AttributeArgs(TypedDict, total=False):
    """Of ``facetx.tasks.attributes.Attributes``."""

    layers: tuple[int, ...]
    dropout: float
    loss: AttributeLossName
    loss_args: dict[str, float] | None
    groups: GroupsArg


class ParsingArgs(DecoderArgs, total=False):
    """Of ``facetx.tasks.parsing.Parsing``."""

    loss: MaskLossName
    class_weights: dict[str, float] | None
    gamma: float


class _WithIdentity(Recognition):
    """Recognition beside another task, which is what is published: it is without the identity head.

    Args:
        other: The task, on the same backbone.
        parts: Names of its parts, which become this one's under the same names.
        weight: Of its loss; that of identities counts once.
        backbone, data, head, margin_warmup_steps: Of ``Recognition``.

    Images whose identity is not known (label -1) count for nothing in the loss of identities, which is the mean over
    the others of a batch.
    """

    takes_unknown = True

    def __init__(
        self,
        other: Task,
        parts: tuple[str, ...],
        weight: float,
        backbone: Backbone,
        data: Description,
        head: Head,
        margin_warmup_steps: int,
    ):
        super().__init__(backbone, data, head, margin_warmup_steps)
        if weight <= 0:
            raise ConfigError(f"weight must be above 0, got {weight}; for identities alone take the task recognition")
        self.weight = weight
        self.some_unknown = data.some_unknown
        for name in parts:
            self.add_module(name, other.get_submodule(name))
        self.attribute_names = other.attribute_names
        self.mask_classes, self.mask_colors = other.mask_classes, other.mask_colors
        self._other = (other,)  # in a tuple, since its parts are this task's own already

    @property
    def other(self) -> Any:
        """The task that is published."""
        return self._other[0]

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | self.other.needs

    def at_step(self, step: int) -> None:
        super().at_step(step)
        self.other.at_step(step)

    def both(self, embeddings: Tensor, batch: Batch, name: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """ "loss" of identities and of the other task, ``found``, and what each says beside."""
        labels = batch["label"]
        if self.some_unknown:  # what is picked by value has a size that the host has to wait for
            known = labels >= 0
            embeddings, labels = embeddings[known], labels[known]
        of_identities = self.head(embeddings, labels)
        return {
            **of_identities,
            **{f"{name}/{key}": value.detach() for key, value in found.items()},
            "identities/loss": of_identities["loss"].detach(),
            "loss": of_identities["loss"] + self.weight * found["loss"],
        }

    def published(self) -> Task:
        return self._other[0]


class Joint(_WithIdentity):
    """Recognition and attributes together. What is published is a task of attributes, without the identity head.

    Args:
        backbone: Images -> embeddings.
        data: Of the training set, with the names of the attributes.
        head: The loss on identities; ``head`` of the settings.
        weight: Of the loss of attributes; that of identities counts once.
        margin_warmup_steps: Of the task ``recognition``.
        attributes: Of the task ``attributes``.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: Description,
        head: Head,
        weight: float = 1.0,
        margin_warmup_steps: int = 0,
        **attributes: Unpack[AttributeArgs],
    ):
        other = Attributes(backbone, data, **attributes)
        super().__init__(other, ("heads", "criterion"), weight, backbone, data, head, margin_warmup_steps)

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self.both(embeddings, batch, "attributes", self.other.loss(embeddings, batch))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "embedding", "attributes", and "logits" of identities where the head has class centers."""
        predicted = super().predict(batch)
        return {**predicted, "attributes": self.other.logits(predicted["embedding"])}


class JointParsing(_WithIdentity):
    """Recognition and parsing together. What is published is a task of parsing, without the identity head.

    Args:
        backbone: Images -> embeddings and feature maps.
        data: Of the training set, with the names of the masks' classes.
        head: The loss on identities; ``head`` of the settings.
        weight: Of the loss of parsing; that of identities counts once.
        margin_warmup_steps: Of the task ``recognition``.
        parsing: Of the task ``parsing``.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: Description,
        head: Head,
        weight: float = 1.0,
        margin_warmup_steps: int = 0,
        **parsing: Unpack[ParsingArgs],
    ):
        other = Parsing(backbone, data, **parsing)
        other.embeds = True
        super().__init__(other, ("decoder", "criterion"), weight, backbone, data, head, margin_warmup_steps)
        self._network: Callable[..., tuple[Tensor, list[Tensor]]] | None = None  # compiled

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        embeddings, logits = self._seen(batch)
        return self.both(embeddings, batch, "parsing", self.other.loss_of(logits, batch))

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Of embeddings that were gathered in parts: the maps are computed anew, of the whole batch."""
        return self.both(embeddings, batch, "parsing", self.other(batch))

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "embedding", "mask", and "logits" of identities where the head has class centers."""
        embedding, mask = self._seen(batch)
        identities = {"logits": self.head.logits(embedding)} if self.head.has_logits else {}
        return {"embedding": embedding, "mask": mask, **identities}

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The embeddings (B, E) and the logits (B, M, H, W)."""
        seen: tuple[Tensor, Tensor] = self.other.embedding_and_logits(
            batch, self._network or self.backbone.embedding_and_features
        )
        return seen

    def compile_network(self, how: Compile, backend: str = "inductor") -> None:
        super().compile_network(how, backend)
        if how is True:
            self._network = torch.compile(self.backbone.embedding_and_features, backend=backend, dynamic=False)
            self.other.decoder.compile(backend=backend, dynamic=False)
