"""Joint heads: the weighted sum, the names of its scalars, and parts that do not fit together."""

import pytest
import torch

from facetx.heads import HEADS, JointHead


def make(name, dim=6, **args):
    return HEADS.create(name, embedding_dim=dim, num_classes=4, **args)


def test_the_loss_is_the_weighted_sum_and_scalars_are_named():
    soft, center, triplet = make("arcface"), make("center_loss"), make("triplet")
    joint = JointHead([(1.0, soft), (0.01, center), (0.5, triplet)], names=["arcface", "center_loss", "triplet"]).eval()
    x, y = torch.randn(8, 6, requires_grad=True), torch.arange(8) % 4
    result = joint(x, y)
    parts = [head(x, y) for head in (soft, center, triplet)]
    torch.testing.assert_close(result["loss"], parts[0]["loss"] + 0.01 * parts[1]["loss"] + 0.5 * parts[2]["loss"])
    torch.testing.assert_close(result["triplet/loss"], parts[2]["loss"].detach())
    assert result["accuracy"] == result["arcface/accuracy"] == parts[0]["accuracy"]
    assert [key for key, value in result.items() if value.requires_grad] == ["loss"]
    assert {"center_loss/center_distance", "arcface/target_cosine"} <= result.keys()
    assert torch.equal(joint.logits(x), soft.logits(x))
    assert (joint.embedding_dim, joint.num_classes) == (6, 4)


def test_gradients_and_margin_scale_reach_the_parts():
    joint = JointHead([(2.0, make("center_loss")), (1.0, make("cosface"))])
    joint.set_margin_scale(0.25)
    assert joint.parts[1].criterion.margin_scale == 0.25
    joint(torch.randn(8, 6), torch.arange(8) % 4)["loss"].backward()
    assert joint.parts[1].weight.grad.any()
    assert joint.parts[0].centers.any()


def test_parts_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="needs parts"):
        JointHead([])
    with pytest.raises(ValueError, match="all different"):
        JointHead([(1.0, make("cosface")), (1.0, make("triplet"))], names=["a", "a"])
    with pytest.raises(ValueError, match=r"differ in \(embedding_dim, num_classes\): \[\(5, 4\), \(6, 4\)\]"):
        JointHead([(1.0, make("cosface")), (1.0, make("triplet", dim=5))])
    with pytest.raises(ValueError, match="weight of '0' must be above 0"):
        JointHead([(-1.0, make("cosface"))])
    with pytest.raises(ValueError, match="gives no logits"):
        JointHead([(1.0, make("triplet"))]).logits(torch.randn(2, 6))
