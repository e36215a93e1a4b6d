import math

import pytest
import torch
from torch import nn

from facetx.nn.dropout import Dropout, kept

SHAPE = torch.Size([256, 1024])
SEEDS = [0, 1, -1, 12345, 2**31 - 1, -(2**31)]


def mask(seed, p=0.1):
    return kept(torch.tensor(seed, dtype=torch.int32), SHAPE, p)


def correlation(a, b):
    """In standard errors of no correlation."""
    a, b = a.double().flatten(), b.double().flatten()
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std())) * math.sqrt(a.numel())


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5])
def test_as_many_are_dropped_as_chance_would(p):
    n = SHAPE.numel()
    for seed in SEEDS:
        dropped = ~mask(seed, p)
        assert abs(int(dropped.sum()) - n * p) < 4 * math.sqrt(n * p * (1 - p))
        for axis in (0, 1):  # neither does a row or a column lose more than chance allows
            expected = p * SHAPE[axis]
            spread = ((dropped.double().sum(axis) - expected) ** 2 / (expected * (1 - p))).sum()
            k = SHAPE[1 - axis]
            assert abs(float(spread) - k) < 5 * math.sqrt(2 * k)


def test_masks_of_two_seeds_and_of_neighbors_have_nothing_in_common():
    masks = [mask(seed) for seed in SEEDS]
    for i, a in enumerate(masks):
        assert all(abs(correlation(a, b)) < 4.5 for b in masks[:i])
        line = a.flatten()
        assert all(abs(correlation(line[k:], line[:-k])) < 4.5 for k in (1, 2, 8, 64, 1024, 4096))
    a, b = masks[0].flatten(), masks[1].flatten()
    assert all(abs(correlation(a[k:], b[:-k])) < 4.5 for k in range(1, 33))  # no shifted copy


def test_a_compiled_network_drops_by_the_step_s_seed_alone_and_its_gradient_fits():
    torch.compiler.reset()
    plain = nn.Sequential(nn.Linear(16, 64), Dropout(0.25))
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    x = torch.randn(512, 16, requires_grad=True)

    def run(seed):
        torch.manual_seed(seed)
        out = compiled(x)
        (bias,) = torch.autograd.grad(out.sum(), plain[0].bias)
        return out.detach(), bias

    out, gradient = run(0)
    whole = plain[0](x).detach()
    stays = out != 0
    assert abs(float(stays.float().mean()) - 0.75) < 0.01
    torch.testing.assert_close(out, torch.where(stays, whole / 0.75, 0))
    torch.testing.assert_close(gradient, stays.float().sum(0) / 0.75)
    assert torch.equal(run(0)[0], out)
    assert not torch.equal(run(1)[0], out)
    plain.eval()
    torch.testing.assert_close(compiled(x).detach(), whole)


def test_without_compilation_it_is_pytorch_s_own():
    x = torch.randn(64, 64)
    torch.manual_seed(3)
    ours = Dropout(0.1)(x)
    torch.manual_seed(3)
    assert torch.equal(ours, nn.Dropout(0.1)(x))
