"""The same weights give the same numbers as the programs that the backbones are rebuilt from."""

import numpy as np
import pytest
import torch
from conftest import assert_parity, shared

from facetx.backbones import BACKBONES
from facetx.backbones.cct import convert_cct
from facetx.backbones.efficientnet import EfficientNetStem
from facetx.backbones.insightface_vit import convert_insightface_vit
from facetx.backbones.iresnet import convert_iresnet
from facetx.backbones.kprpe import convert_kprpe
from facetx.contract import InputContract
from facetx.errors import CheckpointError


def load_fixture(name):
    with np.load(shared(f"fixtures/{name}.npz"), allow_pickle=False) as file:
        arrays = dict(file)
    state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state/")}
    return arrays, state


def scaled(arrays):
    return InputContract()(torch.from_numpy(arrays["image_uint8_rgb"]))


@torch.inference_mode()
def test_efficientnet_stem():
    arrays, state = load_fixture("efficientnet_b0_reduction2")
    stem = EfficientNetStem().eval()
    stem.load_state_dict(state)
    assert_parity(stem(scaled(arrays)), arrays["reduction_2"])
    for module in stem.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5  # PyTorch's own, and not the package's 1e-3
    with pytest.raises(AssertionError):
        assert_parity(stem(scaled(arrays)), arrays["reduction_2"])


@torch.inference_mode()
def test_cct():
    arrays, state = load_fixture("cct_tiny")
    name, args, weights = convert_cct(state, heads=2)
    assert name == "cct_7_7x2"
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)
    head = state["classifier.fc.weight"], state["classifier.fc.bias"]
    logits = torch.nn.functional.linear(model(scaled(arrays)), *head)
    assert_parity(logits, arrays["logits"])


@torch.inference_mode()
def test_kprpe():
    arrays, state = load_fixture("kprpe_tiny")
    name, args, weights = convert_kprpe(state)
    assert (name, args["heads"]) == ("vit_kprpe_small", 2)
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)
    keypoints = torch.from_numpy(arrays["keypoints"])
    assert_parity(model(scaled(arrays), keypoints), arrays["embedding"])
    swapped = model(scaled(arrays), keypoints.flip(0))
    assert np.abs(swapped.numpy() - arrays["embedding"]).max() > 1e-3  # the keypoints count


def insightface_iresnet_state(blocks):
    """Zeros under the names, and of the shapes, of InsightFace's arcface_torch."""

    def norm(name, channels):
        state.update({f"{name}.{k}": torch.zeros(channels) for k in ("weight", "bias", "running_mean", "running_var")})
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)

    state = {"conv1.weight": torch.zeros(64, 3, 3, 3), "prelu.weight": torch.zeros(64)}
    norm("bn1", 64)
    channels = 64
    for i, (out, count) in enumerate(zip((64, 128, 256, 512), blocks), start=1):
        for j in range(count):
            at = f"layer{i}.{j}"
            for part, width in (("bn1", channels), ("bn2", out), ("bn3", out)):
                norm(f"{at}.{part}", width)
            state[f"{at}.conv1.weight"] = torch.zeros(out, channels, 3, 3)
            state[f"{at}.conv2.weight"] = torch.zeros(out, out, 3, 3)
            state[f"{at}.prelu.weight"] = torch.zeros(out)
            if j == 0:
                state[f"{at}.downsample.0.weight"] = torch.zeros(out, channels, 1, 1)
                norm(f"{at}.downsample.1", out)
            channels = out
    norm("bn2", 512)
    norm("features", 512)
    state |= {"fc.weight": torch.zeros(512, 512 * 49), "fc.bias": torch.zeros(512)}
    return state


def test_insightface_iresnet_names_fit_and_stand_for_the_same_layers():
    state = insightface_iresnet_state((2, 2, 2, 2))
    name, args, weights = convert_iresnet({f"module.{k}": v for k, v in state.items()})
    assert (name, args) == ("iresnet18", {"image_size": 112, "embedding_dim": 512})
    model = BACKBONES.create(name, **args)
    model.load_state_dict(weights)  # strict: names and shapes are all there
    assert model.trunk.layer2[0].downsample[0].weight.shape == (128, 64, 1, 1)


def test_insightface_vit_names_fit():
    with torch.device("meta"):
        model = BACKBONES.create("insightface_vit_t")
    theirs = {
        "positions.positions": "pos_embed",
        "tokens.proj": "patch_embed.proj",
        "encoder.": "",
        "attention": "attn",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "neck": "feature",
    }
    state = {"mask_token": torch.zeros(1, 1, 256)}
    for key, value in model.state_dict().items():
        for ours, name in theirs.items():
            key = key.replace(ours, name)
        state[key] = torch.zeros(value.shape)
    name, args, weights = convert_insightface_vit(state)
    assert (name, args) == ("insightface_vit_t", {"embedding_dim": 512})
    BACKBONES.create(name, **args).load_state_dict(weights)


@pytest.mark.parametrize("convert", [convert_cct, convert_iresnet, convert_insightface_vit, convert_kprpe])
def test_weights_of_another_model_are_refused_by_name(convert):
    with pytest.raises(CheckpointError, match=r"not a state dict of .*: missing .*\.weight; unknown wrong.weight$"):
        convert({"wrong.weight": torch.zeros(1)})


def test_an_iresnet_of_other_depth_is_refused():
    with pytest.raises(CheckpointError, match=r"\(1, 2, 2, 2\) blocks"):
        convert_iresnet(insightface_iresnet_state((1, 2, 2, 2)))
