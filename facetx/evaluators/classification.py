"""Closed-set classification: which of the training identities does an image show?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.prediction import predictions
from facetx.evaluators.reading import share_of
from facetx.evaluators.terms import Terms
from facetx.processes import total
from facetx.tables import Table

DEFINITIONS = {
    "top1, top5": "share of the images whose identity is the head's first, or in its first five; ties count against it",
    "flip": "the logits of an image and of its mirror are summed",
}
REMEDY = "give this evaluator the training set's own data and arguments, all but which images"


@dataclass(frozen=True)
class ClassificationResult(Result):
    """What came out of one classification run.

    Attributes:
        name: Of the evaluator.
        ranks: (N,) how many other identities the head holds for at least as likely as the right one; None where the
            head has no class centers (triplet and the like), so that it names no identity.
        num_classes: Identities to choose from.
    """

    name: str
    ranks: NDArray[np.int64] | None
    num_classes: int

    def summary(self) -> dict[str, float]:
        """ "top1" and "top5" in 0..1, see ``DEFINITIONS``; empty where the head has no class centers."""
        if self.ranks is None:
            return {}
        return {"top1": float((self.ranks < 1).mean()), "top5": float((self.ranks < 5).mean())}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        images = None if self.ranks is None else len(self.ranks)
        return {
            "name": self.name,
            "summary": self.summary(),
            "images": images,
            "identities": self.num_classes,
            "definitions": DEFINITIONS,
        }

    def table(self) -> Table:
        """The shares in percent."""
        images = 0 if self.ranks is None else len(self.ranks)
        rows = [(name, f"{100 * value:.2f} %") for name, value in self.summary().items()]
        return Table((self.name, f"{images} images, {self.num_classes} identities"), rows)


class Classification(Evaluator):
    """Asks the trained head, without its margin, who is on images of the training identities that it did not see.

    Args:
        name: Prefix of its numbers in logs.
        dataset: Images whose labels are numbered as the training set's.
        flip: Sum the logits of an image and of its mirror.
    """

    dataset: FaceDataset
    closed_set = True
    whole_task = True

    def __init__(self, name: str, dataset: FaceDataset, flip: bool = False):
        super().__init__(name, dataset)
        self.flip = flip

    def check(self, identities: Sequence[str], num_classes: int) -> None:
        """Raises ``DataError`` unless the trained identities are those of the data set, in the same order.

        Args:
            identities: Their names, empty where they have none.
            num_classes: How many.
        """
        ours, name = self.dataset.identities, self.dataset.name
        if num_classes != self.dataset.num_classes:
            raise DataError(
                f"{self.name}: {self.dataset.num_classes} identities in {name}, and the training set has "
                f"{num_classes}; {REMEDY}"
            )
        if not ours or not identities:
            return
        different = [i for i, (a, b) in enumerate(zip(ours, identities)) if a != b]
        if different:
            first = different[0]
            raise DataError(
                f"{self.name}: {len(different)} of {num_classes} identities in {name} are others than those trained "
                f"on: number {first} is {ours[first]!r} here and {identities[first]!r} there; {REMEDY}"
            )

    def result(self, model: Model, how: How = HERE) -> ClassificationResult:
        """The ranks of the right identities.

        Raises ``DataError`` for a backbone without its head, or a head of another number of identities.
        """
        labels = torch.from_numpy(self.dataset.labels)
        ranks = torch.zeros_like(labels)
        places, elsewhere = share_of(len(labels), how.batch_size)
        for items, _, views in predictions(model, self.dataset, how, indices=places.tolist(), flip=self.flip):
            if "logits" not in views[0]:
                return ClassificationResult(self.name, None, self.dataset.num_classes)
            logits = torch.stack([view["logits"] for view in views]).sum(dim=0)  # (V, B, C) -> (B, C)
            if logits.shape[1] != self.dataset.num_classes:
                self.check((), logits.shape[1])
            ranks[items] = _ranks(logits, labels[items].to(logits.device)).cpu()
        ranks[elsewhere] = 0
        return ClassificationResult(self.name, total(ranks).numpy(), self.dataset.num_classes)

    def terms(self) -> Terms:
        """For the receipt."""
        items, labels = np.arange(len(self.dataset)), self.dataset.labels
        return Terms(items=items, protocol=[(labels, "<i8")], flip=self.flip, definitions=DEFINITIONS)


def _ranks(logits: Tensor, own: Tensor) -> Tensor:
    """(B,) classes with a logit at least as high as the own one's, that one apart: a tie is no hit."""
    beaten = logits < logits.gather(1, own[:, None])
    return (~beaten).sum(dim=1) - 1  # so counted, logits that are not finite are no hit either
