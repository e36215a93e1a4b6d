"""Closed-set classification: which of the training identities does an image show?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetx.errors import DataError
from facetx.evaluators.embedding import Backbone, FaceDataset, embed_dataset


@dataclass(frozen=True)
class ClassificationResult:
    """What came out of one classification run.

    Attributes:
        name: Of the benchmark.
        ranks: (N,) how many other identities the head holds for at least as likely as the right one; None where the
            head has no class centers (triplet and the like), so that it names no identity.
        num_classes: Identities to choose from.
    """

    name: str
    ranks: NDArray[np.int64] | None
    num_classes: int

    def summary(self) -> dict[str, float]:
        """ "top1" and "top5" in 0..1, shares of images whose identity is the head's first, or in its first five;
        empty where the head has no class centers."""
        if self.ranks is None:
            return {}
        return {"top1": float((self.ranks < 1).mean()), "top5": float((self.ranks < 5).mean())}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        images = None if self.ranks is None else len(self.ranks)
        return {"name": self.name, "summary": self.summary(), "images": images, "identities": self.num_classes}


class Classification:
    """The evaluator: embeds held-out images of the training identities and asks the trained head, without its margin.

    Args:
        name: Prefix of its numbers in logs.
        dataset: Images whose labels are numbered as the training set's.
        flip: Sum the embeddings of an image and of its mirror.
    """

    needs_head = True

    def __init__(self, name: str, dataset: FaceDataset, flip: bool = False):
        self.name = name
        self.dataset = dataset
        self.flip = flip

    def __call__(self, backbone: Backbone, **how: Any) -> Iterator[tuple[str, float]]:
        """Yields (name, value) of each number in ``ClassificationResult.summary``; arguments as in ``result``."""
        yield from self.result(backbone, **how).summary().items()

    def result(
        self,
        backbone: Backbone,
        *,
        head: nn.Module | None = None,
        device: str | torch.device = "cpu",
        batch_size: int = 128,
        workers: int = 0,
        amp: bool = False,
    ) -> ClassificationResult:
        """The ranks of the right identities.

        Args:
            backbone: See ``facetx.evaluators.embedding.Backbone``; lives on ``device``.
            head: The head that it was trained with, on ``device``.
            device, batch_size, workers, amp: Those of ``facetx.evaluators.embedding.embed_views``.

        Raises ``DataError`` without a head, or for one of another number of identities.
        """
        if head is None:
            raise DataError(f"{self.name}: classification needs the trained head; it runs as an evaluator of training")
        if head.num_classes != self.dataset.num_classes:
            raise DataError(
                f"{self.name}: {self.dataset.num_classes} identities in {self.dataset.name}, but the head was trained "
                f"on {head.num_classes}; give this evaluator the training data's root, part, val_identities and seed"
            )
        ranks = None
        if head.has_logits:
            embeddings = embed_dataset(
                backbone,
                self.dataset,
                batch_size=batch_size,
                device=device,
                flip=self.flip,
                workers=workers,
                amp=amp,
            )
            ranks = _ranks(head, torch.from_numpy(embeddings).to(device), self.dataset.labels, batch_size)
        return ClassificationResult(self.name, ranks, self.dataset.num_classes)


@torch.inference_mode()
def _ranks(head: Any, embeddings: Tensor, labels: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
    """(N,) classes with a logit at least as high as the own one's, that one apart: a tie is no hit."""
    own = torch.from_numpy(labels).to(embeddings.device)
    ranks = []
    for x, y in zip(embeddings.split(batch_size), own.split(batch_size)):
        logits = head.logits(x)  # (B, num_classes)
        beaten = logits < logits.gather(1, y[:, None])
        ranks.append((~beaten).sum(dim=1) - 1)  # so counted, logits that are not finite are no hit either
    return torch.cat(ranks).cpu().numpy()
