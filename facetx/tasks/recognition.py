"""Recognition: a backbone and a loss on its embeddings."""

from typing import Any

from torch import Tensor

from facetx.heads import Head
from facetx.nn.backbone import Backbone
from facetx.tasks.base import Batch, Task


class Recognition(Task):
    """Images and identities to the head's loss.

    Args:
        backbone: Images -> embeddings, with its input contract.
        head: (embeddings, labels) -> {"loss": ..., more scalars}.
        margin_warmup_steps: Steps over which the margins grow from 0 to their own size. A transformer that starts
            on ArcFace's full margin may stall; one that starts on the plain normalized softmax does not.
    """

    def __init__(self, backbone: Backbone, head: Head, margin_warmup_steps: int = 0):
        super().__init__(backbone)
        self.head = head
        self.margin_warmup_steps = margin_warmup_steps

    @property
    def parts_are_independent(self) -> bool:
        return self.head.per_sample

    def at_step(self, step: int) -> None:
        """Sets what depends on the step (from 0) alone; called before each step, so a resumed run needs no memory."""
        if self.margin_warmup_steps:
            self.head.set_margin_scale(min(1.0, step / self.margin_warmup_steps))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(self.embed(batch), batch)

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self.head(embeddings, batch["label"])

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """ "embedding", and "logits" where the head has class centers."""
        embedding = self.embed(batch)
        return {"embedding": embedding, **({"logits": self.head.logits(embedding)} if self.head.has_logits else {})}


def embed_batch(backbone: Any, batch: Batch) -> Tensor:
    """The embeddings (B, E) of a batch's uint8 images, scaled as the backbone's contract says."""
    images = backbone.contract(batch["image"])
    return backbone(images, batch.get("keypoints")) if backbone.needs_keypoints else backbone(images)


def recognition(backbone: Any, head: Head, margin_warmup_steps: int = 0) -> Recognition:
    """Recognition by embeddings: see ``Recognition``."""
    return Recognition(backbone, head, margin_warmup_steps)
