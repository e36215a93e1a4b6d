"""Losses on the pairs and triplets within a batch. They learn no weights; only the labels' equality counts.

They want batches of P identities x K images each. A batch without a pair of one identity, or of one identity alone,
raises ``DataError`` on CPU; on an accelerator it is an asynchronous device assertion. Nothing here depends on how many
pairs there are, which only the device knows: what is no pair is masked.

Shapes: B images, D numbers an embedding; masks, distances and cosines of all pairs are (B, B), a row an anchor.
"""

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facetx.errors import DataError
from facetx.heads.base import Head, one_of, positive, within
from facetx.heads.precision import product

Mining = Literal["batch_hard", "semi_hard", "all"]
Power = Literal[1, 2]
Reduction = Literal["mean", "nonzero"]


class PairHead(Head):
    """A loss on pairs as a head. ``num_classes`` is only there to check the labels with."""

    needs_pairs = True

    def forward(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        alike, different = pairs(labels)
        loss = self.loss(embeddings, alike, different)
        return {"loss": loss, "embedding_norm": embeddings.detach().norm(dim=1).mean()}

    @abstractmethod
    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        """Embeddings (B, D) and the masks of ``pairs`` -> the loss, a scalar."""


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B,) -> masks (B, B) of the pairs of one identity (without the diagonal) and of two. Both have some."""
    same = labels[:, None] == labels
    alike = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    none_alike = (
        f"no two of the {len(labels)} images of the batch show one identity, and a pair loss needs such pairs; "
        "use the sampler of P identities x K images with K >= 2"
    )
    all_alike = (
        f"all {len(labels)} images of the batch show one identity, and a pair loss needs pairs of two; "
        "use the sampler of P identities x K images with P >= 2"
    )
    for holds, message in ((alike.any(), none_alike), (~same.all(), all_alike)):
        if labels.device.type != "cpu":
            torch._assert_async(holds, message)
        elif not holds:
            raise DataError(message)
    return alike, ~same


def distances(x: Tensor, normalize: bool) -> Tensor:
    """Euclidean distances (B, B), exact near 0 and with a zero gradient at 0; of the directions with ``normalize``."""
    x = F.normalize(x) if normalize else x
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def cosines(x: Tensor) -> Tensor:
    """Cosines of all pairs, (B, B)."""
    unit = F.normalize(x)
    return product(unit, unit)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values that ``mask`` has. Without any it is 0, with a zero gradient."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp_min(1)


class Contrastive(PairHead):
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

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        margin: float = 1.0,
        power: Power = 2,
        normalize: bool = False,
        reduction: Reduction = "mean",
    ):
        super().__init__(embedding_dim, num_classes)
        self.margin = positive("margin", margin)
        self.power = one_of("power", power, Power)
        self.normalize = normalize
        self.reduction = one_of("reduction", reduction, Reduction)

    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        d = distances(x, self.normalize)
        pull = d**self.power / self.power
        push = (self.margin - d).clamp_min(0) ** self.power / self.power
        if self.reduction == "nonzero":
            return masked_mean(pull, alike & (pull > 0)) + masked_mean(push, different & (push > 0))
        return masked_mean(pull.where(alike, push), alike | different)


class Triplet(PairHead):
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

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        margin: float = 0.2,
        mining: Mining = "batch_hard",
        normalize: bool = True,
        squared: bool = False,
    ):
        super().__init__(embedding_dim, num_classes)
        self.margin = positive("margin", margin)
        self.mining = one_of("mining", mining, Mining)
        self.normalize = normalize
        self.squared = squared

    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        d = distances(x, self.normalize)
        d = d**2 if self.squared else d
        if self.mining != "batch_hard":
            return mean_hinge(d, alike, different, self.margin, above=self.mining == "semi_hard")
        furthest = d.masked_fill(~alike, 0).amax(dim=1)  # (B,)
        nearest = d.masked_fill(~different, torch.finfo(d.dtype).max).amin(dim=1)
        anchors = alike.any(dim=1) & different.any(dim=1)
        return masked_mean((furthest - nearest + self.margin).clamp_min(0), anchors)


def mean_hinge(d: Tensor, alike: Tensor, different: Tensor, margin: float, above: bool) -> Tensor:
    """The mean of max(0, d_p - d_n + margin) over the triplets where it is not 0, without holding B^3 of them.

    Along an anchor's sorted negatives, those below d_p + margin are the first so many, and their sum is a running sum,
    which is kept in float64.

    Args:
        d: Distances (B, B).
        alike, different: Of ``pairs``.
        margin: > 0.
        above: Whether only negatives that are further away than the positive count.
    """
    dtype, d = d.dtype, d.double()
    never = torch.finfo(d.dtype).max
    sorted_d = d.masked_fill(~different, never).sort(dim=1).values  # (B, B): the negatives, nearest first
    running = F.pad(sorted_d.masked_fill(sorted_d == never, 0).cumsum(dim=1), (1, 0))  # (B, B + 1)
    reach = d + margin
    last = torch.searchsorted(sorted_d.detach(), reach.detach())  # (B, B): negatives nearer than that
    first = torch.searchsorted(sorted_d.detach(), d.detach(), right=True) if above else torch.zeros_like(last)
    count = last - first
    hinges = count * reach - (running.gather(1, last) - running.gather(1, first))
    return (hinges.masked_fill(~alike, 0).sum() / count.masked_fill(~alike, 0).sum().clamp_min(1)).to(dtype)


class Circle(PairHead):
    """Circle loss (arXiv 2002.10857, eq. 6), each image as the anchor of its pairs in the batch.

    log(1 + sum_n e^(gamma a_n (s_n - m)) sum_p e^(-gamma a_p (s_p - 1 + m))) with a_p = max(0, 1 + m - s_p) and
    a_n = max(0, s_n + m), which take no gradient; s are cosines. It separates the distribution of the similarities
    within identities (above 1 - m) from that between identities (below m). Mean over the anchors that have both.

    Args:
        margin: m, a cosine, in [0, 1].
        gamma: Scale; the paper's 256 for faces, 80 for smaller tasks.

    Choose it over triplets: each pair is weighted by how far it still has to go. It learns no weights.
    """

    def __init__(self, embedding_dim: int, num_classes: int, margin: float = 0.25, gamma: float = 256.0):
        super().__init__(embedding_dim, num_classes)
        self.margin = within("margin", margin, 0, 1)
        self.gamma = positive("gamma", gamma)

    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        s, m = cosines(x), self.margin
        pull = -self.gamma * (1 + m - s.detach()).clamp_min(0) * (s - (1 - m))
        push = self.gamma * (s.detach() + m).clamp_min(0) * (s - m)
        anchors = alike.any(dim=1) & different.any(dim=1)
        low = torch.finfo(s.dtype).min / 4  # for what is no pair; two such sums stay finite
        pull = pull.masked_fill(~alike, low).logsumexp(dim=1)
        push = push.masked_fill(~different, low).logsumexp(dim=1)
        return masked_mean(-F.logsigmoid(-(pull + push)), anchors)


class LogisticPairs(PairHead):
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

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        alpha: float = 10.0,
        threshold: float = 0.5,
        negative_cost: float = 1.0,
    ):
        super().__init__(embedding_dim, num_classes)
        self.alpha = positive("alpha", alpha)
        self.threshold = within("threshold", threshold, -1, 1)
        self.negative_cost = positive("negative_cost", negative_cost)

    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        z = self.alpha * (cosines(x) - self.threshold)
        return masked_mean(-F.logsigmoid(z), alike) + masked_mean(-F.logsigmoid(-self.negative_cost * z), different)


class NPairs(PairHead):
    """Multi-class N-pair loss (Sohn, NeurIPS 2016, eq. 7), on the first two images of each identity in the batch.

    mean over i of log(1 + sum over j != i of e^(f_i f_j+ - f_i f_i+)), where f_i, f_i+ are the two images' embeddings,
    not normalized.

    Args:
        l2: Weight of the mean of |f_i|^2 + |f_i+|^2, which keeps embeddings short, >= 0.

    Choose it with batches of many identities and two images each. It learns no weights.
    """

    def __init__(self, embedding_dim: int, num_classes: int, l2: float = 0.0):
        super().__init__(embedding_dim, num_classes)
        self.l2 = within("l2", l2, 0, float("inf"))

    def loss(self, x: Tensor, alike: Tensor, different: Tensor) -> Tensor:
        earlier = alike.tril().sum(dim=1)  # (B,): images of the same identity that come before
        first = (earlier == 0) & alike.any(dim=1)
        partner = (alike & (earlier == 1)).int().argmax(dim=1)  # (B,): the identity's second image
        positives = x[partner]
        logits = product(x, positives)  # (B, B), of which the rows and columns of first images count
        others = logits.masked_fill(~first, torch.finfo(x.dtype).min)
        loss = masked_mean(others.logsumexp(dim=1) - logits.diagonal(), first)
        lengths = x.square().sum(dim=1) + positives.square().sum(dim=1)
        return loss + self.l2 * masked_mean(lengths, first)
