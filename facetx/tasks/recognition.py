"""Recognition: a backbone and a loss on its embeddings."""

from typing import Any

from torch import Tensor, nn


class Recognition(nn.Module):
    """Images and identities to the head's loss.

    Args:
        backbone: Images -> embeddings, with its input contract.
        head: (embeddings, labels) -> {"loss": ..., more scalars}.
        margin_warmup_steps: Steps over which the margins grow from 0 to their own size. A transformer that starts
            on ArcFace's full margin may stall; one that starts on the plain normalized softmax does not.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, margin_warmup_steps: int = 0):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.margin_warmup_steps = margin_warmup_steps

    def at_step(self, step: int) -> None:
        """Sets what depends on the step (from 0) alone; called before each step, so a resumed run needs no memory."""
        if self.margin_warmup_steps:
            self.head.set_margin_scale(min(1.0, step / self.margin_warmup_steps))  # type: ignore[operator]

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """A batch of ``facetx.data.loader`` -> scalars, "loss" among them."""
        return self.head(embed_batch(self.backbone, batch), batch["label"])


def embed_batch(backbone: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The embeddings (B, E) of a batch's uint8 images, scaled as the backbone's contract says."""
    images = backbone.contract(batch["image"])  # type: ignore[operator]
    return backbone(images, batch.get("keypoints")) if backbone.needs_keypoints else backbone(images)


def recognition(backbone: nn.Module, head: nn.Module, margin_warmup_steps: int = 0) -> Recognition:
    """Recognition by embeddings: see ``Recognition``."""
    return Recognition(backbone, head, margin_warmup_steps)
