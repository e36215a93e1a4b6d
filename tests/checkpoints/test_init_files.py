"""``model.init_from`` of a file that others wrote: what stands before its names, beside them, and whose it is."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from facetx.backbones import BACKBONES
from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.weights import read_weights
from facetx.config.settings import ModelSettings
from facetx.errors import CheckpointError

ARGS = {"image_size": 16, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 16}


@pytest.fixture
def weights():
    return {key: value + 1 for key, value in BACKBONES.create("vit_p8s8_tiny", **ARGS).state_dict().items()}


def started(file, name="vit_p8s8_tiny", args=ARGS):
    return build_backbone(ModelSettings(name=name, args=args, init_from=str(file))).state_dict()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "backbone.", "net.", "module._orig_mod.model."])
def test_what_wrappers_put_before_names_is_taken_off(prefix, weights, tmp_path):
    save_file({prefix + key: value for key, value in weights.items()}, tmp_path / "w.safetensors")
    found = started(tmp_path / "w.safetensors")
    assert all(torch.equal(value, weights[key]) for key, value in found.items())


def test_of_a_trainers_file_the_backbone_is_taken_and_the_rest_is_named(weights, tmp_path, caplog):
    caplog.set_level(logging.INFO, "facetx")
    state = {f"model.backbone._orig_mod.{key}": value for key, value in weights.items()}
    torch.save({"state_dict": {**state, "model.head.weight": torch.zeros(3, 16)}}, tmp_path / "w.ckpt")
    found = started(tmp_path / "w.ckpt")
    assert all(torch.equal(value, weights[key]) for key, value in found.items())
    assert "w.ckpt: left out, as no part of the backbone: head.weight" in caplog.text

    del state["model.backbone._orig_mod.encoder.norm.bias"]
    torch.save({"state_dict": {**state, "model.head.weight": torch.zeros(3, 16)}}, tmp_path / "w.ckpt")
    with pytest.raises(CheckpointError, match=r"(?s)missing \(1\): encoder.norm.bias\n.*unexpected \(0\)"):
        started(tmp_path / "w.ckpt")


@pytest.mark.parametrize(("raw", "averaged"), [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_averaged_weights_are_taken_and_that_is_said(raw, averaged, weights, tmp_path, caplog):
    ema = {key: value + 1 for key, value in weights.items()}
    torch.save({raw: weights, averaged: ema, "epoch": 3}, tmp_path / "w.pth")
    assert torch.equal(read_weights(tmp_path / "w.pth")["encoder.norm.bias"], ema["encoder.norm.bias"])
    said = f"w.pth: has raw weights ({raw}) and averaged ones ({averaged}); the averaged ones are taken"
    assert said in caplog.text
    caplog.clear()
    torch.save({averaged: ema}, tmp_path / "w.pth")
    read_weights(tmp_path / "w.pth")
    assert not caplog.text


def test_weights_of_another_program_are_sent_to_its_importer(weights, tmp_path):
    theirs = {f"module.blocks.0.conv.{i}.weight": torch.zeros(1) for i in (0, 3, 6)}
    theirs |= {"module.linear7.conv.weight": torch.zeros(512, 1, 7, 6), "module.linear1.conv.weight": torch.zeros(8, 1)}
    save_file(theirs, tmp_path / "w.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"(?s)another model than the settings build.*another program's.*--from mobilefacenet .*w.safetensors",
    ):
        started(tmp_path / "w.safetensors")
    save_file({"nobodys.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        started(tmp_path / "w.safetensors")
    assert "another program's" not in str(caught.value)


def test_a_librarys_own_weights_may_have_a_prefix_too(tmp_path):
    import timm

    state = timm.create_model("test_vit", img_size=32, depth=1).state_dict()
    save_file({f"module.{key}": value for key, value in state.items()}, tmp_path / "w.safetensors")
    args = {"image_size": 32, "embedding_dim": 8, "options": {"img_size": 32, "depth": 1}}
    found = started(tmp_path / "w.safetensors", "timm:test_vit", args)
    assert torch.equal(found["trunk.pos_embed"], state["pos_embed"])
    beside = {"head.weight": torch.zeros(3, 8)}
    save_file({**beside, **{f"backbone.{key}": value for key, value in state.items()}}, tmp_path / "w.safetensors")
    found = started(tmp_path / "w.safetensors", "timm:test_vit", args)
    assert torch.equal(found["trunk.pos_embed"], state["pos_embed"])


def test_a_file_of_an_earlier_version_of_facetx_is_loaded(tmp_path):
    args = {"image_size": 32, "embedding_dim": 8}
    own = BACKBONES.create("iresnet18", **args).state_dict()
    earlier = {key.replace("trunk.", "features.", 1): value + 1 for key, value in own.items()}
    save_file(earlier, tmp_path / "w.safetensors")
    found = started(tmp_path / "w.safetensors", "iresnet18", args)
    assert torch.equal(found["trunk.bn1.bias"], own["trunk.bn1.bias"] + 1)
