"""scripts/evaluate.py and compare_results.py as a user runs them, after a short training."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import facetx
from facetx.config.load import check_settings
from facetx.data.lists.pairs import Pairs, write_pairs


@pytest.fixture
def data(faces, tmp_path):
    """A data root with an "lfw" of 10 folds of one same and one different pair."""
    for folder in faces.iterdir():
        target = tmp_path / "data/lfw/images" / folder.name
        target.mkdir(parents=True)
        for i in range(5):
            Image.open(folder / f"{i}.png").save(target / f"{folder.name}_{i + 1:04d}.png")
    who = [f"person_{i % 6}/person_{i % 6}" for i in range(11)]
    first = [f"{who[i]}_{i % 4 + 1:04d}" for i in range(10) for _ in range(2)]
    second = [f"{who[i + k]}_{i % 4 + 2:04d}" for i in range(10) for k in range(2)]
    pairs = Pairs(first, second, np.tile([True, False], 10), np.repeat(np.arange(10), 2))
    write_pairs(tmp_path / "data/lfw/pairs.txt", pairs)
    return tmp_path / "data"


def test_evaluate_then_compare(script, small, data, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    (tmp_path / "groups.csv").write_text("image,site\n" + "".join(f"person_{i},{'ab'[i // 3]}\n" for i in range(6)))
    command = ["--checkpoint", run, "--data-root", data, "--workers", 0, "--cache", tmp_path / "cache"]
    told = script("evaluate.py", *command, "--benchmarks", "lfw", "calfw", "--groups", tmp_path / "groups.csv")
    assert told.returncode == 0, told.err
    for words in (
        "\nLFW ",
        "ViT-P12S8, MS1M",
        "LFW, site",
        " of 20 pairs have both images in one group",
        "CALFW: not there",
        "pairs: 20 of the protocol's 6000",
    ):
        assert words in told.out
    assert (run / "benchmarks/results.html").read_text().startswith("<!doctype html>")
    assert (run / "benchmarks/results.md").read_text().count("|") > 50
    written = json.loads((run / "benchmarks/lfw.json").read_text())
    assert written["model"]["step"] == 12
    assert written["receipt"]["seed"] == 0
    assert [g["name"] for g in written["groups"]["site"]] == ["a", "b"]

    plain = script("evaluate.py", *command, "--no-flip", "--out", tmp_path / "plain")
    assert plain.returncode == 0, plain.err
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    refused = script("compare_results.py", run / "benchmarks/lfw.json", tmp_path / "plain/lfw.json")
    assert refused.returncode == 2
    assert "flip: True and False" in refused.err


def test_the_short_way_for_lfw_leaves_the_same_receipt(script, small, data, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    files = ["--images", data / "lfw/images", "--pairs", data / "lfw/pairs.txt"]
    files += ["--workers", 0, "--cache", tmp_path / "cache"]
    short = script("eval_lfw.py", "--checkpoint", run, *files)
    assert short.returncode == 0, short.err
    told = script(
        "evaluate.py", "--checkpoint", run, "--data-root", data, "--workers", 0, "--cache", tmp_path / "cache"
    )
    assert told.returncode == 0, told.err
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    a, b = (json.loads((run / place / "lfw.json").read_text()) for place in ("lfw", "benchmarks"))
    assert a["receipt"] == b["receipt"]
    assert a["arrays"] == b["arrays"]


def test_one_bad_benchmark_costs_no_other(script, small, data, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    (data / "agedb_30.bin").write_bytes(b"no pickle")
    told = script("evaluate.py", "--checkpoint", run, "--data-root", data, "--workers", 0)
    assert told.returncode == 2
    assert "\nLFW " in told.out
    assert f"AgeDB-30, {data}/agedb_30.bin: failed: " in told.out
    assert (run / "benchmarks/lfw.json").exists()
    assert "agedb_30.bin: failed" in (run / "benchmarks/results.html").read_text()
    alone = script("evaluate.py", "--checkpoint", run, "--data-root", data, "--benchmarks", "agedb_30", "--workers", 0)
    assert alone.returncode == 2
    assert "error: none of the benchmarks could be run" in alone.err


def test_any_folder_of_identities_by_1_to_n(script, small, faces, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    told = script("evaluate.py", "--checkpoint", run, "--identification", faces, "--workers", 0)
    assert told.returncode == 0, told.err
    assert "\nrank1 " in told.out
    assert "30 images, 6 identities, with flip" in told.out
    written = json.loads((run / "benchmarks/identification.json").read_text())
    assert written["receipt"]["thresholds"] is None
    page = (run / "benchmarks/identification.html").read_text()
    assert page.count("data:image/png") == 1
    assert "Beside published results" not in page
    refused = script("compare_results.py", *2 * [run / "benchmarks/identification.json"])
    assert refused.returncode == 2
    assert "no result with its scores" in refused.err


def test_a_broken_image_in_a_worker_is_told_in_a_line(script, small, faces, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    shutil.copytree(faces, tmp_path / "set")
    (tmp_path / "set/person_1/2.png").write_bytes(b"none")
    told = script("evaluate.py", "--checkpoint", run, "--identification", tmp_path / "set", "--workers", 1)
    assert told.returncode == 2
    assert "person_1/2.png: cannot be read as an image" in told.err
    assert "Traceback" not in told.err


def test_results_of_one_checkpoint_outlive_it(script, small, data, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    one = run / "checkpoints/step_00000012"
    before = sorted(one.iterdir())
    files = ["--images", data / "lfw/images", "--pairs", data / "lfw/pairs.txt", "--workers", 0]
    told = script("eval_lfw.py", "--checkpoint", one, *files)
    assert told.returncode == 0, told.err
    assert told.out.startswith(f"{one}, step 12\n")
    assert "warning: pairs: 20 of the protocol's 6000" in told.out
    assert sorted(one.iterdir()) == before
    assert (run / "lfw" / one.name / "lfw.json").exists()


def test_the_list_names_what_the_command_line_takes(script, data):
    told = script("evaluate.py", "--list", "--data-root", data)
    assert told.returncode == 0
    assert "\nlfw       LFW             6,000  faces in the wild" in told.out
    assert str(data / "lfw") in told.out
    assert "cfp_fp/images with Protocol or pairs.txt beside it, or " in told.out
    assert "\nagedb_30  AgeDB-30 " in script("evaluate.py", "--list").out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--checkpoint", "x"], "name --data-root, --identification or --data, or several"),
        (["--ask", "pairs", "--identification", "x"], "about the data set that --data names, which is missing"),
        (["--benchmarks", "lfw", "--identification", "x"], "below --data-root, which is missing"),
        (["--groups", "g.csv", "--identification", "x"], "below --data-root, which is missing"),
        (["--identification", "x", "--batch-size", "0"], "expected a whole number of 1 or more, got '0'"),
    ],
)
def test_what_would_be_ignored_is_refused(script, options, told):
    refused = script("evaluate.py", *options)
    assert refused.returncode == 2
    assert told in refused.err


def test_nothing_there(script, tmp_path):
    told = script("evaluate.py", "--data-root", tmp_path, "--benchmarks", "cfp_fp")
    assert told.returncode == 2
    assert "holds none of the benchmarks\n  CFP-FP: not there; looked for" in told.err


def test_any_data_set_is_asked(script, small, faces, tmp_path):
    run, pack = tmp_path / "run", tmp_path / "faces.packed"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    assert script("prepare_data.py", "pack", faces, pack).returncode == 0
    command = ["--checkpoint", run, "--data", "packed", "--workers", 0, "--data-args", f"path={pack}"]
    told = script("evaluate.py", *command)
    assert told.returncode == 0, told.err
    assert "3 folds of 20 + 20 pairs, for 6 identities with 30 images allow no more" in told.out
    assert "\nrank1 " in told.out
    pairs, n = (json.loads((run / f"benchmarks/packed_{q}.json").read_text()) for q in ("pairs", "identification"))
    assert pairs["pairs"] == {"same": 60, "different": 60}
    assert n["images"] == 30
    assert (run / "benchmarks/packed.html").exists()
    alone = script("evaluate.py", *command, "--ask", "pairs", "--out", tmp_path / "pairs")
    assert (alone.returncode, [p.name for p in (tmp_path / "pairs").glob("*.json")]) == (0, ["packed_pairs.json"])
    wrong = script("evaluate.py", *command[:4], "--data-args", "paht=x")
    assert wrong.returncode == 2
    assert "data set packed" in wrong.err
    unknown = script("evaluate.py", *command[:2], "--data", "pakced", "--data-args", "path=x")
    assert "did you mean 'packed'?" in unknown.err


def test_a_list_of_one_fold(script, small, data, tmp_path):
    run = tmp_path / "run"
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), run)
    lines = (data / "lfw/pairs.txt").read_text().splitlines()[1:]
    (data / "one.txt").write_text("\n".join(["10", *lines[::2], *lines[1::2]]) + "\n")
    files = ["--images", data / "lfw/images", "--pairs", data / "one.txt", "--workers", 0]
    told = script("eval_lfw.py", "--checkpoint", run, *files)
    assert told.returncode == 0, told.err
    assert "none, for there is one fold" in told.out
    assert "warning: one fold: no accuracy over folds" in told.out
    assert (run / "lfw/lfw_scores.png").exists()


def test_a_trained_head_is_asked_of_pictures_that_it_did_not_see(script, small, faces, tmp_path):
    """Classification needs the head, which is in the training state and not published."""
    split = {"root": str(faces), "test_images": 0.4}
    data = {"name": "image_folder", "args": {**split, "images": "train"}, "workers": 0}
    train = {**small["train"], "steps": 40, "checkpoint_every": 40}
    settings = {
        **small,
        "data": data,
        "train": train,
        "optim": {"lr": 3e-3, "ema": 0.9},
        "evaluators": [],
        "select": None,
    }
    facetx.start_run(check_settings(settings), tmp_path / "run")
    arguments = [f"root={faces}", "images=test", "test_images=0.4"]
    model = ["--checkpoint", tmp_path / "run", "--data", "image_folder", "--data-args", *arguments]
    told = script("evaluate.py", *model, "--ask", "classification")
    assert told.returncode == 0, told.err
    assert "top1" in told.out
    result = json.loads((tmp_path / "run/benchmarks/image_folder_classification.json").read_text())
    assert result["images"] == 12
    assert result["summary"]["top1"] > 0.5
    assert result["receipt"]["images"]
