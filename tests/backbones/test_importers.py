"""Published weights, by the table of importers: the fork's stem, prefixes, contracts, and what does not belong."""

import numpy as np
import pytest
import torch
from conftest import assert_parity, shared
from einops import rearrange
from torch import nn

from facetx.backbones import BACKBONES
from facetx.backbones.importers import IMPORTERS, importers_for
from facetx.errors import CheckpointError

DIM, DEPTH, HEADS = 32, 2, 1


def fork_vit():
    """Random weights under the names, and of the shapes, of the fork's ViT on a map of 24 x 28 x 28."""
    state = {
        "pos_embedding": torch.randn(1, 50, DIM),
        "cls_token": torch.randn(1, 1, DIM),
        "patch_to_embedding.weight": torch.randn(DIM, 4 * 4 * 24) / 20,
        "patch_to_embedding.bias": torch.randn(DIM),
        "mlp_head.0.weight": torch.randn(DIM),
        "mlp_head.0.bias": torch.randn(DIM),
        "loss.weight": torch.randn(7, DIM),
    }
    for layer in range(DEPTH):
        at = f"transformer.layers.{layer}"
        for part in ("0", "1"):
            state |= {f"{at}.{part}.fn.norm.weight": torch.ones(DIM), f"{at}.{part}.fn.norm.bias": torch.zeros(DIM)}
        state |= {
            f"{at}.0.fn.fn.to_qkv.weight": torch.randn(3 * 64 * HEADS, DIM) / 5,
            f"{at}.0.fn.fn.to_out.0.weight": torch.randn(DIM, 64 * HEADS) / 8,
            f"{at}.0.fn.fn.to_out.0.bias": torch.randn(DIM),
            f"{at}.1.fn.fn.net.0.weight": torch.randn(48, DIM) / 5,
            f"{at}.1.fn.fn.net.0.bias": torch.randn(48),
            f"{at}.1.fn.fn.net.3.weight": torch.randn(DIM, 48) / 5,
            f"{at}.1.fn.fn.net.3.bias": torch.randn(DIM),
        }
    return state


def fork_state(trimmed):
    """The fork's whole network and its state dict, its ViT's projection and B0 being the package's and einops' own."""
    from efficientnet_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-b0").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    vit = fork_vit()
    reached = ("_conv_stem", "_bn0", "_blocks.0.", "_blocks.1.", "_blocks.2.")
    kept = {k: v for k, v in net.state_dict().items() if not trimmed or k.startswith(reached)}
    prefix = "pt_model_trim." if trimmed else "efficient_net."
    state = {f"{prefix}{k}": v for k, v in kept.items()} | {f"vit.{k}": v for k, v in vit.items()}
    return net, {**state, "loss.weight": torch.randn(7, DIM)}


@torch.inference_mode()
@pytest.mark.parametrize("trimmed", [False, True])
def test_the_forks_tokens_are_the_packages_map_cut_as_einops_cuts(trimmed):
    net, state = fork_state(trimmed)
    name, args, weights = IMPORTERS["face-transformer-efficientnet"](state)
    assert name == "effnet_vit"
    assert args == {
        "image_size": 112,
        "stem_swish": not trimmed,
        "dim": DIM,
        "depth": DEPTH,
        "heads": HEADS,
        "head_dim": 64,
        "mlp_dim": 48,
        "attention_scale": DIM**-0.5,
    }
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)

    images = torch.rand(2, 3, 112, 112) * 255
    if trimmed:
        features = net._bn0(net._conv_stem(images))
        for block in net._blocks[:3]:
            features = block(features)
    else:
        features = net.extract_endpoints(images)["reduction_2"]
    flat = rearrange(features, "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=4, p2=4)
    theirs = nn.functional.linear(flat, state["vit.patch_to_embedding.weight"], state["vit.patch_to_embedding.bias"])
    assert_parity(model.tokens(images), theirs)


def test_the_forks_vit_is_face_transformers():
    _, state = fork_state(trimmed=True)
    _, _, fork = IMPORTERS["face-transformer-efficientnet"](state)
    vit = {k: v for k, v in fork_vit().items() if not k.startswith("patch")}
    vit |= {"patch_to_embedding.weight": torch.zeros(DIM, 8 * 8 * 3), "patch_to_embedding.bias": torch.zeros(DIM)}
    _, _, plain = IMPORTERS["face-transformer"](vit)
    assert {k for k in fork if not k.startswith("tokens.")} == {k for k in plain if not k.startswith("tokens.")}


def test_prefixes_of_data_parallel_are_taken_off():
    for source, state in (("face-transformer-efficientnet", fork_state(True)[1]), ("face-transformer", _plain())):
        bare, parallel = (
            IMPORTERS[source](s) for s in (state, {f"module.{key}": value for key, value in state.items()})
        )
        assert bare[:2] == parallel[:2]
        assert all(torch.equal(v, parallel[2][k]) for k, v in bare[2].items())


def _plain():
    with np.load(shared("fixtures/face_transformer_p8s8.npz"), allow_pickle=False) as file:
        return {k.removeprefix("state/"): torch.from_numpy(v) for k, v in file.items() if k.startswith("state/")}


def _kprpe():
    with np.load(shared("fixtures/kprpe_tiny.npz"), allow_pickle=False) as file:
        return {k.removeprefix("state/"): torch.from_numpy(v) for k, v in file.items() if k.startswith("state/")}


@pytest.mark.parametrize("prefix", ["net.", "model.net.", "module.model.net."])
def test_prefixes_of_cvlfaces_wrappers_are_taken_off(prefix):
    name, args, weights = IMPORTERS["cvlface-kprpe"](_kprpe())
    wrapped = IMPORTERS["cvlface-kprpe"]({prefix + key: value for key, value in _kprpe().items()})
    assert wrapped[:2] == (name, args)
    assert all(torch.equal(value, wrapped[2][key]) for key, value in weights.items())


def test_a_kprpe_that_layers_share_is_refused():
    state = _kprpe() | {"keypoint_linear.weight": torch.zeros(49, 10), "keypoint_linear.bias": torch.zeros(49)}
    with pytest.raises(CheckpointError, match="that layers or heads share has no builder: keypoint_linear has 49 rows"):
        IMPORTERS["cvlface-kprpe"](state)


def test_a_cct_with_other_heads_needs_them_told():
    with np.load(shared("fixtures/cct_tiny.npz"), allow_pickle=False) as file:
        state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in file.items() if k.startswith("state/")}
    dim = state["classifier.norm.weight"].shape[0]
    assert dim == 64  # one head or two: the weights do not show it
    with pytest.raises(CheckpointError, match=r"^a CCT of width 64 is none of the authors'.*say it \(--heads\)"):
        IMPORTERS["cct"](state)
    assert IMPORTERS["cct"](state, heads=2)[1]["heads"] == 2
    state["classifier.norm.weight"] = torch.zeros(256)
    assert IMPORTERS["cct"](state)[1]["heads"] == 4


def test_layers_that_are_missing_are_named_as_the_program_names_them():
    _, fork = fork_state(trimmed=True)
    del fork["vit.patch_to_embedding.weight"], fork["vit.patch_to_embedding.bias"]
    names = "vit.patch_to_embedding.weight, vit.patch_to_embedding.bias; unknown none"
    with pytest.raises(
        CheckpointError, match=f"^not a state dict of Face Transformer's EfficientNet fork: missing {names}"
    ):
        IMPORTERS["face-transformer-efficientnet"](fork)

    with np.load(shared("fixtures/cct_tiny.npz"), allow_pickle=False) as file:
        state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in file.items() if k.startswith("state/")}
    at = "tokenizer.conv_layers"
    one, two = state[f"{at}.0.0.weight"], state[f"{at}.1.0.weight"]
    without = {key: value for key, value in state.items() if not key.startswith(at)}
    with pytest.raises(CheckpointError, match=f"^not a state dict of CCT: missing {at}.0.0.weight; unknown none"):
        IMPORTERS["cct"]({**without, f"{at}.1.0.weight": two}, heads=2)
    with pytest.raises(CheckpointError, match="a CCT with 1 convolutions of 7x7 has no builder"):
        IMPORTERS["cct"]({**without, f"{at}.0.0.weight": one}, heads=2)
    with pytest.raises(CheckpointError, match="a CCT with 3 convolutions of 7x7 has no builder"):
        IMPORTERS["cct"]({**without, f"{at}.0.0.weight": one, f"{at}.2.0.weight": two}, heads=2)


def test_contracts_are_those_of_the_programs():
    scales = {name: (importer.contract.mean, importer.contract.std) for name, importer in IMPORTERS.items()}
    raw = {"face-transformer", "face-transformer-efficientnet"}
    others = {"mobilefacenet": ((127.5,), (128,))} | dict.fromkeys(raw, ((0,), (1,)))
    assert scales == {name: others.get(name, ((127.5,), (127.5,))) for name in IMPORTERS}
    assert all(importer.contract.color == "RGB" for importer in IMPORTERS.values())


@pytest.mark.parametrize("source", list(IMPORTERS))
def test_a_foreign_state_dict_is_refused_by_its_keys(source):
    foreign = {f"wrong.{i}.weight": torch.zeros(1) for i in range(40)}
    with pytest.raises(
        CheckpointError, match=r"missing .*weight; unknown wrong.0.weight, .* 28 more|0 keys end .*wrong.0.weight"
    ):
        IMPORTERS[source](foreign)


def test_a_module_without_its_weight_and_a_weight_of_no_square_patch_are_refused():
    without = {k: v for k, v in _plain().items() if k != "patch_to_embedding.weight"}
    with pytest.raises(CheckpointError, match="Face Transformer: missing patch_to_embedding.weight; unknown none"):
        IMPORTERS["face-transformer"](without)
    odd = {**_plain(), "patch_to_embedding.weight": torch.zeros(64, 191)}
    with pytest.raises(CheckpointError, match="not a state dict of Face Transformer"):
        IMPORTERS["face-transformer"](odd)


def test_a_state_dict_is_told_whose_it_is():
    _, fork = fork_state(trimmed=True)
    assert importers_for(fork) == ["face-transformer-efficientnet"]
    assert importers_for(_plain()) == ["face-transformer"]
    assert importers_for({f"module.{key}": value for key, value in _plain().items()}) == ["face-transformer"]
    assert importers_for(_kprpe()) == ["cvlface-kprpe"]
    assert importers_for({"classifier.weight": torch.zeros(2, 2)}) == []


def test_a_network_that_must_be_told_more_is_told_whose_it_is():
    with np.load(shared("fixtures/cct_tiny.npz"), allow_pickle=False) as file:
        state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in file.items() if k.startswith("state/")}
    assert importers_for(state) == ["cct"]  # whose heads its weights do not show
