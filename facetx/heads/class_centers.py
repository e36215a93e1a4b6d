"""The head of every class-center loss: one weight row an identity, a criterion, and an engine that joins them."""

from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from facetx.heads.base import Head, at_least, full_precision, one_of, within
from facetx.heads.chunked import chunked
from facetx.heads.criterion import Criterion
from facetx.heads.engine import EPS, Centers, Result, full
from facetx.heads.precision import true_float32
from facetx.heads.sampled import sampled
from facetx.heads.sharded import sharded
from facetx.processes import count, gathered, is_split, own, rank, split_as, split_rows

Engine = Literal["full", "chunked", "sampled", "sharded"]


class EngineArgs(TypedDict, total=False):
    """The arguments of ``ClassCenterHead`` that its builders pass through."""

    engine: Engine
    chunk_size: int | None
    sample_rate: float | None


class ClassCenterHead(Head):
    """Compares embeddings with a learned center an identity; two choices, multiplied: a criterion and an engine.

    Args:
        embedding_dim, num_classes: See ``Head``.
        criterion: The loss on rows of cosines: a margin softmax, SFace, ...
        engine: Which way the B x C cosines are gone through. All give the same loss and gradients but "sampled".

            - "full": all at once; needs room for several B x C arrays and a copy of the weights.
            - "chunked": some images at a time against all classes, loss and gradients in one go.
              Exact, with a small part of the memory; no second derivatives.
            - "sampled": the classes of the batch and a random part of the others (Partial FC, arXiv 2203.15565).
            - "sharded": the classes split over the processes of a training, once ``split`` has been called, which the
              trainer does: each has, learns and compares with its own rows. Until then, and in one process, "full".
        chunk_size: Images a block for "chunked"; None is a quarter of the batch.
        sample_rate: Part of the classes that is kept at a training step, in (0, 1]: by "sampled", 0.1 unless given, and
            by "sharded" of each process's own, all unless given.
        bias: Whether each class has a learned number that is added to its dot product, 0 at first; only for a criterion
            that does not normalize.

    Scalars: "loss"; "accuracy", top-1 without the margin, over the classes that the engine saw; "target_cosine", the
    mean cosine to the own center; "embedding_norm", the embeddings' mean length.
    """

    has_logits = True

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        criterion: Criterion,
        engine: Engine = "full",
        chunk_size: int | None = None,
        sample_rate: float | None = None,
        bias: bool = False,
    ):
        super().__init__(embedding_dim, num_classes)
        self.criterion = criterion
        self.engine: Engine = one_of("engine", engine, Engine)
        self.chunk_size = chunk_size if chunk_size is None else at_least("chunk_size", chunk_size, 1)
        rate = {"sampled": 0.1}.get(engine, 1.0) if sample_rate is None else sample_rate
        self.sample_rate = within("sample_rate", rate, 1e-6, 1)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim).normal_(std=0.01))
        assert not (bias and criterion.normalized)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.samples = engine == "sampled" or (engine == "sharded" and self.sample_rate < 1)
        self.per_sample = criterion.per_sample and not self.samples  # classes are chosen by the whole batch
        self.sees_all = engine == "sharded"

    def split(self, device: torch.device) -> None:
        """Leaves each process its own rows, on ``device``, where the engine is "sharded" and there are several."""
        if self.engine == "sharded" and count() > 1:
            self.weight = nn.Parameter(split_rows(self.weight, device))
            self.bias = None if self.bias is None else nn.Parameter(split_rows(self.bias, device))

    def set_margin_scale(self, factor: float) -> None:
        self.criterion.margin_scale = within("the margin's scale", factor, 0, 1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        unit, norms = self._unit(embeddings)
        loss, target, best_other = self._run(unit, norms, self._centers(), labels)
        return {
            "loss": loss,
            "accuracy": (target > best_other).float().mean(),
            "target_cosine": target.mean(),
            "embedding_norm": norms.detach().mean(),
        }

    def logits(self, embeddings: Tensor) -> Tensor:
        """Scaled logits (B, num_classes) without the margin, for top-1 accuracy and closed-set answers.

        Where the classes are split all processes must call it together, and it has no gradient of the centers.
        """
        with true_float32(embeddings.device):
            unit, norms = self._unit(full_precision(embeddings))
            centers = self._centers()
            if is_split(self.weight):
                whole = [None if p is None else full_precision(gathered(p, p)) for p in (self.weight, self.bias)]
                centers = Centers(*whole)  # type: ignore[arg-type]
            return self.criterion.logits(centers.cosines(unit, self.criterion.normalized), norms)

    @torch.no_grad()
    def load_weight(self, weight: Tensor) -> None:
        """Takes all class centers (num_classes, embedding_dim); where they are split, this process's rows of them."""
        self.weight.copy_(split_as(weight, self.weight))

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}, engine={self.engine!r}"

    def _centers(self) -> Centers:
        """What this process learns, as the engines take it."""
        return Centers(full_precision(own(self.weight)), None if self.bias is None else full_precision(own(self.bias)))

    def _unit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings -> (B, D) as the criterion wants them, and their lengths (B,)."""
        norms = torch.linalg.vector_norm(x, dim=1).clamp_min(EPS)
        return (x / norms[:, None] if self.criterion.normalized else x), norms

    def _run(self, unit: Tensor, norms: Tensor, centers: Centers, labels: Tensor) -> Result:
        if self.engine == "chunked":
            rows = self.chunk_size or -(-len(labels) // 4)
            return chunked(unit, norms, centers, labels, self.criterion, rows)
        rate = self.sample_rate if self.samples and self.training else 1.0
        if is_split(self.weight):
            first = rank() * -(-self.num_classes // count())
            return sharded(unit, norms, centers, labels, self.criterion, first, rate)
        if self.samples and self.training:
            return sampled(unit, norms, centers, labels, self.criterion, rate)
        return full(unit, norms, centers, labels, self.criterion)
