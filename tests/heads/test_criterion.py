"""Criteria apart from any engine: the thrifty log-sum-exp, shards that merge, and SFace's gradient."""

import math

import pytest
import torch

from facetx.heads.adaptive import CurricularFaceCriterion
from facetx.heads.criterion import MASKED, MarginSoftmax, NormScaledSoftmax, SFaceCriterion, scaled_logsumexp
from facetx.heads.margins import AngularMargin


def rows(count=4, classes=6):
    """Target cosines (R,), negatives (R, C) with the own class masked, norms (R,)."""
    negatives = torch.rand(count, classes, dtype=torch.float64) * 1.8 - 0.9
    negatives[:, 2] = MASKED
    return torch.rand(count, dtype=torch.float64) - 0.5, negatives, torch.rand(count, dtype=torch.float64) + 1


def test_scaled_logsumexp_is_torchs():
    _, x, scale = rows()
    torch.testing.assert_close(scaled_logsumexp(x, 64.0), (64 * x).logsumexp(1))
    torch.testing.assert_close(scaled_logsumexp(x, scale), (scale[:, None] * x).logsumexp(1))
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scaled_logsumexp, (x, scale))
    assert torch.autograd.gradcheck(lambda x: scaled_logsumexp(x, 7.0), (x,))


def test_scaled_logsumexp_does_not_overflow():
    x = torch.full((2, 3), 1.0)
    assert scaled_logsumexp(x, 1e4).allclose(torch.tensor(1e4 + math.log(3)))
    assert scaled_logsumexp(-x, 1e4).allclose(torch.tensor(-1e4 + math.log(3)))


@pytest.mark.parametrize(
    "criterion",
    [
        MarginSoftmax(64, AngularMargin(m3=0.35)),
        NormScaledSoftmax(1, AngularMargin(m2=0.5)),
        SFaceCriterion(64, 80, 0.9, 1.2),
        CurricularFaceCriterion(64, 0.5, 0.01),
    ],
)
def test_shards_of_classes_merge_to_the_whole(criterion):
    target, negatives, norms = rows()
    whole = criterion.aggregate(target, negatives, norms)
    # The third shard holds nothing but the own class.
    shards = negatives[:, :2], negatives[:, 2:3], negatives[:, 3:]
    parts = torch.stack([criterion.aggregate(target, part, norms) for part in shards])
    torch.testing.assert_close(criterion.merge(parts), whole)


def test_sface_pulls_and_pushes_with_its_two_curves_as_constants():
    criterion = SFaceCriterion(64, 80, 0.9, 1.2)
    target, negatives, norms = rows()
    target.requires_grad_()
    negatives.requires_grad_()
    criterion.losses(target, criterion.aggregate(target.detach(), negatives, norms), norms).sum().backward()
    intra = 64 / (1 + torch.exp(-80 * (target.detach().arccos() - 0.9)))
    inter = 64 / (1 + torch.exp(80 * (negatives.detach().clamp(-1, 1).arccos() - 1.2)))
    inter[:, 2] = 0
    torch.testing.assert_close(target.grad, -intra)
    torch.testing.assert_close(negatives.grad, inter)


def test_sface_lets_near_images_and_far_centers_be():
    criterion = SFaceCriterion(64, 80, 0.9, 1.2)
    target, negatives = torch.tensor([0.99]), torch.tensor([[MASKED, -0.5]])
    aggregate = criterion.aggregate(target, negatives, target)
    assert abs(criterion.losses(target, aggregate, target).item()) < 1e-6
