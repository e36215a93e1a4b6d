"""Face parsing: the class of each pixel, by a light pyramid on the backbone's feature maps."""

from collections.abc import Callable
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from facetx.data.base import Description
from facetx.data.sample import IGNORED
from facetx.errors import ConfigError
from facetx.heads.precision import true_float32
from facetx.nn.backbone import Backbone
from facetx.nn.compiled import Compile
from facetx.nn.dense import PyramidDecoder
from facetx.tasks.base import Batch, Task, share_met
from facetx.tasks.mask_losses import LossName, MaskLoss


class DecoderArgs(TypedDict, total=False):
    """Of ``facetx.nn.dense.PyramidDecoder``."""

    width: int
    finest: int
    detail: int
    context: bool
    dropout: float


class Parsing(Task):
    """Which class each pixel is of. Pixels that are not labeled (255) are left out of the loss.

    Args:
        backbone: Images -> feature maps; its pooling and neck are not used, so ``embedding_dim: null`` saves a neck.
        data: Of the training set, with the names of the masks' classes.
        loss: "cross_entropy", "dice", the sum of both, or "focal"; see ``facetx.tasks.mask_losses``.
        class_weights: Class -> its factor in the loss; 1 unless given.
        gamma: Of focal loss.
        decoder: Of ``facetx.nn.dense.PyramidDecoder``.

    Raises ``ConfigError`` for data without masks, a backbone without feature maps, and arguments out of range.
    """

    leaves_out = True  # of the backbone its pooling and neck
    class_parts = ("decoder.classifier.",)

    embeds = False  # whether predictions hold the embedding too: a joint task sets it

    def __init__(
        self,
        backbone: Backbone,
        data: Description,
        loss: LossName = "cross_entropy_dice",
        class_weights: dict[str, float] | None = None,
        gamma: float = 2.0,
        **decoder: Unpack[DecoderArgs],
    ):
        super().__init__(backbone)
        if len(data.mask_classes) < 2:
            raise ConfigError(
                "task: the training set has no masks to learn; take data that has, such as celebamask_hq, lapa, "
                "mask_folder or synthetic_faces"
            )
        self.mask_classes, self.mask_colors = data.mask_classes, data.mask_colors
        self.decoder = PyramidDecoder(backbone.feature_info(), len(data.mask_classes), **decoder)
        self.criterion = MaskLoss(loss, data.mask_classes, class_weights, gamma)
        self._features: Callable[..., list[Tensor]] | None = None  # compiled

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"mask"}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """ "loss", and "accuracy": the share of the labeled pixels that are met."""
        return self.loss_of(self.logits(batch), batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The scalars of ``forward``, of logits (B, M, H, W)."""
        mask = batch["mask"]
        with true_float32(logits.device):
            return {"loss": self.criterion(logits, mask), "accuracy": pixel_accuracy(logits.detach(), mask)}

    def logits(self, batch: Batch) -> Tensor:
        """(B, M, H, W), float32, of the classes in the data's order."""
        images = self.backbone.contract(batch["image"])
        points = (batch["keypoints"],) if self.backbone.needs_keypoints else ()
        return self.decode((self._features or self.backbone.features)(images, *points), images)

    def compile_network(self, how: Compile, backend: str = "inductor") -> None:
        super().compile_network(how, backend)  # whole, that is the embedding's way through it, which is not used here
        if how is True:
            self._features = torch.compile(self.backbone.features, backend=backend, dynamic=False)
            self.decoder.compile(backend=backend, dynamic=False)

    def decode(self, maps: list[Tensor], images: Tensor) -> Tensor:
        """Feature maps, and the scaled images that they are of, to ``logits``."""
        found: Tensor = self.decoder(maps, images)
        return found

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "mask": logits, in the order of ``mask_classes``; and "embedding" where identities were learned beside."""
        if not self.embeds:
            return {"mask": self.logits(batch)}
        embedding, mask = self.embedding_and_logits(batch, self.backbone.embedding_and_features)
        return {"embedding": embedding, "mask": mask}

    def embedding_and_logits(
        self, batch: Batch, network: Callable[..., tuple[Tensor, list[Tensor]]]
    ) -> tuple[Tensor, Tensor]:
        """The embeddings (B, E) and the logits (B, M, H, W), by one pass of ``network``, compiled or not."""
        images = self.backbone.contract(batch["image"])
        points = (batch["keypoints"],) if self.backbone.needs_keypoints else ()
        embeddings, maps = network(images, *points)
        return embeddings, self.decode(maps, images)

    def published(self) -> nn.Module:
        return self


def pixel_accuracy(logits: Tensor, mask: Tensor) -> Tensor:
    return share_met(logits.argmax(1) == mask, mask != IGNORED)
