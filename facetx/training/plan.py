"""What a training in many processes will send, hold and take: arithmetic, with numbers that a user gives.

Legend: N GPUs, b images a GPU and step, B = N b, C classes, D numbers an embedding, P weights of the backbone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from facetx.heads import HEADS
from facetx.nn.backbone import Backbone
from facetx.nn.memory import AsOn, Held
from facetx.nn.meta import meta_inputs, without_values

Kind = Literal["all_reduce", "all_gather", "reduce_scatter"]


class Message(NamedTuple):
    """One collective of a step.

    Attributes:
        of: "backbone" or "head".
        kind: Which.
        bytes: Of its result (all_reduce, all_gather), or of what it is given (reduce_scatter).
    """

    of: str
    kind: Kind
    bytes: int

    def sent(self, gpus: int) -> float:
        """Bytes that each process sends, by the ring algorithms, which send the least (Patarasuk and Yuan 2009)."""
        return (2 if self.kind == "all_reduce" else 1) * self.bytes * (gpus - 1) / gpus


@dataclass(frozen=True)
class Plan:
    """A training by a class-center head.

    Attributes:
        gpus: N.
        images: b.
        classes: C.
        dim: D.
        parameters: P, all trained.
        blocks: How many of P lie in blocks, which FSDP2 gathers once more for the backward pass.
        parallel: As ``train.parallel``.
        engine: "full", a whole head on each GPU, or "sharded".
        sample_rate: Of "sharded".
        activations: Bytes that the backbone keeps of an image.
        moments: Numbers that the optimizer keeps of each weight.
        ema: Whether there is a moving average of the backbone.
    """

    gpus: int
    images: int
    classes: int
    dim: int
    parameters: int
    blocks: int = 0
    parallel: Literal["ddp", "fsdp"] = "ddp"
    engine: Literal["full", "sharded"] = "sharded"
    sample_rate: float = 1.0
    activations: int = 0
    moments: int = 2
    ema: bool = False

    @property
    def batch(self) -> int:
        """B."""
        return self.gpus * self.images

    @property
    def rows(self) -> int:
        """Classes of one GPU, of the first one, which has the most."""
        return -(-self.classes // self.gpus) if self.engine == "sharded" else self.classes

    @property
    def compared(self) -> tuple[int, int]:
        """Images and classes whose cosines one GPU computes."""
        if self.engine == "full":
            return self.images, self.classes
        return self.batch, min(self.rows, max(round(self.sample_rate * self.rows), self.batch))

    def messages(self) -> Iterator[Message]:
        """All of a step but some single numbers; none for one GPU."""
        if self.gpus == 1:
            return
        whole, blocks = 4 * self.parameters, 4 * self.blocks
        if self.parallel == "fsdp":
            yield Message("backbone", "all_gather", whole)
            yield Message("backbone", "all_gather", blocks)
            yield Message("backbone", "reduce_scatter", whole)
        else:
            yield Message("backbone", "all_reduce", whole)
        if self.engine == "full":
            yield Message("head", "all_reduce", 4 * self.classes * self.dim)
            return
        yield Message("head", "all_gather", self.batch * (4 * self.dim + 4 + 4 + 8))  # embeddings, norms twice, labels
        yield Message("head", "all_reduce", 4 * self.batch)  # cosines to the own class
        yield Message("head", "all_gather", 2 * 4 * self.batch * self.gpus)  # aggregates, the nearest other class
        yield Message("head", "all_reduce", 4 * self.batch * self.dim)  # the gradient of the embeddings

    def sent(self, of: str) -> float:
        """Bytes that each process sends in a step, for the "backbone" or the "head"."""
        return sum(message.sent(self.gpus) for message in self.messages() if message.of == of)

    def memory(self) -> dict[str, int]:
        """Bytes of one GPU, by what takes them."""
        part = self.gpus if self.parallel == "fsdp" else 1
        gathered = 8 * self.parameters if part > 1 else 0  # at most: all of it, and the gradients
        left_out = 4 * (self.rows - self.compared[1]) * self.dim  # classes, whose gradient is 0
        return {
            "backbone": 4 * self.parameters * (2 + self.moments + self.ema) // part + gathered,
            "activations": self.activations * self.images,
            "head": 4 * self.rows * self.dim * (1 + self.moments),
            "head's step": held_by_head(*self.compared, self.dim) + left_out,
        }

    def seconds(self, rate: float, tflops: float, bandwidth: float, overlap: float = 0.66) -> dict[str, float]:
        """How long a step takes.

        Args:
            rate: Images a second of one GPU alone, of the backbone's forward and backward pass; measure it.
            tflops: Of the head's products, in float32, 10^12 a second.
            bandwidth: Bytes a second that a GPU sends on the slowest link of the ring.
            overlap: Share of the backbone's time, its backward pass, in which its gradients can travel.
        """
        images, classes = self.compared
        backbone = self.images / rate
        head = 3 * 2 * images * classes * self.dim / (tflops * 1e12)
        waits = max(0.0, self.sent("backbone") / bandwidth - overlap * backbone)
        talks = self.sent("head") / bandwidth
        return {"backbone": backbone, "head": head, "gradients": waits, "embeddings": talks}


def held_by_head(images: int, classes: int, dim: int) -> int:
    """Bytes at the height of a step of CosFace, the gradient of the centers with them, found out without values."""
    with torch.device("meta"):
        head = HEADS.create("cosface", embedding_dim=dim, num_classes=classes).train()
        embeddings = torch.empty(images, dim, requires_grad=True)
        labels = torch.empty(images, dtype=torch.int64)
    with Held() as held, AsOn("cuda", True) as device:
        loss = head(embeddings, labels)["loss"]
        device.end_autocast()
        loss.backward()
    return held.peak


def activations_of(backbone: Backbone, bf16: bool = True) -> int:
    """Bytes that a backbone keeps of an image for its backward pass on CUDA, found out without values."""

    def peak(images: int) -> int:
        ghost = without_values(backbone).train()
        inputs = [x.expand(images, *x.shape[1:]) for x in meta_inputs(backbone.contract.size, backbone.needs_keypoints)]
        with torch.random.fork_rng(devices=[]), Held() as held, AsOn("cuda", bf16) as device:
            out = ghost(*inputs).sum()
            device.end_autocast()
            out.backward()
        return held.peak

    return (peak(8) - peak(4)) // 4  # without what does not grow with the images
