"""What can be trained: a task says which fields it needs, what it predicts, and what it publishes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from facetx.data.mask_classes import Color
from facetx.nn.backbone import Backbone, embed_batch
from facetx.nn.compiled import Compile, compile_network
from facetx.processes import count, total

Batch = Mapping[str, Any]


class Task(nn.Module, ABC):
    """A backbone and all that is trained with it.

    The trainer, evaluators and exports ask a task and know nothing else. A builder of tasks takes ``backbone`` and
    ``data`` (a ``facetx.data.base.Description``), then arguments of its own, which YAML gives as ``task.args``.

    Attributes:
        backbone: Images -> embeddings.
        takes_unknown: Whether the batch's "label" may be -1, the identity that is not known.
        leaves_out: Whether ``forward`` uses a part of the weights alone, as a task of feature maps does.
        attribute_names: (A,) of the output "attributes", in its order; none where it predicts no attributes.
        class_parts: How the names of published parameters begin that have an entry for each of ``mask_classes``.
        mask_classes, mask_colors: (M,) of the output "mask", in the order of its channels; none where it predicts none.
    """

    backbone: Backbone
    takes_unknown: bool = False
    leaves_out: bool = False
    attribute_names: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    mask_colors: tuple[Color, ...] = ()
    class_parts: tuple[str, ...] = ()

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    @property
    def needs(self) -> frozenset[str]:
        """Fields of the batch that ``forward`` reads; each must be in the data, which is checked before step 1."""
        return frozenset({"image", "keypoints"} if self.backbone.needs_keypoints else {"image"})

    @property
    def needs_pairs(self) -> bool:
        """Whether it learns from images of one identity that meet in a batch."""
        return False

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch of ``facetx.data.loader`` -> scalars; "loss" carries the gradient, the others are detached."""

    @abstractmethod
    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """A batch -> named outputs, for evaluation mode and without gradients.

        Names have one meaning everywhere: "embedding" (B, E), "logits" (B, num_classes) of the identities without a
        margin, "attributes" (B, A) logits, "mask" (B, M, H, W) logits.
        """

    @property
    def parts_are_independent(self) -> bool:
        """Whether the loss of a batch is the mean of the losses of its equal parts, so that each may come alone.

        Where it is not, and a batch comes in parts, the trainer asks ``embed`` for each part and ``loss`` once.
        """
        return True

    def embed(self, batch: Batch) -> Tensor:
        """The embeddings (B, E) of a batch's uint8 images, scaled as the backbone's contract says."""
        return embed_batch(self.backbone, batch)

    def loss(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The scalars of ``forward``, of the whole batch and what ``embed`` gave for it."""
        raise AssertionError("a task whose parts are not independent implements loss")

    def published(self) -> nn.Module:
        """What the moving average averages, ``model.safetensors`` holds, ``init_from`` loads and exports trace.

        The backbone; or the task itself, where what it learned beside the backbone is part of the answer; or another
        task made of parts of this one, under the names that they have here.
        """
        return self.backbone

    def compile_network(self, how: Compile, backend: str = "inductor") -> None:
        """Has the network compiled at its first call, as ``facetx.nn.compiled.compile_network`` says."""
        compile_network(self.backbone, how, backend)

    def at_step(self, step: int) -> None:
        """Sets what depends on the step (from 0) alone; called before each step, so a resumed run needs no memory."""


def share_met(met: Tensor, known: Tensor) -> Tensor:
    """The share of what is known (bool) that is met too (bool), of any shape.

    Where several processes train together, their mean is the share of what all know.
    """
    a_process = total(known.sum()) / count()
    return (met & known).sum() / a_process.clamp(min=1 / count())
