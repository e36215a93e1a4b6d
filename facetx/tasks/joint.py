"""Identity and attributes in one: one backbone, a loss on its embeddings, and a head for each region of the face."""

from typing import TypedDict, Unpack

from torch import Tensor, nn

from facetx.data.base import Description
from facetx.errors import ConfigError
from facetx.heads import Head
from facetx.nn.backbone import Backbone
from facetx.tasks.attributes import Attributes, LossName
from facetx.tasks.base import Batch
from facetx.tasks.recognition import Recognition


class AttributeArgs(TypedDict, total=False):
    """Of ``facetx.tasks.attributes.Attributes``."""

    layers: tuple[int, ...]
    dropout: float
    loss: LossName
    loss_args: dict[str, float] | None
    groups: str | dict[str, tuple[str, ...]]


class Joint(Recognition):
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
        super().__init__(backbone, data, head, margin_warmup_steps)
        if weight <= 0:
            raise ConfigError(f"weight must be above 0, got {weight}; for identities alone take the task recognition")
        self.weight = weight
        view = Attributes(backbone, data, **attributes)  # type: ignore[arg-type]
        self.attribute_names = view.attribute_names
        self.heads, self.criterion = view.heads, view.criterion
        self._published = (view,)  # in a tuple, since its parts are this task's own already

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"attributes"}

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """ "loss" of both, and what each says beside."""
        of_identities = self.head(embeddings, batch["label"])
        of_attributes = self._published[0].loss(embeddings, batch)
        return {
            **of_identities,
            **{f"attributes/{name}": value.detach() for name, value in of_attributes.items()},
            "identities/loss": of_identities["loss"].detach(),
            "loss": of_identities["loss"] + self.weight * of_attributes["loss"],
        }

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "embedding", "attributes", and "logits" of identities where the head has class centers."""
        predicted = super().predict(batch)
        return {**predicted, "attributes": self._published[0].logits(predicted["embedding"])}

    def published(self) -> nn.Module:
        return self._published[0]
