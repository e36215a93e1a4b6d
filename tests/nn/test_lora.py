"""Low-rank adaptation, against what it says of itself."""

import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.errors import ConfigError
from facetx.nn.lora import LoraLinear, add_lora, merge_lora


def model():
    torch.manual_seed(0)
    return BACKBONES.create("insightface_vit_t", image_size=36, embedding_dim=8, depth=2, dim=32, heads=2, mlp_dim=32)


def train_one_step(model, images):
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(images).square().mean().backward()
    optimizer.step()
    return model.eval()


def test_a_layer_is_the_plain_one_plus_a_product_of_two_narrow_ones():
    plain = nn.Linear(6, 5)
    weight = plain.weight.clone()
    layer = LoraLinear(plain, rank=2, alpha=4.0)
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x), plain(x))
    nn.init.normal_(layer.up)
    expected = x @ (weight + 4.0 / 2 * layer.up @ layer.down).T + plain.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


def test_adding_changes_nothing_until_it_is_trained_and_merging_keeps_what_was_learned():
    net, images = model().eval(), torch.randn(4, 3, 36, 36)
    before = net(images)
    names = add_lora(net, rank=2, alpha=4.0)
    assert names == [f"encoder.blocks.{i}.attention.{part}" for part in ("qkv", "proj") for i in (0, 1)]
    assert torch.equal(net(images), before)

    frozen = {n: p.clone() for n, p in net.named_parameters() if not p.requires_grad}
    train_one_step(net, images)
    after = net(images)
    assert not torch.allclose(after, before)
    assert all(torch.equal(p, frozen[n]) for n, p in net.named_parameters() if n in frozen)

    assert sorted(merge_lora(net)) == sorted(names)
    torch.testing.assert_close(net(images), after, atol=1e-5, rtol=1e-4)
    assert net.state_dict().keys() == model().state_dict().keys()
    assert all(p.requires_grad for n, p in net.named_parameters() if "attention" in n)


def test_only_the_corrections_and_the_neck_are_trained():
    net = model()
    add_lora(net, rank=2)
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in trained} == {"encoder", "neck"}
    assert {n.rsplit(".", 1)[1] for n in trained if n.startswith("encoder")} == {"up", "down"}
    assert all(p.requires_grad for p in net.neck.parameters())


def test_weights_of_the_plain_model_fit():
    net = model()
    plain = net.state_dict()
    add_lora(net, rank=2)
    fit = net.load_state_dict(plain, strict=False)
    assert fit.unexpected_keys == []
    assert all(k.endswith((".up", ".down")) for k in fit.missing_keys)


def test_attention_of_timms_vits():
    with torch.device("meta"):
        net = BACKBONES.create("timm:vit_small_patch14_dinov2")
    names = add_lora(net, rank=4)
    assert len(names) == 24
    assert "trunk.blocks.11.attn.qkv" in names
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    blocks = 12 * 4 * (384 + 3 * 384 + 384 + 384)
    assert trained == blocks + 384 * 512 + 2 * 512


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"no linear layer matches '\*.query'; there are \*.0, \*.2, .*\*.qkv"):
        add_lora(model(), patterns=["*.query"])
    with pytest.raises(ConfigError, match="below the layers' widths, got 32"):
        add_lora(model(), rank=32)
