"""The class-center heads by name: each one margin or criterion, on any engine.

All take ``embedding_dim`` and ``num_classes`` first, and ``engine``, ``chunk_size`` and ``sample_rate``, which
``ClassCenterHead`` explains, by name. Embeddings come in as the backbone gives them, not normalized.

In the equations theta_j is the angle between the embedding and the center of class j, y the image's own class, s the
scale, and a "logit" what the softmax cross-entropy sees; every other class's logit is s cos theta_j where nothing else
is said. A margin that is added to an angle is in radians.
"""

import math
from typing import Unpack

from facetx.heads.adaptive import AdaFaceCriterion, CurricularFaceCriterion, MagFaceCriterion
from facetx.heads.base import within
from facetx.heads.class_centers import ClassCenterHead, EngineArgs
from facetx.heads.criterion import MarginSoftmax, NormScaledSoftmax, SFaceCriterion
from facetx.heads.margins import AngularMargin, AnnealedMargin, Gradient, NoMargin


def softmax(
    embedding_dim: int,
    num_classes: int,
    bias: bool = True,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """Plain softmax: the logits are W_j x + b_j, nothing normalized.

    Args:
        bias: Whether there is b, which starts at 0 and never decays.

    Choose it as the baseline, or for closed-set classification. Its embeddings are separable but not drawn together, so
    that verifying new faces works less well than with any margin.
    """
    criterion = MarginSoftmax(1.0, NoMargin(), normalized=False)
    return ClassCenterHead(embedding_dim, num_classes, criterion, bias=bias, **engine)


def modified_softmax(
    embedding_dim: int,
    num_classes: int,
    scale: float = 1.0,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """Modified softmax, SphereFace (arXiv 1704.08063, eq. 5): all logits are |x| cos theta_j.

    Class centers are normalized and have no bias; embeddings keep their length. It is ``sphereface`` with m = 1.

    Args:
        scale: Multiplies |x|; 1 in the paper.

    Choose it to see what SphereFace's margin adds.
    """
    return ClassCenterHead(embedding_dim, num_classes, NormScaledSoftmax(scale, NoMargin()), **engine)


def normalized_softmax(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """Normalized softmax, NormFace (arXiv 1704.06369): all logits are s cos theta_j.

    Args:
        scale: s, the inverse of a temperature.

    Choose it to see what a margin adds: every margin at 0 is this loss.
    """
    criterion = MarginSoftmax(scale, NoMargin())
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def sphereface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 1.0,
    margin: float = 4.0,
    annealing: float = 5.0,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """A-Softmax, SphereFace (arXiv 1704.08063): the target's logit is |x| psi(theta_y), the others' |x| cos theta_j.

    psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m]. Class centers are normalized,
    embeddings are not: their length |x| takes the place of a scale.

    Args:
        scale: Multiplies |x|; 1 in the paper.
        margin: m, multiplies the angle, >= 1.
        annealing: lambda >= 0 in (lambda cos theta + psi) / (1 + lambda). The authors start at 1,000 and end at 5;
            the margin warm-up makes the way down, this is the end. 0 is the pure equation.

    Choose it to compare with the literature; it needs the warm-up, and CosFace or ArcFace train more steadily.
    """
    criterion = NormScaledSoftmax(scale, AnnealedMargin(margin, annealing))
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def cosface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    margin: float = 0.35,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """CosFace (arXiv 1801.09414, eq. 4): the target's logit is s (cos theta_y - m).

    Args:
        scale: s.
        margin: m, taken off the cosine (not an angle), in [0, 2].

    Choose it first for a transformer: its gradient does not depend on where the cosine is, so that training starts
    where ArcFace's may stall. The Face Transformer was trained with it (s 64, m 0.35).
    """
    criterion = MarginSoftmax(scale, AngularMargin(m3=within("margin", margin, 0, 2)))
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def arcface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    margin: float = 0.5,
    gradient: Gradient = "exact",
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """ArcFace (arXiv 1801.07698, eq. 3): the target's logit is s cos(theta_y + m).

    Where theta_y + m passes pi the cosine is continued downwards, -cos(theta_y + m) - 2, so that the logit falls for
    every theta_y.

    Args:
        scale: s.
        margin: m in radians, in [0, pi].
        gradient: "exact" differentiates the equation. "straight_through" is that of InsightFace's training program:
            the target cosine's gradient passes the margin as if there were none. That program's value differs where
            theta_y + m passes pi, since its cosine rises again there, and in the last digits, since it passes every
            cosine through arccos and cos.

    Choose it for convolutional backbones and large clean sets. A transformer from scratch wants a margin warm-up
    with it, or CosFace.
    """
    criterion = MarginSoftmax(
        scale, AngularMargin(m2=within("margin (radians)", margin, 0, math.pi), gradient=gradient)
    )
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def combined_margin(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    m1: float = 1.0,
    m2: float = 0.3,
    m3: float = 0.2,
    gradient: Gradient = "exact",
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """The combined margin (arXiv 1801.07698, eq. 4): the target's logit is s (cos(m1 theta_y + m2) - m3).

    Args:
        scale: s.
        m1: Multiplies the angle, in (0, 8]. Below 1, m2 and m3 have to make up for it.
        m2: Added to the angle, radians, in [0, pi].
        m3: Taken off the cosine, in [0, 2].
        gradient: As for ``arcface``, with the same continuation beyond pi. InsightFace's program has no combination:
            with m3 > 0 it takes off m3 alone, whatever m1 and m2 are.

    Choose it to search between the three margins; the paper reports (1, 0.3, 0.2) and (0.9, 0.4, 0.15).
    """
    criterion = MarginSoftmax(scale, AngularMargin(m1, m2, m3, gradient))
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def sface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    k: float = 80.0,
    a: float = 0.9,
    b: float = 1.2,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """SFace (arXiv 2205.12010): -[r_intra(theta_y)] cos theta_y + sum_j [r_inter(theta_j)] cos theta_j, j != y.

    r_intra(theta) = s / (1 + e^(-k (theta - a))) and r_inter(theta) = s / (1 + e^(k (theta - b))) take no gradient:
    they fade out the pull on images nearer to their center than a, and the push on centers further away than b. There
    is no softmax, and the loss may be negative.

    Args:
        scale: s, the largest gradient.
        k: Steepness of both curves.
        a: Angle in radians below which an image is let be.
        b: Angle in radians beyond which other centers are let be.

    The authors' program trains with (a, b) = (0.9, 1.2) on MS1MV2, as the Face Transformer does, (0.87, 1.2) on
    CASIA-WebFace, and (0.88, 1.25) on VGGFace2; (0.80, 1.22) is published too.

    Choose it for data with wrong labels, which it does not chase to the end.
    """
    return ClassCenterHead(embedding_dim, num_classes, SFaceCriterion(scale, k, a, b), **engine)


def adaface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    margin: float = 0.4,
    h: float = 0.333,
    momentum: float = 0.01,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """AdaFace (arXiv 2204.00964): the target's logit is s (cos(theta_y - m q) - m (1 + q)), q the image's quality.

    q = clip(h (|x| - mean) / std, -1, 1), with running mean and std of the lengths |x|; it takes no gradient. q = -1 is
    ArcFace, 0 CosFace, and 1 a margin that leaves hard images alone less.

    Args:
        scale: s.
        margin: m, in radians where it turns the angle, plain where it is taken off the cosine; in [0, 2].
        h: How much of the spread of lengths the qualities -1..1 take in; the paper's 0.333 is about 68 % of images.
        momentum: Weight of a batch in the running statistics, in [0, 1].

    Choose it where image quality varies much (surveillance, old photos). Expects embeddings whose length is free, as
    after batch norm or a linear layer, not after LayerNorm.
    """
    criterion = AdaFaceCriterion(scale, margin, h, momentum)
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def curricularface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    margin: float = 0.5,
    momentum: float = 0.01,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """CurricularFace (arXiv 2004.00288): ArcFace, and hard negatives count the more the further training is.

    A negative with cos theta_j > cos(theta_y + m) gets the logit s cos theta_j (t + cos theta_j), where t is the
    running mean of the target cosines.

    Args:
        scale: s.
        margin: m in radians, in [0, pi].
        momentum: Weight of a batch in t, in [0, 1].

    Choose it for large sets where ArcFace has converged and hard identities are left.
    """
    criterion = CurricularFaceCriterion(scale, margin, momentum)
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)


def magface(
    embedding_dim: int,
    num_classes: int,
    scale: float = 64.0,
    margin_low: float = 0.45,
    margin_high: float = 0.8,
    norm_low: float = 10.0,
    norm_high: float = 110.0,
    regularizer: float = 35.0,
    easy_margin: bool = False,
    **engine: Unpack[EngineArgs],
) -> ClassCenterHead:
    """MagFace (arXiv 2103.06627): the target's logit is s cos(theta_y + m(a)), and lambda g(a) is added to the loss.

    a = |x| clamped to [norm_low, norm_high]; m(a) rises linearly over that range from margin_low to margin_high;
    g(a) = 1/a + a / norm_high^2. An embedding's length then tells the quality of its image.

    Args:
        scale: s.
        margin_low, margin_high: Margins in radians, in [0, pi].
        norm_low, norm_high: The lengths that they belong to.
        regularizer: lambda.
        easy_margin: Whether images with cos theta_y <= 0 go without the margin. The equation has no such exception;
            the authors' program makes it.

    Choose it to get a quality score with the embedding. Expects embeddings whose length is free and can reach the
    range.
    """
    criterion = MagFaceCriterion(scale, (margin_low, margin_high), (norm_low, norm_high), regularizer, easy_margin)
    return ClassCenterHead(embedding_dim, num_classes, criterion, **engine)
