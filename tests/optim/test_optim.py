"""Schedules, parameter groups and the moving average."""

import math

import pytest
import timm
import timm.optim
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.optim import OPTIMIZERS, SCHEDULES, MovingAverage, averaged, parameter_groups, rate_at


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_starts_at_the_base_rate_and_stays_in_range(name):
    schedule = SCHEDULES.create(name)
    rates = [rate_at(schedule, step, 1000) for step in range(1000)]
    assert rates[0] == 1
    assert all(0 <= r <= 1 for r in rates)


def test_warm_up_is_linear_and_counted_in_steps():
    rates = [rate_at(SCHEDULES.create("cosine"), step, 110, warmup_steps=10) for step in range(110)]
    assert rates[:10] == [pytest.approx((i + 1) / 10) for i in range(10)]
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


def test_the_shapes_of_the_schedules():
    at = lambda name, step, **args: rate_at(SCHEDULES.create(name, **args), step, 100)  # noqa: E731
    assert at("cosine", 50, final=0.2) == pytest.approx(0.6)
    assert at("poly", 50, power=2.0) == pytest.approx(0.25)
    assert [at("multi_step", s) for s in (49, 50, 75, 90)] == pytest.approx([1, 0.1, 0.01, 0.001])
    assert [at("warm_restarts", s, period=10) for s in (0, 5, 10, 15)] == pytest.approx([1, 0.5, 1, 0.5])
    assert [at("warm_restarts", s, period=10, multiply=2) for s in (10, 20, 29, 30)] == pytest.approx(
        [1, 0.5, 0.5 * (1 + math.cos(math.pi * 19 / 20)), 1]
    )
    with pytest.raises(ValueError, match="at least 1"):
        SCHEDULES.create("warm_restarts", period=0)


def test_norms_biases_positions_and_tokens_do_not_decay():
    model = BACKBONES.create("vit_p8s8_tiny", image_size=16, dim=8, depth=1, heads=2, head_dim=4, mlp_dim=8)
    decays, stays = parameter_groups(model, 0.05)
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.05, 0)
    assert sorted(decays["names"]) == [
        "encoder.blocks.0.attention.proj.weight",
        "encoder.blocks.0.attention.qkv.weight",
        "encoder.blocks.0.mlp.0.weight",
        "encoder.blocks.0.mlp.3.weight",
        "tokens.proj.weight",
    ]
    assert {"pooling.token", "positions.positions", "tokens.proj.bias", "encoder.norm.weight"} <= set(stays["names"])
    assert sum(p.numel() for g in (decays, stays) for p in g["params"]) == sum(p.numel() for p in model.parameters())
    model.tokens.requires_grad_(False)
    assert "tokens.proj.weight" not in parameter_groups(model, 0.05)[0]["names"]


@pytest.mark.parametrize(
    ("name", "options", "kept"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 1, "embed_dim": 12}, {"pos_embed", "cls_token"}),
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 1, "embed_dim": 12, "reg_tokens": 2}, {"reg_token"}),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 56, "depths": (1,), "embed_dim": 12, "num_heads": (2,)},
            {"layers.0.blocks.0.attn.relative_position_bias_table"},
        ),
    ],
)
def test_what_timm_keeps_from_decay_does_not_decay(name, options, kept):
    model = timm.create_model(name, num_classes=0, **options)
    ours = {n.removeprefix("0.") for n in parameter_groups(nn.Sequential(model), 0.05)[1]["names"]}
    assert kept <= ours
    assert all(model.get_parameter(n).ndim > 1 for n in kept)  # by its shape alone it would decay
    theirs = timm.optim.param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    assert {id(model.get_parameter(n)) for n in ours} == {id(p) for p in theirs[0]["params"]}


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_goes_downhill_and_skips_where_it_is_told(name):
    weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    optimizer = OPTIMIZERS.create(name)([{"params": [weight], "weight_decay": 0.0}], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.found_inf = torch.tensor(0.0)
        optimizer.step()
    assert (weight.detach() ** 2).sum() < 10
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, float("nan"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(weight.detach(), before)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_first_step_that_is_skipped_or_has_half_of_the_gradients_leaves_nothing_behind(name):
    """As after a loss that is not finite at step 1, and as with train.head_first_steps."""
    weights = {}
    for disturbed in (True, False):
        held, moved = (nn.Parameter(torch.tensor([[0.9, -1.0, 2.0]])) for _ in range(2))
        optimizer = OPTIMIZERS.create(name)([{"params": [held, moved], "weight_decay": 0.1}], lr=0.1)
        if disturbed:
            held.grad, moved.grad = (torch.full_like(p, float("nan")) for p in (held, moved))
            optimizer.found_inf = torch.tensor(1.0)
            optimizer.step()
        optimizer.found_inf = torch.tensor(0.0)
        for step in range(4):
            held.grad = None if step < 2 else torch.full_like(held, 0.5 * step)
            moved.grad = torch.full_like(moved, 1.0 + step)
            optimizer.step()
        weights[disturbed] = torch.cat([held, moved]).detach()
    assert torch.equal(weights[True], weights[False])
    assert torch.isfinite(weights[True]).all()
    assert (weights[True] != torch.tensor([[0.9, -1.0, 2.0]])).all()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs_bit_for_bit(nesterov):
    starts = torch.randn(2, 3, 5)
    ours, theirs = nn.Parameter(starts[0].clone()), nn.Parameter(starts[0].clone())
    group = {"weight_decay": 0.05}
    first = OPTIMIZERS.create("sgd", momentum=0.8, nesterov=nesterov)([{"params": [ours], **group}], lr=0.1)
    second = torch.optim.SGD([{"params": [theirs], **group}], lr=0.1, momentum=0.8, nesterov=nesterov, fused=True)
    for _ in range(5):
        ours.grad = torch.randn(3, 5)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
        assert torch.equal(ours, theirs)
    assert not OPTIMIZERS.create("sgd", momentum=0.0)([{"params": [ours]}], lr=0.1).state


def test_the_moving_average_is_one():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(module, decay=0.9)
    expected = {k: v.clone() for k, v in module.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(torch.randn_like(p))
            module[1].running_mean.add_(1)
        average.update(module, step, torch.tensor(True))
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            expected[name] = (
                value if "running" in name or "num_" in name else decay * expected[name] + (1 - decay) * value
            )
    for name, value in expected.items():
        torch.testing.assert_close(average.state[name], value)
    before = {k: v.clone() for k, v in average.state.items()}
    average.update(module, 30, torch.tensor(False))
    assert all(torch.equal(average.state[k], before[k]) for k in before if k.startswith("0."))
    own = module[0].weight.clone()
    with averaged(module, average):
        assert torch.equal(module[0].weight, average.state["0.weight"])
    assert torch.equal(module[0].weight, own)
