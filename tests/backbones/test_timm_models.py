"""``timm:`` and ``torchvision:`` names: one of each kind that the field compares with."""

import inspect
import re

import pytest
import safetensors.torch
import timm
import torch
from torchvision import models

from facetx.backbones import BACKBONES
from facetx.backbones.library import own_weights
from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError, UnknownNameError
from facetx.nn.freeze import freeze
from facetx.nn.profile import run_on_meta

KINDS = [
    "torchvision:alexnet",
    "timm:vgg11",
    "timm:resnet18",
    "timm:resnext50_32x4d",
    "timm:legacy_seresnet18",
    "timm:densenet121",
    "timm:mobilenetv1_100",
    "timm:mobilenetv2_050",
    "timm:mobilenetv3_small_050",
    "timm:efficientnet_b0",
    "timm:regnetx_002",
    "timm:resnest14d",
    "timm:dm_nfnet_f0",
    "timm:botnet26t_256",
    "timm:efficientformerv2_s0",
    "timm:vit_small_patch14_dinov2",
]
# Sizes that a network was made for, where it does not take 112.
SIZES = {"timm:efficientformerv2_s0": 96, "timm:botnet26t_256": 256}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_becomes_a_backbone(name):
    with torch.device("meta"):
        model = BACKBONES.create(name, image_size=SIZES.get(name, 112))
    assert run_on_meta(model).shape == (1, 512)
    assert model.embedding_dim == 512
    assert not model.needs_keypoints


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "torchvision:squeezenet1_1", "timm:test_vit"])
def test_small_ones_run_and_every_parameter_gets_a_gradient(name):
    size = 160 if name == "timm:test_vit" else 64
    model = BACKBONES.create(name, image_size=size, embedding_dim=8)
    embeddings = model(torch.randn(4, 3, size, size))
    embeddings.square().sum().backward()
    assert embeddings.shape == (4, 8)
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_what_classifies_half_way_too_gives_one_embedding_in_training(name):
    model = BACKBONES.create(f"torchvision:{name}", image_size=80)
    embeddings = model.train()(torch.randn(2, 3, 80, 80))
    embeddings.sum().backward()
    assert embeddings.shape == (2, 512)
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_a_vit_is_built_for_the_size_that_is_asked_for_and_for_its_own():
    with torch.device("meta"):
        at_112 = BACKBONES.create("timm:vit_small_patch14_dinov2")
        own = BACKBONES.create("timm:vit_small_patch14_dinov2", image_size=None)
    assert at_112.trunk.pos_embed.shape[1] == 8 * 8 + 1
    assert own.contract.size == 518
    assert own.trunk.pos_embed.shape[1] == 37 * 37 + 1


def test_without_a_neck_the_features_come_as_they_are():
    with torch.device("meta"):
        model = BACKBONES.create(
            "timm:efficientformerv2_s2", image_size=178, embedding_dim=None, options={"num_vit": 2}
        )
    assert model.embedding_dim == 288
    assert sum(p.numel() for p in model.parameters()) == 9_842_800


def test_names_with_a_prefix_are_known_and_their_arguments_can_be_checked():
    assert "timm:resnet18" in BACKBONES
    assert "timm:resnet18.a1_in1k" in BACKBONES
    assert "torchvision:alexnet" in BACKBONES
    assert "timm:nothing_like_it" not in BACKBONES
    assert "other:resnet18" not in BACKBONES
    assert set(inspect.signature(BACKBONES["timm:resnet18"]).parameters) == {
        "image_size",
        "embedding_dim",
        "dropout",
        "pretrained",
        "sha256",
        "options",
    }


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match=r"timm has no backbone named 'resnet81'.*'timm:resnet18'"):
        BACKBONES["timm:resnet81"]
    with pytest.raises(UnknownNameError, match=r"torchvision has no backbone named 'alexnett'.*'torchvision:alexnet'"):
        BACKBONES["torchvision:alexnett"]


def test_a_size_that_it_cannot_take_and_an_option_that_it_has_not_are_refused():
    with pytest.raises(ConfigError, match=r"timm:efficientformerv2_s0 does not take images of 112 .*image_size: 224"):
        BACKBONES.create("timm:efficientformerv2_s0", image_size=112)
    with pytest.raises(ConfigError, match=r"timm:resnet18 does not take all of the options \['wheels'\]"):
        BACKBONES.create("timm:resnet18", options={"wheels": 4})


def test_weights_that_cannot_be_had_are_said_clearly(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"weights of timm:resnet18 \(no route to host\).*pretrained: false"):
        BACKBONES.create("timm:resnet18", pretrained=True)


def test_pretrained_weights_bring_their_contract(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, pretrained, **more: create(*args, **more))
    with torch.device("meta"):
        assert BACKBONES.create("timm:resnet18").contract == InputContract()
        contract = BACKBONES.create("timm:resnet18", pretrained=True).contract
    assert contract.mean == pytest.approx((123.675, 116.28, 103.53))
    assert contract.std == pytest.approx((58.395, 57.12, 57.375))


def test_a_stated_hash_keeps_a_run_to_its_weights(monkeypatch, tmp_path, caplog):
    """The weights come from a file here, as they come from timm's cache elsewhere."""
    caplog.set_level("INFO")
    safetensors.torch.save_model(timm.create_model("test_resnet"), tmp_path / "weights.safetensors")
    options = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.safetensors")}}

    def build(**args):
        return BACKBONES.create("timm:test_resnet", image_size=64, pretrained=True, options=options, **args)

    model = build()
    (said,) = re.findall(r"SHA-256 ([0-9a-f]{64}); model.args.sha256 keeps", caplog.text)
    again = build(sha256=said)
    assert all(torch.equal(v, again.trunk.state_dict()[k]) for k, v in model.trunk.state_dict().items())

    safetensors.torch.save_model(timm.create_model("test_resnet"), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=rf"sha256 is {said}: they are other weights than before"):
        build(sha256=said)


def test_frozen_blocks_of_a_vit():
    with torch.device("meta"):
        model = BACKBONES.create("timm:vit_small_patch14_dinov2")
    names = freeze(model, ["trunk.patch_embed", "trunk.blocks.[0-9]"])
    left = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad and "blocks" in n}
    assert left == {"10", "11"}
    assert "trunk.blocks.3.attn.qkv.weight" in names


@pytest.mark.parametrize(
    ("name", "classifier"), [("timm:test_vit", "head.weight"), ("torchvision:squeezenet1_1", "classifier.1.bias")]
)
def test_the_librarys_own_names_are_told_from_ours(name, classifier):
    model = BACKBONES.create(name, image_size=160, embedding_dim=8)
    library, _, own_name = name.partition(":")
    theirs = (timm.create_model(own_name) if library == "timm" else models.get_model(own_name)).state_dict()
    features, left_out, contract = own_weights(model, theirs)
    assert features.keys() == model.trunk.state_dict().keys()
    assert classifier in left_out
    assert len(left_out) == 2
    assert contract.size == 160
    assert contract.mean != InputContract().mean
    assert own_weights(model, model.state_dict()) is None
    assert own_weights(BACKBONES.create("vit_tiny", depth=1), theirs) is None


def test_counts_of_batches_may_be_absent_and_other_keys_may_not():
    model = BACKBONES.create("timm:resnet18", image_size=64)
    theirs = timm.create_model("resnet18").state_dict()
    without = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked") and k != "bn1.weight"}
    features, _, _ = own_weights(model, {**without, "more": torch.zeros(1)})
    assert features.keys() ^ model.trunk.state_dict().keys() == {"bn1.weight", "more"}


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("timm:resnet18", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
        ("timm:efficientformerv2_s0", [(32, 4), (48, 8), (96, 16), (176, 32)]),
        ("timm:swin_tiny_patch4_window7_224", [(96, 4), (192, 8), (384, 16), (768, 32)]),
        ("timm:vit_small_patch14_dinov2", [(384, 14)]),
        ("torchvision:alexnet", [(64, 4), (192, 8), (256, 17), (256, 37)]),
        ("torchvision:resnet18", [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
        ("torchvision:densenet121", [(64, 2), (256, 4), (512, 8), (1024, 16), (1024, 32)]),
        ("torchvision:regnet_x_400mf", [(32, 2), (32, 4), (64, 8), (160, 16), (400, 32)]),
        ("torchvision:shufflenet_v2_x0_5", [(24, 2), (24, 4), (48, 8), (96, 16), (1024, 32)]),
        ("torchvision:mnasnet0_5", [(8, 2), (16, 4), (24, 8), (48, 16), (1280, 32)]),
    ],
)
def test_feature_maps_are_those_of_the_stages(name, maps):
    model = BACKBONES.create(name, image_size=224, **({"options": {"depth": 1}} if "dinov2" in name else {}))
    assert model.feature_info() == maps


@torch.inference_mode()
def test_the_last_map_leads_to_the_embedding():
    images = torch.randn(2, 3, 64, 64)
    for name in ("timm:resnet18", "torchvision:resnet18", "torchvision:mobilenet_v3_small"):
        model = BACKBONES.create(name, image_size=64, embedding_dim=8).eval()
        pooled = model.features(images)[-1].mean((2, 3))
        torch.testing.assert_close(model.neck(pooled), model(images), atol=1e-5, rtol=1e-4)
    model = BACKBONES.create("timm:test_vit", image_size=160, embedding_dim=8).eval()
    images = torch.randn(2, 3, 160, 160)
    tokens = model.trunk.forward_features(images)[:, 1:]
    torch.testing.assert_close(model.features(images)[0].flatten(2).transpose(1, 2), tokens)


def test_a_network_that_is_no_sequence_of_stages_says_that_it_has_no_maps():
    with torch.device("meta"):
        model = BACKBONES.create("torchvision:googlenet")
    with pytest.raises(ConfigError, match="torchvision:googlenet gives no feature maps; choose another model"):
        model.feature_info()


def test_names_of_earlier_checkpoints_are_not_taken_for_the_librarys():
    model = BACKBONES.create("torchvision:squeezenet1_1", image_size=64, embedding_dim=None)
    earlier = {key.replace("trunk.", "features.", 1): value for key, value in model.state_dict().items()}
    assert own_weights(model, earlier) is None
    assert model.current_names(earlier).keys() == model.state_dict().keys()
