"""Several heads on the same embeddings, their losses added."""

from collections.abc import Sequence

from torch import Tensor, nn

from facetx.heads.base import Head, positive


class JointHead(Head):
    """sum over the parts of weight x loss.

    Args:
        parts: (weight, head) of each, weights > 0, heads for the same embeddings and classes.
        names: What the parts are called in the scalars; their places ("0", "1", ...) if left out.

    Scalars: "loss", the weighted sum; each part's own as "<name>/<scalar>", unweighted; and "accuracy" of the first
    part that has it. ``logits`` are those of the first part that has them.

    Raises ``ValueError`` for no parts, a name that occurs twice, or parts of different sizes.
    """

    def __init__(self, parts: Sequence[tuple[float, Head]], names: Sequence[str] = ()):
        names = list(names) or [str(i) for i in range(len(parts))]
        if not parts or len(names) != len(parts) or len(set(names)) != len(names):
            raise ValueError(f"a joint head needs parts and one name for each, all different; got {names}")
        sizes = {(head.embedding_dim, head.num_classes) for _, head in parts}
        if len(sizes) > 1:
            raise ValueError(f"the parts of a joint head differ in (embedding_dim, num_classes): {sorted(sizes)}")
        super().__init__(*sizes.pop())
        self.names = names
        self.weights = [positive(f"the weight of {name!r}", weight) for name, (weight, _) in zip(names, parts)]
        self.heads = [head for _, head in parts]
        self.parts = nn.ModuleList(self.heads)
        self.needs_pairs = any(head.needs_pairs for head in self.heads)
        self.per_sample = all(head.per_sample for head in self.heads)
        self.sees_all = True  # each part does, where it must
        self.has_logits = any(head.has_logits for head in self.heads)

    def set_margin_scale(self, factor: float) -> None:
        for head in self.heads:
            head.set_margin_scale(factor)

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scalars: dict[str, Tensor] = {}
        losses = []
        for name, weight, head in zip(self.names, self.weights, self.heads):
            part = head(embeddings, labels)
            losses.append(weight * part["loss"])
            scalars |= {f"{name}/{key}": value.detach() for key, value in part.items()}
            if "accuracy" in part:
                scalars.setdefault("accuracy", part["accuracy"])
        return {"loss": sum(losses[1:], losses[0]), **scalars}

    def logits(self, embeddings: Tensor) -> Tensor:
        """The logits (B, num_classes) of the first part with class centers. ``ValueError`` if there is none."""
        for head in self.heads:
            if head.has_logits:
                return head.logits(embeddings)
        raise ValueError("no part of this joint head has class centers, so it gives no logits")
