"""Losses on the pairs and triplets within a batch. They learn no weights; only the labels' equality counts.

Each is a pure function of embeddings (B, D) and labels (B,), and a builder that makes a head of it. They want batches
of P identities x K images each. A batch without a pair of one identity, or of one identity alone, raises ``DataError``.
The check reads one value from the device.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facetx.errors import DataError
from facetx.heads.base import Head, full_precision, one_of, positive, within

Mining = Literal["batch_hard", "semi_hard", "all"]
Power = Literal[1, 2]
Reduction = Literal["mean", "nonzero"]


class PairHead(Head):
    """A loss on pairs as a head. ``num_classes`` is only there to check the labels with."""

    needs_pairs = True

    def __init__(self, embedding_dim: int, num_classes: int, loss: Callable[[Tensor, Tensor], Tensor]):
        super().__init__(embedding_dim, num_classes)
        self.loss = loss

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            x = full_precision(embeddings)
            return {"loss": self.loss(x, labels), "embedding_norm": x.detach().norm(dim=1).mean()}


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B,) -> masks (B, B) of the pairs of one identity (without the diagonal) and of two. Both have some."""
    same = labels[:, None] == labels
    alike = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not alike.any():
        raise DataError(
            f"no two of the {len(labels)} images of the batch show one identity, and a pair loss needs such pairs; "
            "use the sampler of P identities x K images with K >= 2"
        )
    if same.all():
        raise DataError(
            f"all {len(labels)} images of the batch show one identity, and a pair loss needs pairs of two; "
            "use the sampler of P identities x K images with P >= 2"
        )
    return alike, ~same


def distances(x: Tensor) -> Tensor:
    """Euclidean distances (B, B), exact near 0 and with a zero gradient at 0."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def mean_of_nonzero(losses: Tensor) -> Tensor:
    """The mean of those above 0; 0, with a zero gradient, if there are none."""
    return losses.sum() / (losses > 0).sum().clamp_min(1)


def contrastive_loss(
    x: Tensor, labels: Tensor, margin: float, power: int, normalize: bool, reduction: Reduction
) -> Tensor:
    """See ``contrastive``."""
    alike, different = pairs(labels)
    once = torch.ones_like(alike).triu(1)  # each pair once
    d = distances(F.normalize(x) if normalize else x)
    pull = d[alike & once] ** power / power
    push = (margin - d[different & once]).clamp_min(0) ** power / power
    if reduction == "nonzero":
        return mean_of_nonzero(pull) + mean_of_nonzero(push)
    return torch.cat([pull, push]).mean()


def triplet_loss(x: Tensor, labels: Tensor, margin: float, mining: Mining, normalize: bool, squared: bool) -> Tensor:
    """See ``triplet``."""
    alike, different = pairs(labels)
    d = distances(F.normalize(x) if normalize else x)
    d = d**2 if squared else d
    never = torch.finfo(d.dtype).max
    if mining == "batch_hard":
        furthest = d.masked_fill(~alike, 0).amax(dim=1)  # (B,)
        nearest = d.masked_fill(~different, never).amin(dim=1)
        anchors = alike.any(dim=1) & different.any(dim=1)
        return (furthest - nearest + margin)[anchors].clamp_min(0).mean()
    anchor, other = alike.nonzero(as_tuple=True)
    positive_d = d[anchor, other][:, None]  # (pairs, 1)
    excess = positive_d - d[anchor] + margin  # (pairs, B): of every third image as the negative
    usable = different[anchor]
    if mining == "semi_hard":
        usable = usable & (d[anchor] > positive_d)
    return mean_of_nonzero(excess.masked_fill(~usable, 0).clamp_min(0))


def circle_loss(x: Tensor, labels: Tensor, margin: float, gamma: float) -> Tensor:
    """See ``circle``."""
    alike, different = pairs(labels)
    s = cosines(x)
    pull = -gamma * (1 + margin - s.detach()).clamp_min(0) * (s - (1 - margin))
    push = gamma * (s.detach() + margin).clamp_min(0) * (s - margin)
    anchors = alike.any(dim=1) & different.any(dim=1)
    low = torch.finfo(s.dtype).min / 4  # for what is no pair; two such sums stay finite
    pull = pull.masked_fill(~alike, low).logsumexp(dim=1)
    push = push.masked_fill(~different, low).logsumexp(dim=1)
    return -F.logsigmoid(-(pull + push)[anchors]).mean()


def logistic_pairs_loss(x: Tensor, labels: Tensor, alpha: float, threshold: float, negative_cost: float) -> Tensor:
    """See ``logistic_pairs``."""
    alike, different = pairs(labels)
    z = alpha * (cosines(x) - threshold)
    return -F.logsigmoid(z[alike]).mean() - F.logsigmoid(-negative_cost * z[different]).mean()


def npairs_loss(x: Tensor, labels: Tensor, l2: float) -> Tensor:
    """See ``npairs``."""
    pairs(labels)
    order = labels.argsort(stable=True)
    ordered = labels[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    paired = first[:-1] & (ordered[1:] == ordered[:-1])  # the identity's first image, with a second behind it
    anchors, positives = x[order[:-1][paired]], x[order[1:][paired]]  # (N, D) each
    logits = anchors @ positives.T  # (N, N)
    regularizer = (anchors.square().sum() + positives.square().sum()) / len(anchors)
    return F.cross_entropy(logits, torch.arange(len(logits), device=x.device)) + l2 * regularizer


def cosines(x: Tensor) -> Tensor:
    """Cosines of all pairs, (B, B)."""
    unit = F.normalize(x)
    return unit @ unit.T


def contrastive(
    embedding_dim: int,
    num_classes: int,
    margin: float = 1.0,
    power: Power = 2,
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> PairHead:
    """Contrastive loss in its Siamese form (Hadsell, Chopra, LeCun 2006, eq. 4), over all pairs of the batch.

    (1 - Y) D^2 / 2 + Y max(0, m - D)^2 / 2, where D is the Euclidean distance and Y = 0 for one identity, 1 for two.

    Args:
        margin: m, the distance beyond which two identities are let be, > 0 (at most 2 on normalized embeddings).
        power: 2 is the paper's; 1 takes D and max(0, m - D) as they are.
        normalize: Whether distances are between normalized embeddings.
        reduction: "mean" over all pairs. "nonzero" adds the mean over the pairs of one identity and that over the
            pairs of two, both without pairs whose loss is 0, so that the many pairs of two do not outweigh the few.

    Choose it for verification with few images an identity, or to fine-tune. It learns no weights.
    """
    loss = partial(
        contrastive_loss,
        margin=positive("margin", margin),
        power=one_of("power", power, Power),
        normalize=normalize,
        reduction=one_of("reduction", reduction, Reduction),
    )
    return PairHead(embedding_dim, num_classes, loss)


def triplet(
    embedding_dim: int,
    num_classes: int,
    margin: float = 0.2,
    mining: Mining = "batch_hard",
    normalize: bool = True,
    squared: bool = False,
) -> PairHead:
    """Triplet loss, max(0, D(a, p) - D(a, n) + m) (FaceNet, arXiv 1503.03832; mining as in arXiv 1703.07737).

    Args:
        margin: m, > 0.
        mining: "batch_hard": for each anchor its furthest positive and nearest negative, mean over anchors.
            "semi_hard": triplets whose negative is further than the positive, but by less than m, mean over these.
            "all": every triplet of the batch, mean over those above 0.
        normalize: Whether distances are between normalized embeddings.
        squared: Whether D is the squared distance, as in FaceNet, or the distance, as in arXiv 1703.07737.

    Choose it to fine-tune for verification, or where there are too many identities for class centers. From scratch,
    "semi_hard" or "all" first: the hardest triplets alone can collapse all embeddings to a point.
    """
    loss = partial(
        triplet_loss,
        margin=positive("margin", margin),
        mining=one_of("mining", mining, Mining),
        normalize=normalize,
        squared=squared,
    )
    return PairHead(embedding_dim, num_classes, loss)


def circle(embedding_dim: int, num_classes: int, margin: float = 0.25, gamma: float = 256.0) -> PairHead:
    """Circle loss (arXiv 2002.10857, eq. 6), each image as the anchor of its pairs in the batch.

    log(1 + sum_n e^(gamma a_n (s_n - m)) sum_p e^(-gamma a_p (s_p - 1 + m))) with a_p = max(0, 1 + m - s_p) and
    a_n = max(0, s_n + m), which take no gradient; s are cosines. It separates the distribution of the similarities
    within identities (above 1 - m) from that between identities (below m). Mean over the anchors that have both.

    Args:
        margin: m, a cosine, in [0, 1].
        gamma: Scale; the paper's 256 for faces, 80 for smaller tasks.

    Choose it over triplets: each pair is weighted by how far it still has to go. It learns no weights.
    """
    loss = partial(circle_loss, margin=within("margin", margin, 0, 1), gamma=positive("gamma", gamma))
    return PairHead(embedding_dim, num_classes, loss)


def logistic_pairs(
    embedding_dim: int,
    num_classes: int,
    alpha: float = 10.0,
    threshold: float = 0.5,
    negative_cost: float = 1.0,
) -> PairHead:
    """Logistic pairwise loss, the binomial deviance of similarities (Yi et al. 2014, arXiv 1407.4979).

    mean over pairs of one identity of log(1 + e^(-alpha (s - beta))), plus mean over pairs of two of
    log(1 + e^(alpha c (s - beta))); s are cosines. It drives the two distributions of similarities to either side of
    beta.

    Args:
        alpha: Steepness, > 0.
        threshold: beta, the cosine that is to separate them, in [-1, 1].
        negative_cost: c, > 0; above 1 it is stricter with pairs of two identities.

    Choose it where one fixed threshold has to decide. It learns no weights.
    """
    loss = partial(
        logistic_pairs_loss,
        alpha=positive("alpha", alpha),
        threshold=within("threshold", threshold, -1, 1),
        negative_cost=positive("negative_cost", negative_cost),
    )
    return PairHead(embedding_dim, num_classes, loss)


def npairs(embedding_dim: int, num_classes: int, l2: float = 0.0) -> PairHead:
    """Multi-class N-pair loss (Sohn, NeurIPS 2016, eq. 7), on the first two images of each identity in the batch.

    mean over i of log(1 + sum over j != i of e^(f_i f_j+ - f_i f_i+)), where f_i, f_i+ are the two images' embeddings,
    not normalized.

    Args:
        l2: Weight of the mean of |f_i|^2 + |f_i+|^2, which keeps embeddings short, >= 0.

    Choose it with batches of many identities and two images each. It learns no weights.
    """
    return PairHead(embedding_dim, num_classes, partial(npairs_loss, l2=within("l2", l2, 0, float("inf"))))
