"""Partial FC: which classes it keeps, and what becomes of the others."""

import pytest
import torch

from facetx.heads import HEADS


def make(rate, classes=100):
    return HEADS.create("cosface", embedding_dim=8, num_classes=classes, engine="sampled", sample_rate=rate)


@pytest.mark.parametrize(("rate", "kept"), [(0.3, 30), (0.011, 6), (1.0, 100)])
def test_only_the_kept_classes_learn_and_the_batch_is_always_kept(rate, kept):
    head, x = make(rate), torch.randn(6, 8)
    y = torch.tensor([7, 99, 0, 7, 42, 63])
    head(x, y)["loss"].backward()
    moved = head.weight.grad.abs().sum(1) > 0
    assert moved[y].all()
    assert moved.sum() == kept


def test_the_choice_is_seeded_and_changes():
    head, x, y = make(0.1), torch.randn(4, 8), torch.arange(4)

    def kept(seed):
        torch.manual_seed(seed)
        (grad,) = torch.autograd.grad(head(x, y)["loss"], head.weight)
        return grad

    assert torch.equal(kept(1), kept(1))
    assert not torch.equal(kept(1), kept(2))


def test_evaluation_sees_all_classes():
    head, x, y = make(0.1).eval(), torch.randn(4, 8), torch.arange(4)
    sampled = head(x, y)["loss"]
    head.engine = "full"
    assert torch.equal(sampled, head(x, y)["loss"])
