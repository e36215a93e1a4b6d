"""Networks against their programs' forward passes, written once more as plain functions of a state dict.

The names, the order of the layers and each epsilon are the programs'. Running variances are small, so that an epsilon
that differs shows.
"""

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_parity

from facetx.backbones import BACKBONES
from facetx.backbones.importers import IMPORTERS


def drawn(model, names):
    """A state dict of the shapes of ``model``'s, drawn, under their names: parts of names are ours -> theirs."""
    state, own = {}, model.state_dict()
    for name, value in own.items():
        normalizes = name.endswith("weight") and name.replace("weight", "running_var") in own
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if value.ndim > 1:
            state[name] = torch.randn(value.shape) / value[0].numel() ** 0.5
        elif name.endswith("running_var"):
            state[name] = torch.rand(value.shape) * 1e-3
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif normalizes:
            state[name] = torch.rand(value.shape) * 0.04  # for such variances, or the numbers grow without end
        else:
            state[name] = torch.rand(value.shape) * 0.2
    return state


def normed(state, name, x, eps=1e-5):
    """Batch norm in eval mode, by its equation."""
    weight, bias, mean, var = (state[f"{name}.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
    shape = (1, -1, 1, 1)[: x.ndim]
    return (x - mean.view(shape)) / (var.view(shape) + eps).sqrt() * weight.view(shape) + bias.view(shape)


def imported(source, state):
    name, args, weights = IMPORTERS[source](state)
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)
    return model


def iresnet(state, x, blocks):
    """arcface_torch's IResNet."""
    x = F.prelu(normed(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)), state["prelu.weight"])
    for layer, count in enumerate(blocks, start=1):
        for j in range(count):
            at, stride = f"layer{layer}.{j}", 2 if j == 0 else 1
            y = F.conv2d(normed(state, f"{at}.bn1", x), state[f"{at}.conv1.weight"], padding=1)
            y = F.prelu(normed(state, f"{at}.bn2", y), state[f"{at}.prelu.weight"])
            y = normed(state, f"{at}.bn3", F.conv2d(y, state[f"{at}.conv2.weight"], stride=stride, padding=1))
            if j == 0:
                x = F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=2)
                x = normed(state, f"{at}.downsample.1", x)
            x = x + y
    x = normed(state, "bn2", x).flatten(1)
    return normed(state, "features", F.linear(x, state["fc.weight"], state["fc.bias"]))


@torch.inference_mode()
def test_iresnet():
    ours = BACKBONES.create("iresnet18", image_size=32, embedding_dim=16)
    names = {"trunk.": "", "neck.2": "fc", "neck.3": "features"}

    state = drawn(ours, names)
    x = torch.randn(2, 3, 32, 32)
    assert_parity(imported("insightface-iresnet", state)(x), iresnet(state, x, (2, 2, 2, 2)))


def insightface_vit(state, x, depth, heads):
    """arcface_torch's ViT."""
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=9)
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"]
    B, N, D = x.shape
    layer_norm = lambda name, x: F.layer_norm(x, (D,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)  # noqa: E731
    for i in range(depth):
        at = f"blocks.{i}"
        qkv = F.linear(layer_norm(f"{at}.norm1", x), state[f"{at}.attn.qkv.weight"])
        q, k, v = qkv.reshape(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(2, 3)) * (D // heads) ** -0.5).softmax(dim=3) @ v
        y = y.transpose(1, 2).reshape(B, N, D)
        x = x + F.linear(y, state[f"{at}.attn.proj.weight"], state[f"{at}.attn.proj.bias"])
        y = F.linear(layer_norm(f"{at}.norm2", x), state[f"{at}.mlp.fc1.weight"], state[f"{at}.mlp.fc1.bias"])
        x = x + F.linear(F.relu6(y), state[f"{at}.mlp.fc2.weight"], state[f"{at}.mlp.fc2.bias"])
    x = layer_norm("norm", x).reshape(B, N * D)
    x = normed(state, "feature.1", F.linear(x, state["feature.0.weight"]), 2e-5)
    return normed(state, "feature.3", F.linear(x, state["feature.2.weight"]), 2e-5)


@torch.inference_mode()
def test_insightface_vit():
    names = {
        "positions.positions": "pos_embed",
        "tokens.proj": "patch_embed.proj",
        "encoder.": "",
        "attention": "attn",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "neck": "feature",
    }

    state = drawn(BACKBONES.create("insightface_vit_t", embedding_dim=16), names)
    x = torch.randn(2, 3, 112, 112) * 0.01  # little variance, for the layer norms
    assert_parity(imported("insightface-vit", state)(x), insightface_vit(state, x, 12, 8))


def mobilefacenet(state, x):
    """Xiaoccer's MobileFaceNet."""

    def block(name, x, stride=1, padding=0, groups=1, linear=False):
        x = F.conv2d(x, state[f"{name}.conv.weight"], None, stride, padding, groups=groups)
        x = normed(state, f"{name}.bn", x)
        return x if linear else F.prelu(x, state[f"{name}.prelu.weight"])

    x = block("dw_conv1", block("conv1", x, 2, 1), 1, 1, groups=64)
    strides = (2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1)
    widths = (64, *[64] * 5, *[128] * 10)
    for i, (stride, before, after) in enumerate(zip(strides, widths, widths[1:])):
        at = f"blocks.{i}.conv"
        y = F.conv2d(x, state[f"{at}.0.weight"])
        y = F.prelu(normed(state, f"{at}.1", y), state[f"{at}.2.weight"])
        y = F.conv2d(y, state[f"{at}.3.weight"], None, stride, 1, groups=y.shape[1])
        y = F.prelu(normed(state, f"{at}.4", y), state[f"{at}.5.weight"])
        y = normed(state, f"{at}.7", F.conv2d(y, state[f"{at}.6.weight"]))
        x = x + y if stride == 1 and before == after else y
    x = block("linear7", block("conv2", x), groups=512, linear=True)
    return block("linear1", x, linear=True).flatten(1)


@torch.inference_mode()
@pytest.mark.parametrize("width", [64, 48])
def test_mobilefacenet(width):
    names = {f"trunk.block{i}.": f"blocks.{i}.conv." for i in range(15)}
    for i, part in enumerate(("up", "depthwise", "down")):
        for j, layer in enumerate(("conv", "bn", "prelu")):
            names[f"conv.{part}.{layer}"] = f"conv.{3 * i + j}"
    names |= {"trunk.": "", "neck.0": "linear7", "neck.1": "linear1"}
    state = drawn(BACKBONES.create("mobilefacenet", image_size=64, crop_width=width, embedding_dim=16), names)
    x = torch.randn(2, 3, 64, 64)
    crop = x[..., (64 - width) // 2 : (64 + width) // 2]
    assert_parity(imported("mobilefacenet", state)(x), mobilefacenet(state, crop))


def cct(state, x, convolutions, kernel, depth, heads):
    """SHI-Labs' CCT up to its classifier."""
    stride, at = max(1, kernel // 2 - 1), "tokenizer.conv_layers"
    for i in range(convolutions):
        x = F.relu(F.conv2d(x, state[f"{at}.{i}.0.weight"], stride=stride, padding=kernel // 2))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
    x = x.flatten(2).transpose(1, 2) + state["classifier.positional_emb"]
    B, N, D = x.shape

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def layer_norm(name, x):
        return F.layer_norm(x, (D,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    for i in range(depth):
        at = f"classifier.blocks.{i}"
        qkv = linear(f"{at}.self_attn.qkv", layer_norm(f"{at}.pre_norm", x))
        q, k, v = qkv.reshape(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(2, 3)) * (D // heads) ** -0.5).softmax(dim=3) @ v
        x = layer_norm(f"{at}.norm1", x + linear(f"{at}.self_attn.proj", y.transpose(1, 2).reshape(B, N, D)))
        x = x + linear(f"{at}.linear2", F.gelu(linear(f"{at}.linear1", x)))
    x = layer_norm("classifier.norm", x)
    return (linear("classifier.attention_pool", x).softmax(dim=1).transpose(1, 2) @ x).squeeze(1)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "size", "kernel", "convolutions", "depth", "heads"),
    [("cct_7_3x1", 32, 3, 1, 7, 4), ("cct_14_7x2", 64, 7, 2, 14, 6)],
)
def test_cct(name, size, kernel, convolutions, depth, heads):
    names = {
        "tokens.layers.0": "tokenizer.conv_layers.0.0",
        "tokens.layers.3": "tokenizer.conv_layers.1.0",
        "positions.positions": "classifier.positional_emb",
        "pooling.score": "classifier.attention_pool",
        "encoder.": "classifier.",
        "norm1": "pre_norm",
        "norm2": "norm1",
        "attention.": "self_attn.",
        "mlp.0": "linear1",
        "mlp.3": "linear2",
    }

    state = drawn(BACKBONES.create(name, image_size=size), names)
    x = torch.randn(2, 3, size, size)
    assert_parity(imported("cct", state)(x), cct(state, x, convolutions, kernel, depth, heads))
