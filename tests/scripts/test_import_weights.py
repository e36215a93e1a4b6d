"""From another program's file, through the script, to a model that gives that program's numbers."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_parity, shared
from PIL import Image
from safetensors.torch import save_file

import facetx
from facetx.backbones import BACKBONES
from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.weights import read_weights
from facetx.config.settings import ModelSettings
from facetx.contract import InputContract
from facetx.errors import CheckpointError

SCRIPT = Path(__file__).parents[2] / "scripts/import_weights.py"


@pytest.fixture
def run_import(monkeypatch, capsys):
    """The script, or another, in this process: arguments -> (exit code, stderr)."""

    def run(*args, script=SCRIPT):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(script), run_name="__main__")
        return caught.value.code, capsys.readouterr().err

    return run


def fixture_state(name):
    with np.load(shared(f"fixtures/{name}.npz"), allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, {k.removeprefix("state/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state/")}


@pytest.mark.parametrize(
    ("source", "fixture", "more"),
    [
        ("face-transformer", "face_transformer_p8s8", []),
        ("face-transformer", "face_transformer_p12s8", ["--license", "MIT"]),
        ("cvlface-kprpe", "kprpe_tiny", []),
        ("cct", "cct_tiny", ["--heads", 2]),
    ],
)
def test_imported_weights_give_the_programs_own_numbers(source, fixture, more, tmp_path, run_import):
    arrays, state = fixture_state(fixture)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pth")
    assert run_import("--from", source, tmp_path / "theirs.pth", "--out", tmp_path / "out", *more) == (0, "")

    model = facetx.load_model(tmp_path / "out", "cpu")
    images = arrays["image_uint8_rgb"].transpose(0, 2, 3, 1)  # N 3 H W -> N H W 3
    embedding = model.embed(images, flip=False, keypoints=arrays.get("keypoints"))
    with torch.inference_mode():
        points = [torch.from_numpy(arrays["keypoints"])] if "keypoints" in arrays else []
        raw = model.backbone(model.contract(torch.from_numpy(arrays["image_uint8_rgb"])), *points)
    theirs = arrays.get("embedding")
    if theirs is None:
        raw = torch.nn.functional.linear(raw, state["classifier.fc.weight"], state["classifier.fc.bias"])
        theirs = arrays["logits"]
    else:
        unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        assert_parity(embedding, unit)
    assert_parity(raw, theirs)

    assert model.meta["license"] == ("MIT" if more[:1] == ["--license"] else "unknown")
    assert model.meta["source"]["file"] == "theirs.pth"
    assert model.meta["step"] == 0


def test_the_contract_is_written_and_can_be_told(tmp_path, run_import):
    _, state = fixture_state("face_transformer_p8s8")
    save_file(state, tmp_path / "theirs.safetensors")
    command = ["--from", "face-transformer", tmp_path / "theirs.safetensors", "--out"]
    assert run_import(*command, tmp_path / "raw")[0] == 0
    told = ["--color", "BGR", "--mean", 127.5, "--std", 128]
    assert run_import(*command, tmp_path / "bgr", *told)[0] == 0
    raw, bgr = (facetx.load_model(tmp_path / name, "cpu").contract for name in ("raw", "bgr"))
    assert raw == InputContract(mean=(0,), std=(1,))
    assert bgr == InputContract(color="BGR", mean=(127.5,), std=(128,))


def test_imported_weights_are_evaluated_and_trained_further(tmp_path, run_import):
    _, state = fixture_state("face_transformer_p8s8")
    save_file(state, tmp_path / "theirs.safetensors")
    assert run_import("--from", "face-transformer", tmp_path / "theirs.safetensors", "--out", tmp_path / "out")[0] == 0
    noise = np.random.default_rng(0)
    for person in "abcd":
        (tmp_path / "lfw" / person).mkdir(parents=True)
        for i in (1, 2):
            image = noise.integers(0, 256, (112, 112, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / f"lfw/{person}/{person}_{i:04d}.png")
    (tmp_path / "pairs.txt").write_text("2\t1\na\t1\t2\na\t1\tb\t1\nc\t1\t2\nc\t1\td\t1\n")
    command = ["--checkpoint", tmp_path / "out", "--images", tmp_path / "lfw", "--pairs", tmp_path / "pairs.txt"]
    assert run_import(*command, "--workers", 0, script=SCRIPT.with_name("eval_lfw.py"))[0] == 0
    assert (tmp_path / "out/lfw/lfw.json").exists()

    sizes = facetx.load_model(tmp_path / "out", "cpu").meta["settings"]["model"]["args"]
    backbone = build_backbone(ModelSettings(name="vit_p8s8", args=sizes, init_from=str(tmp_path / "out")))
    assert backbone.contract == InputContract(mean=(0,), std=(1,))


def test_another_programs_weights_are_refused_by_their_keys(tmp_path, run_import):
    _, state = fixture_state("face_transformer_p8s8")
    torch.save(state, tmp_path / "theirs.pth")
    code, told = run_import("--from", "cct", tmp_path / "theirs.pth", "--out", tmp_path / "out")
    assert code == 2
    named = "missing tokenizer.conv_layers.0.0.weight, classifier.positional_emb, "
    assert told.startswith(f"error: {tmp_path}/theirs.pth: not a state dict of CCT: {named}")
    assert "; unknown pos_embedding, " in told
    assert told.count("not a state dict") == 1
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()

    del state["transformer.layers.1.1.fn.norm.bias"]
    state["transformer.layers.0.0.fn.norm.scale"] = torch.zeros(64)
    state["transformer.layers.0.0.fn.norm.weight"] = torch.zeros(32)
    torch.save(state, tmp_path / "theirs.pth")
    code, told = run_import("--from", "face-transformer", tmp_path / "theirs.pth", "--out", tmp_path / "out")
    assert code == 2
    assert "missing (1): encoder.blocks.1.norm2.bias" in told
    assert "unexpected (1): encoder.blocks.0.norm1.scale" in told
    assert "misshaped (1): encoder.blocks.0.norm1.weight (32,) for (64,)" in told


def test_all_that_does_not_fit_an_iresnet_is_listed_in_one_error(tmp_path, run_import):
    state = {}
    for ours, value in BACKBONES.create("iresnet18", image_size=16).state_dict().items():
        theirs = ours.removeprefix("trunk.")
        state[theirs.replace("neck.2.", "fc.").replace("neck.3.", "features.")] = value
    torch.save(state, tmp_path / "whole.pth")
    assert run_import("--from", "insightface-iresnet", tmp_path / "whole.pth", "--out", tmp_path / "whole")[0] == 0

    del state["prelu.weight"]  # all that one entry of the table names
    del state["layer2.1.bn3.bias"]
    state["layer1.0.scale"] = state["aux.weight"] = torch.zeros(1)
    state["layer4.0.conv1.weight"] = torch.zeros(512, 256, 1, 1)
    torch.save(state, tmp_path / "theirs.pth")
    code, told = run_import("--from", "insightface-iresnet", tmp_path / "theirs.pth", "--out", tmp_path / "out")
    assert code == 2
    assert "missing (2): trunk.prelu.weight, trunk.layer2.1.bn3.bias" in told
    assert "unexpected (2): trunk.layer1.0.scale, aux.weight" in told
    assert "misshaped (1): trunk.layer4.0.conv1.weight (512, 256, 1, 1) for (512, 256, 3, 3)" in told

    torch.save({"aux.weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    told = run_import("--from", "insightface-iresnet", tmp_path / "foreign.pth", "--out", tmp_path / "out")[1]
    assert "not a state dict of InsightFace's IResNet: missing fc.weight; unknown aux.weight" in told


def test_wrong_arguments_are_told(tmp_path, run_import):
    file = tmp_path / "theirs.pth"
    torch.save({"a": torch.zeros(1)}, file)
    for args, words in [
        (("--from", "face-transfomer", file, "--out", tmp_path / "x"), "did you mean 'face-transformer'"),
        (("--from", "cvlface-kprpe", file, "--out", tmp_path / "x", "--heads", 2), "leave it out"),
        (("--from", "cct", file, "--out", tmp_path), "not an empty folder"),
    ]:
        code, told = run_import(*args)
        assert code == 2
        assert words in told


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "after the tensors"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(kind, tmp_path):
    trap, file = tmp_path / "trap", tmp_path / "theirs.pth"
    state = {"weight": torch.zeros(1), "hook": Hostile(trap)}
    if kind == "bare pickle":
        file.write_bytes(pickle.dumps(Hostile(trap), protocol=2))
    elif kind == "after the tensors":
        torch.save({"weight": torch.zeros(1)}, file, _use_new_zipfile_serialization=False)
        file.write_bytes(file.read_bytes()[:-8] + pickle.dumps(Hostile(trap)))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match="never runs the code of a pickle") as caught:
        read_weights(file)
    assert "weights_only" not in str(caught.value)
    assert not trap.exists()

    pickle.loads(pickle.dumps(Hostile(trap)))  # the trap works
    assert trap.exists()


def test_the_script_refuses_a_hostile_pickle_too(tmp_path):
    torch.save({"hook": Hostile(tmp_path / "trap")}, tmp_path / "theirs.pth")
    command = [sys.executable, SCRIPT, "--from", "face-transformer", tmp_path / "theirs.pth", "--out", tmp_path / "out"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 2
    assert "never runs the code of a pickle" in told.stderr
    assert not (tmp_path / "trap").exists()
    assert not (tmp_path / "out").exists()


def test_files_of_other_kinds_are_told_apart(tmp_path):
    tensors = {"a.weight": torch.arange(6.0).view(2, 3)}
    np.savez(tmp_path / "x.npz", **{k: v.numpy() for k, v in tensors.items()})
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save({"model": tensors}, tmp_path / "x.pt")
    torch.save({"epoch": 3, "state_dict_backbone": tensors}, tmp_path / "arcface.pt")
    for name in ("x.npz", "x.safetensors", "x.pt", "arcface.pt"):
        assert torch.equal(read_weights(tmp_path / name)["a.weight"], tensors["a.weight"])

    np.savez(tmp_path / "objects.npz", a=np.array([Hostile(tmp_path / "trap")], object))
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "notes.txt").write_text(json.dumps({}))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"a": torch.zeros(1), "lr": 0.1}, tmp_path / "mixed.pt")
    for name, words in [
        ("objects.npz", "cannot be read as .npz"),
        ("broken.safetensors", "cannot be read as .safetensors"),
        ("notes.txt", "weights are read from .safetensors, .npz, .pt, .pth"),
        ("list.pt", "holds a list and no state dict"),
        ("mixed.pt", "there is also lr"),
        ("absent.pt", "no such file"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            read_weights(tmp_path / name)
    assert not (tmp_path / "trap").exists()
