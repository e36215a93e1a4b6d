"""Counting, against sums done by hand."""

import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.backbones.base import TrunkBackbone
from facetx.contract import InputContract
from facetx.nn.profile import count_macs, parameter_count, profile, run_on_meta, token_count


def test_macs_of_a_transformer_by_hand():
    model = BACKBONES.create("vit_p8s8", image_size=32, dim=24, depth=3, heads=2, head_dim=10, mlp_dim=40)
    counts = profile(model)
    tokens, patches = 17, 16
    layers = 3 * tokens * (24 * 3 * 20 + 20 * 24 + 2 * 24 * 40)
    products = 3 * 2 * tokens * tokens * 20
    assert counts.tokens == tokens
    assert counts.attention_macs == products
    assert counts.macs == patches * 3 * 64 * 24 + layers + products
    assert "17 tokens" in str(counts)


def test_parameters_and_which_of_them_are_trained():
    model = BACKBONES.create("vit_tiny", depth=1)
    model.tokens.requires_grad_(False)
    counts = profile(model)
    assert counts.parameters == parameter_count(model) == sum(p.numel() for p in model.parameters())
    assert counts.parameters - counts.trainable == 3 * 256 * 128 + 128


def test_the_model_is_left_as_it_was():
    model = BACKBONES.create("efficientnet_b0", image_size=64).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    profile(model)
    assert model.training
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())


def test_keypoints_are_given_where_they_are_needed():
    assert profile(BACKBONES.create("vit_kprpe_tiny", depth=1)).tokens == 49


def test_a_cnn_has_no_tokens_and_no_attention():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    net = TrunkBackbone(trunk, nn.Flatten(), 4, InputContract(size=10))
    assert token_count(net) is None
    assert count_macs(net) == (8 * 8 * 27 * 4, 8 * 8 * 27 * 4)
    assert run_on_meta(net).shape == (1, 4)
