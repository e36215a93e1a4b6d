"""Facial attributes: a head for each region of the face, on the backbone's embedding."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from facetx.data.attribute_groups import Groups, groups_of, regions_of
from facetx.data.base import Description
from facetx.errors import ConfigError
from facetx.heads.precision import true_float32
from facetx.nn.backbone import Backbone
from facetx.tasks.attribute_losses import attribute_loss
from facetx.tasks.base import Batch, Task, share_met

LossName = Literal["bce", "balanced", "focal", "asymmetric"]
GroupsArg = Literal["regions", "one"] | dict[str, tuple[str, ...]]


class RegionHeads(nn.Module):
    """Features (B, E) to logits (B, A): a small network for each group of attributes, in the data set's order.

    Args:
        width: E.
        groups: Group -> places of its attributes; all of 0..A-1 once.
        layers: Widths of the hidden layers, each with ReLU. None is a linear layer alone.
        dropout: After each hidden layer.
    """

    def __init__(self, width: int, groups: Groups, layers: Sequence[int] = (1024, 512), dropout: float = 0.0):
        super().__init__()
        self.groups = groups
        self.heads = nn.ModuleList(_head(width, layers, len(places), dropout) for places in groups.values())
        order = torch.tensor([place for places in groups.values() for place in places])
        self.register_buffer("order", order.argsort(), persistent=False)
        self.order: Tensor

    def forward(self, features: Tensor) -> Tensor:
        by_group = torch.cat([head(features) for head in self.heads], dim=1)  # (B, A) in the groups' order
        return by_group[:, self.order]


def _head(width: int, layers: Sequence[int], outputs: int, dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for layer in layers:
        parts += [nn.Linear(width, layer), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        width = layer
    return nn.Sequential(*parts, nn.Linear(width, outputs))


class Attributes(Task):
    """Which attributes a face has. Labels that are not known (NaN) are left out of the loss.

    Args:
        backbone: Images -> embeddings; ``embedding_dim: null`` gives the pooled features of other libraries' models.
        data: Of the training set, with the names of the attributes.
        layers: Widths of the hidden layers of each head, each with ReLU.
        dropout: After each hidden layer, in 0..1.
        loss: Binary cross-entropy; the same with each attribute's two sides weighted alike; focal; or asymmetric loss.
        loss_args: Its own arguments, see ``facetx.tasks.attribute_losses``.
        groups: Which attributes share a head: "regions" of the face, "one" for all, or groups of one's own, by names.
        mixup: Above 0, images are mixed in pairs, by a share drawn from Beta(mixup, mixup) (Zhang et al., arXiv
            1710.09412). Of mixed keypoints those of the stronger image count.

    Raises ``ConfigError`` for data without attributes, and arguments out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        data: Description,
        layers: tuple[int, ...] = (1024, 512),
        dropout: float = 0.0,
        loss: LossName = "bce",
        loss_args: dict[str, float] | None = None,
        groups: GroupsArg = "regions",
        mixup: float = 0.0,
    ):
        super().__init__(backbone)
        if not data.attributes:
            raise ConfigError(
                "task: the training set has no attributes to learn; take data that has, such as celeba, attribute_csv "
                "or synthetic_faces"
            )
        if not 0 <= dropout < 1 or mixup < 0 or min(layers, default=1) < 1:
            raise ConfigError(
                f"layers must be at least 1 wide, dropout at least 0 and below 1, and mixup at least 0; got {layers}, "
                f"{dropout} and {mixup}"
            )
        self.attribute_names = data.attributes
        self.mixup = mixup
        self.heads = RegionHeads(backbone.embedding_dim, _groups(data.attributes, groups), layers, dropout)
        self.criterion = attribute_loss(loss, len(data.attributes), loss_args or {})

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"attributes"}

    def at_step(self, step: int) -> None:
        self.criterion.begin_step()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.mixup:
            return self._mixed(batch)
        return self.loss(self.embed(batch), batch)

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """ "loss", and "accuracy": the share of the known labels that are met at 0.5."""
        labels = batch["attributes"]
        with true_float32(embeddings.device):
            logits = self.logits(embeddings)
            return {"loss": self.criterion(logits, labels), "accuracy": _accuracy(logits.detach(), labels)}

    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, E) -> (B, A), of the attributes in the data's order."""
        return self.heads(embeddings.float())

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "embedding", and "attributes": logits, in the order of ``attribute_names``."""
        embedding = self.embed(batch)
        return {"embedding": embedding, "attributes": self.logits(embedding)}

    def published(self) -> nn.Module:
        return self

    def _mixed(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the batch mixed with itself; all that is drawn comes from PyTorch's generator of the step."""
        labels = batch["attributes"]
        share = torch.distributions.Beta(self.mixup, self.mixup).sample().to(labels.device)
        share = torch.maximum(share, 1 - share)
        other = torch.randperm(len(labels)).to(labels.device)
        images = self.backbone.contract(batch["image"])
        images = share * images + (1 - share) * images[other]
        points = (batch["keypoints"],) if self.backbone.needs_keypoints else ()
        mixed = share * labels + (1 - share) * labels[other]
        return self.loss(self.backbone(images, *points), {"attributes": mixed})


def _groups(names: Sequence[str], groups: str | Mapping[str, Sequence[str]]) -> Groups:
    if not isinstance(groups, str):
        return groups_of(names, groups)
    return regions_of(names) if groups == "regions" else {"all": tuple(range(len(names)))}


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return share_met((logits > 0) == (labels > 0.5), labels.isfinite())
