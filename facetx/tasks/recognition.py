"""Recognition: a backbone and a loss on its embeddings."""

from torch import Tensor

from facetx.data.base import Description
from facetx.errors import ConfigError
from facetx.heads import Head
from facetx.nn.backbone import Backbone
from facetx.tasks.base import Batch, Task


class Recognition(Task):
    """Images and identities to the head's loss; the backbone alone is published.

    Args:
        backbone: Images -> embeddings, with its input contract.
        data: Of the training set.
        head: (embeddings, labels) -> {"loss": ..., more scalars}; ``head`` of the settings.
        margin_warmup_steps: Steps over which the margins grow from 0 to their own size. A transformer that starts
            on ArcFace's full margin may stall; one that starts on the plain normalized softmax does not.
    """

    def __init__(self, backbone: Backbone, data: Description, head: Head, margin_warmup_steps: int = 0):
        super().__init__(backbone)
        if margin_warmup_steps < 0:
            raise ConfigError(f"margin_warmup_steps must be at least 0, got {margin_warmup_steps}")
        self.head = head
        self.margin_warmup_steps = margin_warmup_steps

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | {"label"}

    @property
    def needs_pairs(self) -> bool:
        return self.head.needs_pairs

    @property
    def parts_are_independent(self) -> bool:
        return self.head.per_sample

    def at_step(self, step: int) -> None:
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
