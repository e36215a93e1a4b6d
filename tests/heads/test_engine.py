"""All engines give the plain one's numbers."""

import inspect

import pytest
import torch

from facetx.heads import HEADS

NAMES = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]
SAME = [
    ("chunked", {"chunk_size": 1}),
    ("chunked", {"chunk_size": 5}),
    ("chunked", {"chunk_size": 64}),
    ("chunked", {}),
    ("sampled", {"sample_rate": 1.0}),
]


def run(name, engine, x, y, weight, **args):
    """Scalars, gradients and buffers after one training step."""
    head = HEADS.create(name, embedding_dim=x.shape[1], num_classes=len(weight), engine=engine, **args).to(x.dtype)
    head.load_weight(weight)
    if head.bias is not None:
        head.bias.data += torch.arange(len(weight))
    x = x.clone().requires_grad_()
    scalars = head(x, y)
    (3 * scalars["loss"]).backward()
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    return scalars | {"by x": x.grad} | gradients | dict(head.named_buffers())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("engine", "args"), SAME)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_engines_agree(name, engine, args, dtype):
    x, y = (4 * torch.randn(13, 8)).to(dtype), torch.randint(7, (13,))
    weight = torch.randn(7, 8).to(dtype)
    got, want = run(name, engine, x, y, weight, **args), run(name, "full", x, y, weight)
    assert got.keys() == want.keys()
    exact = {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-4}
    for key in want:
        torch.testing.assert_close(got[key], want[key], **exact, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("engine", ["chunked", "sampled"])
def test_engines_agree_without_gradients(engine):
    x, y = torch.randn(6, 8), torch.randint(7, (6,))
    head = HEADS.create("arcface", embedding_dim=8, num_classes=7, engine=engine).eval()
    with torch.no_grad():
        got = head(x, y)["loss"]
        head.engine = "full"
        torch.testing.assert_close(got, head(x, y)["loss"])
