"""What each family promises of its own: sizes of the papers, ablations by argument, sizes that do not fit."""

import pytest
import torch

from facetx.backbones import BACKBONES
from facetx.nn import ClassToken, ConvAttention, LearnedPositions, SequencePooling, SinePositions


def on_meta(name, **args):
    with torch.device("meta"):
        return BACKBONES.create(name, **args)


@pytest.mark.parametrize(("name", "depth", "conv_dim"), [("facerec_l8", 8, 256), ("facerec_l10", 10, 512)])
def test_facerec_has_the_papers_sizes(name, depth, conv_dim):
    model = on_meta(name)
    block = model.encoder.blocks[0]
    assert model.contract.size == 256
    assert model.tokens.num_tokens == 64
    assert model.tokens.proj.kernel_size == (32, 32)
    assert len(model.encoder.blocks) == depth
    assert (block.attention.heads, block.attention.qkv.in_features) == (16, 1024)
    assert block.mlp[0].out_features == 3 * 1024
    assert model.bias.query.weight.shape == (conv_dim, conv_dim)
    assert isinstance(model.positions, SinePositions)
    assert isinstance(model.pooling, SequencePooling)


def test_facerecs_readings_of_the_source_are_arguments():
    first = on_meta("facerec_l8", conv_kernels=(2, 2, 2), conv_widths=(64, 128), conv_scale=1024**-0.5)
    convolutions = [m for m in first.bias.embed if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [
        (3, 64, (2, 2)),
        (64, 128, (2, 2)),
        (128, 256, (2, 2)),
    ]
    assert first.bias.scale == 1024**-0.5
    plain = on_meta("facerec_l10").bias
    convolutions = [m for m in plain.embed if isinstance(m, torch.nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0]) for c in convolutions] == [(16, 3), (64, 3), (512, 2)]
    assert plain.scale == (512 / 16) ** -0.5
    assert on_meta("facerec_tiny", conv_kernels=(3, 3, 3), patch_size=28).bias.embed[6].kernel_size == (3, 3)
    with pytest.raises(ValueError, match="patches of at least 18 pixels, got 16"):
        on_meta("facerec_tiny", conv_kernels=(3, 3, 3))


def test_facerecs_ablations_are_one_argument_each():
    full = on_meta("facerec_tiny")
    assert isinstance(full.bias, ConvAttention)
    assert on_meta("facerec_tiny", conv_scores=False).bias is None
    assert isinstance(on_meta("facerec_tiny", positions="learned").positions, LearnedPositions)
    token = on_meta("facerec_tiny", pooling="class_token")
    assert isinstance(token.pooling, ClassToken)
    assert token.bias.prefix == 1
    with pytest.raises(ValueError, match="pooling must be 'sequence' or 'class_token', got 'mean'"):
        on_meta("facerec_tiny", pooling="mean")


@pytest.mark.parametrize("name", ["vit_p12s8_tiny", "vit_tiny"])
def test_a_vit_may_end_flat(name):
    model = on_meta(name, pooling="flatten", dim=96, heads=3)
    assert model.positions.positions.shape[1] == model.tokens.num_tokens
    assert [tuple(p.shape) for p in (model.neck[0].weight, model.neck[2].weight)] == [
        (96, 96 * model.tokens.num_tokens),
        (96, 96),
    ]
    assert model.embedding_dim == 96
    with pytest.raises(ValueError, match="pooling must be 'class_token' or 'flatten', got 'mean'"):
        on_meta(name, pooling="mean")


def test_a_flat_vit_runs():
    model = BACKBONES.create("vit_p12s8_tiny", image_size=48, depth=1, pooling="flatten")
    assert model(torch.randn(2, 3, 48, 48)).shape == (2, 128)


@pytest.mark.parametrize("args", [{"pooling": "class_token"}, {"pooling": "class_token", "conv_scores": False}])
def test_facerec_runs_with_a_class_token(args):
    model = BACKBONES.create("facerec_tiny", depth=1, **args)
    assert model(torch.randn(2, 3, 112, 112)).shape == (2, 128)


def test_the_conv_scores_reach_every_layer():
    model = BACKBONES.create("facerec_tiny", depth=2).eval()
    images = torch.randn(1, 3, 112, 112)
    before = model(images)
    with torch.no_grad():
        model.bias.key.weight.mul_(50)
    assert not torch.allclose(model(images), before)
    asked = []
    scores = model.bias(images, None)
    model.encoder(model.tokens(images), lambda layer: asked.append(layer) or scores(layer))
    assert asked == [0, 1]


def test_effnet_vit_has_49_tokens_of_the_map_and_no_block_that_it_does_not_use():
    model = on_meta("effnet_vit")
    assert (model.tokens.num_tokens, model.positions.positions.shape[1]) == (49, 50)
    assert model.tokens.patches.proj.weight.shape == (512, 24, 4, 4)
    assert len(model.tokens.stem._blocks) == 3
    assert len(model.encoder.blocks) == 20
    assert model.tokens.stem.drop_connect == pytest.approx([0, 0.2 / 16, 0.4 / 16])


def test_efficientnets_maps_are_the_packages():
    """Their shapes at 112 pixels, with the package's own padding."""
    net = on_meta("efficientnet_b0").trunk
    images = torch.zeros(1, 3, 112, 112, device="meta")
    shapes = [tuple(m.shape[1:]) for m in net.extract_endpoints(images).values()]
    assert shapes == [(16, 56, 56), (24, 28, 28), (40, 14, 14), (112, 7, 7), (320, 3, 3), (1280, 3, 3)]


def test_cct_counts_tokens_as_published():
    assert on_meta("cct_7_3x1", image_size=32).tokens.num_tokens == 256
    assert on_meta("cct_7_7x2", image_size=224).tokens.num_tokens == 196
    assert isinstance(on_meta("cct_7_7x2", positions="sine").positions, SinePositions)


def test_insightfaces_iresnet_keeps_unit_variance():
    model = on_meta("iresnet18")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["neck.3.weight"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny", 100, "do not cover an image of 100.*96 or 112"),
        ("effnet_vit_tiny", 100, "do not divide an image of 100.*such as 96"),
        ("facerec_tiny", 100, "do not cover an image of 100"),
        ("vit_kprpe_tiny", 100, "do not cover an image of 100"),
        ("iresnet18", 100, "multiple of 16, got 100"),
    ],
)
def test_an_image_size_that_does_not_fit_is_refused_when_the_model_is_built(name, size, message):
    with pytest.raises(ValueError, match=message):
        on_meta(name, image_size=size)
