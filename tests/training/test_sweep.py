"""A comparison of two variants: what it measures, what it leaves behind, and how it goes on."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml

from facetx.checkpoints.format import find_checkpoint, point
from facetx.config.variants import load_variants
from facetx.errors import ConfigError, DataError
from facetx.files import lock
from facetx.training import sweep as module
from facetx.training.sweep import Sweep, describe_variants, run_variants


@pytest.fixture(scope="module")
def variants(faces, tmp_path_factory):
    """A class-center head, and a loss of triplets that has none."""
    split = {"root": str(faces), "test_images": 0.4}
    raw = {
        "name": "two",
        "data": {"name": "image_folder", "args": {**split, "images": "train"}, "workers": 0},
        "model": {
            "name": "vit_p8s8_tiny",
            "args": {"image_size": 32, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32},
        },
        "head": {"name": "cosface", "args": {"scale": 16.0, "margin": 0.1}},
        "optim": {"lr": 1e-3},
        "train": {"steps": 8, "batch_size": 6, "log_every": 2, "checkpoint_every": 4},
        "evaluators": [
            {"name": "classification", "every": 4, "args": {**split, "part": "all"}},
            {
                "name": "folder_pairs",
                "allow_overlap": True,
                "args": {"root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5, "name": "pairs"},
            },
        ],
        "variants": {
            "cosface": {},
            "triplet": {"head": "triplet", "data.sampler": {"name": "identities", "args": {"images": 2}}},
        },
    }
    path = tmp_path_factory.mktemp("config") / "two.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return load_variants(path)


def in_this_process(settings, folder):
    """In place of a process a variant, which takes seconds to start; tests/scripts has those."""
    return module.train_variant(settings.model_dump_json(), folder)


@pytest.fixture(scope="module")
def done(variants, tmp_path_factory):
    """The folder of the finished comparison, and what it gave."""
    folder = tmp_path_factory.mktemp("comparison") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_in_a_process", in_this_process)
        return folder, run_variants(variants, folder, resume="never")


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / "copy")


def measured(comparison):
    """All but what depends on the machine."""
    machine = ("images_per_second", "peak_memory")
    return {n: {k: v for k, v in f.items() if k not in machine} for n, f in comparison.variants.items()}


def no_process(*args):
    raise AssertionError("nothing is left to train")


def test_the_facts_are_those_of_the_runs(done, variants):
    folder, comparison = done
    assert comparison.signal == 0
    for name, facts in comparison.variants.items():
        row = find_checkpoint(folder / name).meta.metrics
        assert facts["results"]["pairs"]["accuracy"] == row["pairs/accuracy"]
        assert facts["images"] == 48
        assert facts["images_per_second"] > 0
        assert 50 * 2**20 < facts["peak_memory"] < 2**34
        assert facts["diverged"] is None
    cosface, triplet = comparison.variants.values()
    assert cosface["parameters"] == triplet["parameters"]
    assert 0 <= cosface["results"]["classification"]["top1"] <= 1
    assert triplet["results"]["classification"] == {}
    assert json.loads((folder / "comparison.json").read_text()) == comparison.variants


def test_the_table(done):
    folder, comparison = done
    lines = comparison.table().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "variant",
        "classification top-1 (%)",
        "pairs accuracy (%)",
        "parameters (M)",
        "images/s",
        "peak memory (MiB)",
    ]
    pairs = comparison.variants["triplet"]["results"]["pairs"]
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells[:3] == ["triplet", "–", f"{100 * pairs['accuracy']:.2f} ± {100 * pairs['accuracy_std']:.2f}"]
    assert (folder / "comparison.md").read_text() == comparison.table() + "\n"


def test_the_pictures(done):
    folder, _ = done
    for name in ("comparison.png", "distributions_pairs.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    with np.load(folder / "cosface/scores.npz", allow_pickle=False) as scores:
        assert scores["pairs/scores"].shape == scores["pairs/same"].shape == (20,)


def test_what_is_done_is_not_trained_again(copy, done, variants, monkeypatch):
    monkeypatch.setattr(module, "_in_a_process", no_process)
    assert run_variants(variants, copy).variants == done[1].variants


def test_a_half_done_variant_goes_on_from_its_checkpoint(copy, done, variants, monkeypatch):
    """As after a kill at step 6: the log runs on, the facts are missing, and the last checkpoint is of step 4."""
    folder = copy / "triplet"
    (folder / "variant.json").unlink()
    shutil.rmtree(folder / "checkpoints/step_00000008")
    point(folder / "checkpoints", "LAST", "step_00000004")
    monkeypatch.setattr(module, "_in_a_process", in_this_process)
    monkeypatch.setattr(module, "build", no_process)  # the facts are of what has been trained, not of another one
    assert measured(run_variants(variants, copy)) == measured(done[1])


def test_one_killed_between_its_last_step_and_its_facts_is_evaluated_again(copy, done, variants, monkeypatch):
    (copy / "cosface/variant.json").unlink()
    monkeypatch.setattr(module, "_in_a_process", in_this_process)
    monkeypatch.setattr("facetx.training.loop.training_step", no_process)
    assert measured(run_variants(variants, copy)) == measured(done[1])


def test_other_settings_in_the_same_folder_are_an_error(copy, variants):
    changed = {n: s.model_copy(update={"seed": 3}) for n, s in variants.items()}
    with pytest.raises(ConfigError, match="begun with other settings .seed: 0 -> 3.; choose another --run-dir"):
        run_variants(changed, copy)
    with pytest.raises(ConfigError, match="is not empty; go on with --resume auto"):
        run_variants(variants, copy, resume="never")
    with pytest.raises(ConfigError, match="takes auto or never"):
        run_variants(variants, copy, resume="copy")


def test_a_variant_that_diverges_is_noted_and_does_not_stop_the_rest(variants, tmp_path, monkeypatch):
    broken = variants["cosface"].model_dump(mode="json")
    broken["optim"] |= {"lr": 1e30, "clip_norm": None}
    broken["train"] |= {"stop_after_bad_steps": 2}
    broken = type(variants["cosface"]).model_validate_json(json.dumps(broken))
    monkeypatch.setattr(module, "_in_a_process", in_this_process)
    comparison = run_variants({"broken": broken, "cosface": variants["cosface"]}, tmp_path / "run")
    assert "in a row, all skipped" in comparison.variants["broken"]["diverged"]
    assert comparison.variants["cosface"]["diverged"] is None
    assert comparison.table().splitlines()[-1].startswith("broken: steps ")


def test_every_variant_is_built_before_the_first_trains(variants):
    description = describe_variants(variants)
    assert description.startswith("cosface: two_cosface: vit_p8s8_tiny + cosface on")
    assert "triplet: two_triplet: vit_p8s8_tiny + triplet on" in description
    wrong = variants["triplet"].model_copy(update={"model": variants["triplet"].model.model_copy(update={"args": {
        "image_size": 33}})})  # fmt: skip
    with pytest.raises(ConfigError, match="^variant triplet: backbone vit_p8s8_tiny: "):
        describe_variants({**variants, "triplet": wrong})


def test_parsing_has_its_columns():
    facts = {"parameters": 1e6, "images_per_second": 3, "peak_memory": 2**20, "diverged": None}
    numbers = {"pixel_accuracy": 0.9, "mean_iou": 0.6, "mean_f1": 0.75}
    table = Sweep({"one": {"results": {"val": numbers}, **facts}, "two": {"results": {}, **facts}}).table()
    head, _, one, two = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    assert head[1:3] == ["val mean F1 (%)", "val mean IoU (%)"]
    assert one[1:4] == ["75.00", "60.00", "1.00"]
    assert two[1] == "–"


def test_an_empty_comparison_has_an_empty_table():
    assert len(Sweep({}).table().splitlines()) == 2


def test_two_processes_do_not_run_one_comparison(variants, tmp_path):
    with lock(tmp_path / "run"), pytest.raises(DataError, match=f"run: is being written by process {os.getpid()} on "):
        run_variants(variants, tmp_path / "run")
