"""The scripts as a user runs them: what they print, where they stop, and how they exit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from facetx.evaluators.sampling import sample_pairs

ROOT = Path(__file__).parents[2]


def script(name, *args, **kwargs):
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **kwargs)


@pytest.fixture
def config(small, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small))
    return path


def test_train_then_evaluate_on_pairs(config, faces, tmp_path):
    done = script("train.py", "--config", config, "--run-dir", tmp_path / "run", "train.steps=20", "select=null")
    assert done.returncode == 0, done.stderr
    assert "step 20/20  loss" in done.stderr
    assert "tensorboard --logdir" in done.stdout.splitlines()[-1]

    again = script("train.py", "--config", config, "--run-dir", tmp_path / "run", "train.steps=20", "select=null")
    assert (again.returncode, again.stdout) == (0, "nothing was left to train: step 20 of 20\n")

    # The same faces under LFW's names, and pairs.txt in LFW's own format.
    images = tmp_path / "lfw"
    labels, keys = [], []
    for identity, folder in enumerate(sorted(faces.iterdir())):
        (images / folder.name).mkdir(parents=True)
        for i, file in enumerate(sorted(folder.iterdir()), start=1):
            Image.open(file).save(images / folder.name / f"{folder.name}_{i:04d}.{'png' if i % 2 else 'bmp'}")
            labels.append(identity)
            keys.append(f"{folder.name}/{folder.name}_{i:04d}")
    sampled = sample_pairs(labels, folds=2, pairs_per_fold=4, seed=0)
    lines = ["2\t4"]
    for fold in range(2):
        for same in (True, False):
            for a, b, s, f in zip(sampled.first, sampled.second, sampled.same, sampled.fold):
                if f == fold and s == same:
                    (n1, i1), (n2, i2) = ((keys[x].split("/")[0], int(keys[x][-4:])) for x in (a, b))
                    lines.append(f"{n1}\t{i1}\t{i2}" if s else f"{n1}\t{i1}\t{n2}\t{i2}")
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")

    command = ["--checkpoint", tmp_path / "run", "--images", images, "--pairs", tmp_path / "pairs.txt"]
    first = script("eval_lfw.py", *command)
    assert first.returncode == 0, first.stderr
    for words in ("accuracy", "standard error", "XNorm", "AUC", "EER", "TAR at FAR <= 1e-3", "16 pairs, 2 folds"):
        assert words in first.stdout
    written = json.loads((tmp_path / "run/lfw/lfw.json").read_text())
    assert written["settings"]["flip"] is True
    assert written["model"]["step"] == 20
    assert Image.open(tmp_path / "run/lfw/roc.png").size[0] > 300
    again = script("eval_lfw.py", *command, "--no-flip", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out/lfw.json").read_text())["settings"]["flip"] is False
    assert again.returncode == 0

    (images / "person_1/person_1_0001.png").unlink()
    (images / "person_1/person_1_0002.bmp").unlink()
    missing = script("eval_lfw.py", *command)
    assert missing.returncode == 2
    assert "person_1_0001" in missing.stderr
    (tmp_path / "pairs.txt").write_text("2\t4\nperson_1\tone\t2\n")
    bad = script("eval_lfw.py", *command)
    assert bad.returncode == 2
    assert "pairs.txt:2: " in bad.stderr


def test_a_mistake_exits_with_2_and_no_traceback_unless_asked_for(config, tmp_path):
    wrong = ["--config", config, "--run-dir", tmp_path / "run", "optim.rate=1"]
    told = script("train.py", *wrong)
    assert told.returncode == 2
    assert told.stderr.startswith("error: 1 problem in the settings; ")
    assert "\ncommand line (optim.rate=1): optim.rate: unknown" in told.stderr
    assert "Traceback" not in told.stderr
    assert "Traceback" in script("train.py", *wrong, "--debug").stderr
    assert not (tmp_path / "run").exists()


def test_a_disk_that_refuses_is_told_as_plainly(config, tmp_path):
    (tmp_path / "file").touch()
    told = script("train.py", "--config", config, "--run-dir", tmp_path / "file/run")
    assert told.returncode == 2
    assert f"error: {tmp_path}/file: File exists\n" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_error_in_a_loader_worker_is_as_plain(config, faces, tmp_path):
    told = script("train.py", "--config", config, "--run-dir", tmp_path / "run", "data.workers=2",
                  "data.transforms=[{name: resize, args: {size: 40}}]")  # fmt: skip
    assert told.returncode == 2
    assert "error: " in told.stderr
    assert "40x40 pixels, but the model takes 32x32" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_dry_run_prints_the_cost_and_writes_nothing(config, tmp_path):
    told = script("train.py", "--config", config, "--dry-run", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    for words in ("30 images of 6 identities", "M parameters", "GMACs", "steps       12 of 6 images", "MiB"):
        assert words in told.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", [None, "optim.lrr=1"])
def test_a_dry_run_imports_no_compiler_and_a_typo_no_pytorch(config, key):
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts/train.py"), "--config", str(config), "--dry-run"]
    done = subprocess.run([*command, *([key] if key else [])], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if key == "optim.lrr=1" else 0)
    assert " torch._dynamo.symbolic_convert\n" not in done.stderr
    assert (" torch\n" in done.stderr) == (done.returncode == 0)


def test_help_is_quick():
    began = time.perf_counter()
    assert script("train.py", "--help").returncode == 0
    modules = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "scripts/train.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert " torch\n" not in modules
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_says_so(config, tmp_path, number, code):
    command = [
        sys.executable,
        str(ROOT / "scripts/train.py"),
        "--config",
        str(config),
        "--run-dir",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(
        [*command, "train.steps=100000", "data.workers=1", "evaluators=[]", "select=null"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    rows = tmp_path / "run/metrics.jsonl"
    for _ in range(600):
        if rows.exists() and rows.read_text():
            break
        time.sleep(0.1)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "the same command goes on from there" in out
    assert (tmp_path / "run/checkpoints/LAST").exists()
