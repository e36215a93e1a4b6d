"""Each part against a plain computation of what it says it is."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import copied
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from facetx.backbones import BACKBONES
from facetx.contract import InputContract
from facetx.errors import ConfigError
from facetx.nn import (
    Attention,
    ClassToken,
    ConvAttention,
    ConvTokens,
    DropPath,
    Encoder,
    FlattenPooling,
    KeypointBias,
    MeanPooling,
    PatchTokens,
    SequencePooling,
    SinePositions,
    StemTokens,
)
from facetx.nn.biases import LookedUp, product_buckets
from facetx.nn.necks import bottleneck_neck, init_linear, linear_neck
from facetx.nn.positions import positions_of, resized_positions


def test_attention_is_the_textbooks():
    attention = Attention(12, heads=3, qkv_bias=True)
    x, bias = torch.randn(2, 5, 12), torch.randn(2, 3, 5, 5)
    q, k, v = (t.unflatten(2, (3, 4)).transpose(1, 2) for t in attention.qkv(x).chunk(3, dim=2))
    weights = (q @ k.transpose(2, 3) / math.sqrt(4) + bias).softmax(dim=3)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x, bias), expected)


def test_attention_dropout_is_for_training_only():
    attention = Attention(8, heads=2, attention_dropout=0.5)
    x = torch.randn(2, 6, 8)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_patch_tokens_are_unfolded_and_projected():
    tokens = PatchTokens(32, patch_size=12, stride=8, padding=4, dim=6)
    images = torch.randn(2, 3, 32, 32)
    patches = F.unfold(images, 12, stride=8, padding=4).transpose(1, 2)
    expected = patches @ tokens.proj.weight.flatten(1).T + tokens.proj.bias
    assert (tokens.num_tokens, tokens.grid) == (16, (4, 4))
    torch.testing.assert_close(tokens(images), expected)


def test_patches_may_leave_an_edge_unseen_only_where_that_is_said():
    with pytest.raises(ValueError, match=r"do not cover an image of 112.*108 or 117"):
        PatchTokens(112, 9, stride=9, padding=0, dim=4)
    tokens = PatchTokens(112, 9, stride=9, padding=0, dim=4, cover=False)
    assert tokens.grid == (12, 12)
    images = torch.randn(1, 3, 112, 112)
    edge = images.clone()
    edge[..., 108:] = 0
    assert torch.equal(tokens(images), tokens(edge))


def test_stem_tokens_are_patches_of_the_stems_map():
    stem = torch.nn.Conv2d(3, 5, 4, stride=4)
    tokens = StemTokens(stem, channels=5, reduction=4, image_size=32, patch_size=4, dim=6)
    images = torch.randn(2, 3, 32, 32)
    assert tokens.num_tokens == 4
    torch.testing.assert_close(tokens(images), tokens.patches(stem(images)))
    with pytest.raises(ValueError, match=r"do not divide an image of 40 pixels.*multiple of 16, such as 32"):
        StemTokens(stem, channels=5, reduction=4, image_size=40, patch_size=4, dim=6)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "layers", "side"), [(112, 7, 2, 2, 7), (50, 7, 2, 2, 4), (33, 3, 1, 1, 17)]
)
def test_conv_tokens_count_what_they_give(size, kernel, stride, layers, side):
    tokens = ConvTokens(size, 8, kernel, stride, kernel // 2, layers)
    assert tokens.grid == (side, side)
    assert tokens(torch.randn(1, 3, size, size)).shape == (1, side * side, 8)


def test_sine_positions():
    positions = SinePositions(4, 6).positions[0]
    for t in range(4):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert positions[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert positions[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert list(SinePositions(4, 6).state_dict()) == []
    assert SinePositions(4, 5)(torch.zeros(1, 4, 5)).shape == (1, 4, 5)


def test_positions_by_name():
    assert isinstance(positions_of("sine", 3, 4), SinePositions)
    assert positions_of("learned", 3, 4, std=0.0)(torch.ones(1, 3, 4)).sum() == 12
    with pytest.raises(ValueError, match="'learned' or 'sine', got 'cosine'"):
        positions_of("cosine", 3, 4)


def test_poolings():
    x = torch.randn(2, 5, 4)
    assert torch.equal(MeanPooling()(x), x.mean(1))
    assert torch.equal(FlattenPooling()(x), x.reshape(2, 20))
    assert torch.equal(FlattenPooling().prepend(x), x)
    token = ClassToken(4)
    assert torch.equal(token(token.prepend(x)), token.token.expand(2, 1, 4)[:, 0])

    for pool in (SequencePooling(4), SequencePooling(4, hidden=3)):
        weights = pool.score(x)[..., 0].softmax(dim=1)
        torch.testing.assert_close(pool(x), torch.einsum("bn,bnd->bd", weights, x))


def test_sequence_pooling_with_equal_scores_is_the_mean():
    pool = SequencePooling(4)
    torch.nn.init.zeros_(pool.score.weight)
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(pool(x), x.mean(1))


def test_the_norm_stands_on_the_residual_stream_where_that_is_said():
    encoder = Encoder(dim=8, depth=1, heads=2, mlp_dim=16, norm_residual=True)
    block, x = encoder.blocks[0], torch.randn(2, 3, 8)
    y = block.norm2(x + block.attention(block.norm1(x)))
    torch.testing.assert_close(encoder(x), encoder.norm(y + block.mlp(y)))
    block.norm_residual = False
    y = x + block.attention(block.norm1(x))
    torch.testing.assert_close(encoder(x), encoder.norm(y + block.mlp(block.norm2(y))))


def test_recomputed_blocks_have_the_same_gradients_and_keep_no_bias():
    bias = KeypointBias(side=5, depth=2, heads=2)
    torch.nn.init.normal_(bias.table.weight)
    x, keypoints = torch.randn(3, 25, 8), torch.rand(3, 5, 2)

    def gradients(recompute):
        torch.manual_seed(0)  # the weights, and what is dropped
        encoder = Encoder(dim=8, depth=2, heads=2, mlp_dim=16, dropout=0.1, drop_path=0.5, recompute=recompute)
        kept = []
        with saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
            loss = encoder(x, bias(x, keypoints)).square().sum()
        parameters = (*encoder.parameters(), *bias.parameters())
        return torch.autograd.grad(loss, parameters), sum(shape[-2:] == (25, 25) for shape in kept)

    plain, squares = gradients(recompute=False)
    again, no_squares = gradients(recompute=True)
    torch.testing.assert_close(again, plain)
    assert squares >= 2  # one a layer
    assert no_squares == 0


def test_recomputing_is_for_training_only(monkeypatch):
    encoder = Encoder(dim=8, depth=2, heads=2, mlp_dim=16, recompute=True)
    used = []
    monkeypatch.setattr("facetx.nn.encoder.checkpoint", lambda run, *args, use_reentrant: used.append(1) or run(*args))
    x = torch.randn(1, 3, 8)
    torch.testing.assert_close(encoder(x), encoder.eval()(x))
    assert len(used) == 2


def test_each_layer_asks_for_its_own_bias():
    encoder = Encoder(dim=8, depth=3, heads=2, mlp_dim=16)
    asked = []
    encoder(torch.randn(1, 3, 8), lambda layer: asked.append(layer))
    assert asked == [0, 1, 2]


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = drop(x)
    per_sample = y.flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == 1 / 0.75).all(1)).all()
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


def test_drop_path_rises_with_depth():
    encoder = Encoder(dim=8, depth=5, heads=2, mlp_dim=16, drop_path=0.2)
    assert [b.drop_path.rate for b in encoder.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    first = encoder.blocks[0].drop_path
    x = torch.randn(64, 2, 8)
    assert torch.equal(first(x), x)
    assert first(x.bfloat16()).dtype == torch.bfloat16


def test_without_drop_path_nothing_is_drawn():
    encoder, x = Encoder(dim=8, depth=2, heads=2, mlp_dim=16), torch.randn(2, 3, 8)
    before = torch.get_rng_state()
    encoder(x)
    assert torch.equal(torch.get_rng_state(), before)


def reference_bucket(offset, alpha=1.9, beta=3.8, gamma=15.2):
    """iRPE's piecewise index, one number at a time."""
    if abs(offset) <= alpha:
        return offset
    far = round(alpha + math.log(abs(offset) / alpha) / math.log(gamma / alpha) * (beta - alpha))
    return int(math.copysign(min(far, int(beta)), offset))


def test_buckets_are_those_of_irpe():
    side = 14
    buckets = product_buckets(side, 1.9)
    for i in range(0, side * side, 5):
        for j in range(0, side * side, 3):
            row = reference_bucket(i // side - j // side) + 3
            column = reference_bucket(i % side - j % side) + 3
            assert buckets[i, j] == 7 * row + column
    assert buckets.max() == 48


def test_keypoint_bias_one_entry_at_a_time():
    bias = KeypointBias(side=3, depth=2, heads=2)
    torch.nn.init.normal_(bias.table.weight)
    torch.nn.init.normal_(bias.table.bias)
    keypoints = torch.rand(1, 5, 2)
    weight = bias.table.weight.view(2, 2, 49, 10).detach().numpy()
    shift = bias.table.bias.view(2, 2, 49).detach().numpy()
    layers = bias(torch.zeros(1, 3, 9, 9), keypoints)
    for layer in (0, 1):
        got = layers(layer)[0].detach().numpy()  # (heads, N, N)
        for i in range(9):
            center = np.array([(i % 3 + 0.5) / 3, (i // 3 + 0.5) / 3])  # (x, y)
            differences = (center - keypoints[0].numpy()).reshape(10)
            for j in range(9):
                bucket = 7 * (reference_bucket(i // 3 - j // 3) + 3) + reference_bucket(i % 3 - j % 3) + 3
                for head in (0, 1):
                    expected = weight[layer, head, bucket] @ differences + shift[layer, head, bucket]
                    assert got[head, i, j] == pytest.approx(expected, abs=1e-5)


def looked_up(device, learns):
    """A layer's bias of two images, within the kernel and laid out, with q, k and v."""
    bias = KeypointBias(side=7, depth=1, heads=2).to(device)
    torch.nn.init.normal_(bias.table.weight)
    bias.requires_grad_(learns)
    images, keypoints = torch.zeros(2, 3, 9, 9, device=device), torch.rand(2, 5, 2, device=device)
    dense = bias(images, keypoints)(0)
    table = F.linear((bias.centers - keypoints[:, None]).flatten(2), bias.table.weight, bias.table.bias)
    qkv = [torch.randn(2, 2, 49, 16, device=device, requires_grad=learns) for _ in range(3)]
    return bias, LookedUp(table.view(2, 49, 2, 49), bias.bucket), dense, qkv


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_keypoint_bias_looked_up_in_the_kernel_is_the_same_attention():
    _, inside, dense, qkv = looked_up("cpu", learns=False)  # FlexAttention has no backward pass on a CPU
    expected = F.scaled_dot_product_attention(*qkv, attn_mask=dense, scale=0.3)
    torch.testing.assert_close(inside.attend(*qkv, scale=0.3, dropout=0.0), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="no dropout of attention weights"):
        inside.attend(*qkv, scale=0.3, dropout=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_keypoint_bias_looked_up_in_the_kernel_learns_the_same_table():
    bias, inside, dense, qkv = looked_up("cuda", learns=True)
    learned = [*qkv, bias.table.weight, bias.table.bias]
    attend = torch.compile(lambda *qkv: inside.attend(*qkv, scale=0.3, dropout=0.0), fullgraph=True, dynamic=False)
    ours, theirs = attend(*qkv), F.scaled_dot_product_attention(*qkv, attn_mask=dense, scale=0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    found, expected = (torch.autograd.grad(x.square().sum(), learned) for x in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_compiled_network_looks_its_keypoint_bias_up_in_the_kernel():
    model = BACKBONES.create("vit_kprpe_tiny", flex=True, depth=2).cuda().eval()
    torch.nn.init.normal_(model.bias.table.weight)
    inputs = torch.randn(4, 3, 112, 112, device="cuda"), torch.rand(4, 5, 2, device="cuda")
    with torch.no_grad():
        expected = model(*inputs)
        model.compile(fullgraph=True, dynamic=False)
        torch.testing.assert_close(model(*inputs), expected, rtol=1e-2, atol=1e-2)


def test_keypoint_bias_starts_at_zero():
    bias = KeypointBias(side=3, depth=2, heads=2)
    assert not bias(torch.zeros(1, 3, 9, 9), torch.rand(1, 5, 2))(1).any()


def conv_scores(bias, images):
    """Those of the first layer, laid out (B, A, T, T)."""
    product = bias(images, None)(0)
    return product.query @ product.key.mT


def test_conv_attention_sees_each_patch_alone_and_is_shared_by_the_layers():
    bias = ConvAttention(patch_size=14, heads=2, dim=32)
    images = torch.randn(2, 3, 28, 42)
    layers = bias(images, None)
    assert layers(0) is layers(7)  # computed once
    scores = conv_scores(bias, images)
    assert scores.shape == (2, 2, 6, 6)
    patch_4 = images[:, :, 14:28, 14:28]  # second row, second of three columns
    patch_2 = images[:, :, 0:14, 28:42]
    q, k = bias.query(bias.embed(patch_4)), bias.key(bias.embed(patch_2))
    expected = (q * k).view(2, 2, 16).sum(2) / math.sqrt(16)
    torch.testing.assert_close(scores[:, :, 4, 2], expected)
    bias.scale = 0.5
    torch.testing.assert_close(conv_scores(bias, images)[:, :, 4, 2], expected * math.sqrt(16) * 0.5)


def test_conv_attention_leaves_prefix_tokens_alone():
    torch.manual_seed(0)
    plain = ConvAttention(patch_size=14, heads=2, dim=32)
    torch.manual_seed(0)
    prefixed = ConvAttention(patch_size=14, heads=2, dim=32, prefix=1)
    images = torch.randn(1, 3, 28, 28)
    scores = conv_scores(prefixed, images)
    assert not scores[:, :, 0].any()
    assert not scores[:, :, :, 0].any()
    torch.testing.assert_close(scores[:, :, 1:, 1:], conv_scores(plain, images))


class Dense(nn.Module):
    """``ConvAttention`` with its scores laid out, as the attention's formula has them."""

    needs_keypoints = False

    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, images, keypoints):
        scores = conv_scores(self.bias, images)
        return lambda layer: scores


@pytest.mark.parametrize("attention_scale", [None, 0.3])
def test_conv_scores_beside_q_and_k_are_the_same_attention(attention_scale):
    sizes = {"depth": 2, "dim": 32, "heads": 2, "mlp_dim": 64, "attention_scale": attention_scale}
    model = BACKBONES.create("facerec_tiny", image_size=64, conv_dim=64, pooling="class_token", **sizes).double()
    torch.nn.init.normal_(model.bias.query.weight)  # so that they matter
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    dense = copied(model)
    dense.bias = Dense(dense.bias)

    def result(model):
        out = model(images)
        out.square().sum().backward()
        return out, [p.grad for p in model.parameters()]

    ours, by_ours = result(model)
    theirs, by_theirs = result(dense)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(by_ours, by_theirs, rtol=1e-8, atol=1e-10)
    without = copied(model)
    without.bias = None
    assert (without(images) - ours).abs().max() > 1e-3
    torch.testing.assert_close(model.float()(images.float()), theirs.float(), rtol=1e-5, atol=1e-5)


def test_no_conv_scores_are_laid_out():
    model = BACKBONES.create("facerec_tiny", depth=1)
    tokens, heads = 49, 4

    class Squares(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            out = operation(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple) else (out,):
                assert not isinstance(t, torch.Tensor) or t.shape[1:] != (heads, tokens, tokens)
            return out

    with Squares():
        model(torch.randn(1, 3, 112, 112)).sum().backward()


def test_conv_attention_refuses_sizes_that_do_not_work():
    with pytest.raises(ValueError, match="at least 14 pixels, got 8"):
        ConvAttention(patch_size=8, heads=2, dim=32)
    with pytest.raises(ValueError, match="divide by 32 and into 3 heads"):
        ConvAttention(patch_size=16, heads=3, dim=32)
    with pytest.raises(ValueError, match="40 must divide into 3 heads"):
        ConvAttention(patch_size=16, heads=3, dim=40, widths=(8, 16))


def test_necks():
    assert linear_neck(6, 4)(torch.randn(3, 6)).shape == (3, 4)
    neck = bottleneck_neck(6, 5, 4)
    embeddings = neck(torch.randn(64, 6))
    assert embeddings.shape == (64, 4)
    torch.testing.assert_close(embeddings.mean(0), torch.zeros(4), atol=1e-5, rtol=0)  # a batch norm comes last


def test_init_linear_touches_linear_layers_only():
    module = torch.nn.Sequential(torch.nn.Linear(400, 400), torch.nn.LayerNorm(400))
    init_linear(module, std=0.02)
    assert module[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not module[0].bias.any()
    assert (module[1].weight == 1).all()


@pytest.mark.parametrize(
    "contract",
    [
        InputContract(),
        InputContract(mean=(0,), std=(1,)),
        InputContract(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        InputContract(mean=(1, 2, 3), std=(58.395,), color="BGR"),
    ],
)
def test_a_contract_scales_each_channel_by_plain_numbers(contract):
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = (np.array(v, np.float32).reshape(-1, 1, 1) for v in (contract.mean, contract.std))
    channels = images.numpy()[:, :: -1 if contract.color == "BGR" else 1]

    used = set()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            used.add(operation.__name__.split(".")[0])
            return operation(*args, **(kwargs or {}))

    with Noting():
        scaled = contract(images)
    np.testing.assert_array_equal(scaled.numpy(), (channels - mean) / std)
    # No tensor is made of numbers: that would wait for a copy to the device at each step.
    assert used <= {"_to_copy", "flip", "unbind", "sub", "div", "stack"}
    compiled = torch.compile(contract.__call__, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images), scaled)
    assert copied(contract) == contract == InputContract(**contract.as_dict())


def test_positions_for_another_grid_keep_the_class_token_and_their_course():
    ramp = torch.arange(4.0)[:, None].expand(4, 4)  # the row
    positions = torch.stack([ramp, ramp.T], -1).reshape(1, 16, 2)
    whole = torch.cat([torch.full((1, 1, 2), 9.0), positions], dim=1)
    torch.testing.assert_close(resized_positions(whole, 1, (4, 4)), whole)
    moved = resized_positions(whole, 1, (8, 8))
    assert moved.shape == (1, 65, 2)
    assert moved[0, 0].tolist() == [9, 9]
    grid = moved[0, 1:].unflatten(0, (8, 8))
    torch.testing.assert_close(grid[..., 0], grid[..., 1].T)
    inner = grid[2:6, :, 0].mean(1)  # away from the edges a line stays a line: half a step for each row
    torch.testing.assert_close(inner.diff(), torch.full((3,), 0.5), rtol=0, atol=0.05)
    with pytest.raises(ValueError, match="15 positions are no square"):
        resized_positions(whole, 2, (4, 4))


@pytest.mark.parametrize("fp32", [False, True])
def test_the_sums_between_the_blocks_follow_autocast_or_stay_in_float32(fp32):
    model = BACKBONES.create("vit_p12s8_tiny", image_size=32, fp32_residual=fp32)
    seen = []
    for block in model.encoder.blocks:
        block.register_forward_hook(lambda _, given, out: seen.extend([given[0].dtype, out.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 32, 32))
    assert set(seen) == {torch.float32 if fp32 else torch.bfloat16}
    seen.clear()
    model(torch.randn(2, 3, 32, 32))
    assert set(seen) == {torch.float32}
