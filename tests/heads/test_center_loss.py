"""Center loss: its value, the centers' own update rule, and its state."""

import pytest
import torch

from facetx.heads import HEADS


def make(**args):
    return HEADS.create("center_loss", embedding_dim=3, num_classes=4, **args)


X = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [0.0, 0.0, 2.0]])
Y = torch.tensor([1, 1, 3])


@pytest.mark.parametrize(("reduction", "factor"), [("sum", 1.0), ("mean", 1 / 3)])
def test_half_lambda_times_the_squared_distance(reduction, factor):
    head = make(weight=0.5, reduction=reduction)
    head.centers.copy_(torch.arange(12.0).view(4, 3))
    want = sum(float(((x - head.centers[y]) ** 2).sum()) for x, y in zip(X, Y)) * 0.25 * factor
    result = head(X, Y)
    assert result["loss"].item() == pytest.approx(want)
    assert result["center_distance"].item() > 0


def test_centers_follow_from_the_first_step_by_the_papers_rule():
    head = make(alpha=0.5)
    head(X, Y)
    torch.testing.assert_close(head.centers[1], 0.5 * (X[0] + X[1]) / 3)
    torch.testing.assert_close(head.centers[3], 0.5 * X[2] / 2)
    assert not head.centers[[0, 2]].any()
    before = head.centers.clone()
    head(X, Y)
    torch.testing.assert_close(head.centers[3], before[3] + 0.5 * (X[2] - before[3]) / 2)


def test_centers_stand_still_in_eval_and_live_in_the_state_dict():
    head = make()
    head.eval()(X, Y)
    assert not head.centers.any()
    head.train()(X, Y)
    other = make()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.centers, head.centers)
    assert not list(head.parameters())


def test_gradcheck():
    head = make(weight=0.3).double().eval()
    head.centers.normal_()
    x = X.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: head(x, Y)["loss"], (x,))


def test_bf16_autocast_changes_nothing():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = make()(X.bfloat16(), Y)["loss"]
    assert torch.equal(under, make()(X, Y)["loss"])


def test_wrong_arguments_say_what_is_allowed():
    with pytest.raises(ValueError, match="weight must be above 0"):
        make(weight=0.0)
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', got 'none'"):
        make(reduction="none")
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        make(alpha=1.5)
