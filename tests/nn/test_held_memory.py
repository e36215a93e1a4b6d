"""What is foretold without values is what tensors with values take, byte by byte."""

import gc
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facetx.backbones import BACKBONES
from facetx.heads import HEADS
from facetx.nn.memory import AsOn, Held
from facetx.nn.meta import without_values

TINY = {"image_size": 32, "depth": 2, "dim": 32, "heads": 2}


def test_it_counts_births_and_deaths():
    with Held() as held:
        a = torch.ones(100)
        b = a.view(10, 10).t()  # the same memory
        assert held.now == 400
        c = a + 1
        del c
        gc.collect()
        assert (held.now, held.peak) == (400, 800)
        a.add_(1)
        assert held.now == 400
        del a, b
        gc.collect()
    assert held.now == 0


def held_by_a_step(model, inputs, autocast, device=None):
    """Bytes after the forward pass, and at the height of the step."""
    with Held() as held, device or nullcontext():
        with autocast:
            out = model(*inputs)
        if device:
            device.end_autocast()
        forward = held.now
        out.float().square().mean().backward()
        del out
    return forward, held.peak


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("vit_p8s8_tiny", {**TINY, "dropout": 0.1}),
        ("vit_p8s8_tiny", {**TINY, "recompute": True}),
        ("vit_p8s8_tiny", {**TINY, "attention_dropout": 0.1}),
        ("vit_kprpe_tiny", {**TINY, "patch_size": 8}),
        ("facerec_tiny", {"depth": 2}),
        ("mobilefacenet", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_step_without_values_holds_what_one_with_values_holds(name, args, bf16):
    model = BACKBONES.create(name, **args).train()
    size = model.contract.size
    inputs = [torch.randn(4, 3, size, size)] + [torch.rand(4, 5, 2)] * model.needs_keypoints
    forward, peak = held_by_a_step(model, inputs, torch.autocast("cpu", torch.bfloat16, enabled=bf16))
    ghosts = [torch.empty_like(i, device="meta") for i in inputs]
    told = held_by_a_step(without_values(model).train(), ghosts, nullcontext(), AsOn("cpu", bf16))
    assert told == (pytest.approx(forward, rel=0.01), pytest.approx(peak, rel=0.01))


def test_on_cuda_attention_keeps_no_weights_and_dropout_a_byte_a_value():
    def kept(function, *shapes):
        with Held() as held, AsOn("cuda", bf16=False):
            tensors = [torch.empty(s, device="meta", requires_grad=True) for s in shapes]
            before = held.now
            out = function(*tensors)
            return held.now - before - out.numel() * out.element_size()

    attention = kept(F.scaled_dot_product_attention, *3 * [(2, 4, 64, 16)])
    assert attention == pytest.approx(2 * 4 * 64 * 4, abs=64)  # a number a query
    assert kept(lambda x: F.dropout(x, 0.1), (8, 8)) == 8 * 8
    assert kept(lambda x: F.dropout(x, 0.1, training=False), (8, 8)) == 0 - 8 * 8 * 4  # it is its input


def test_autocast_of_cuda_is_followed_but_not_into_heads():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    head = HEADS.create("cosface", embedding_dim=8, num_classes=5)
    ghost, top = without_values(model), without_values(head)
    with AsOn("cuda", bf16=True):
        x = ghost[0](torch.empty(3, 8, device="meta"))
        assert x.dtype == torch.bfloat16
        x = ghost[1](x)
        assert x.dtype == torch.float32
        assert top(x, torch.zeros(3, dtype=torch.long, device="meta"))["loss"].dtype == torch.float32
        assert (x @ x.T).dtype == torch.bfloat16


@pytest.mark.parametrize(("compiled", "copies"), [(False, 1), (True, 0)])
def test_a_compiled_norm_keeps_its_input_as_it_came(compiled, copies):
    norm = without_values(nn.LayerNorm(64))
    with Held() as held, AsOn("cuda", bf16=True, compiled=compiled):
        x = torch.empty(1000, 64, dtype=torch.bfloat16, device="meta", requires_grad=True)
        before = held.now
        out = norm(x)
        assert out.dtype == torch.float32
        kept = held.now - before - out.nbytes
    assert kept == pytest.approx(copies * 1000 * 64 * 4, abs=9000)  # and two numbers a row


@pytest.mark.parametrize("name", HEADS.names())
def test_every_head_can_be_counted(name):
    ghost = without_values(HEADS.create(name, embedding_dim=8, num_classes=20)).train()
    with Held() as held, AsOn("cuda", bf16=True):
        embeddings = torch.empty(6, 8, device="meta", requires_grad=True)
        ghost(embeddings, torch.empty(6, dtype=torch.long, device="meta"))["loss"].backward()
    assert held.peak > 6 * 8 * 4
