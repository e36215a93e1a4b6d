"""docs/extending.md: each part on that page trains, is evaluated, and is found again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/extending.md"

SETTINGS = {
    "name": "mine",
    "data": {"name": "my_faces", "transforms": ["my_noise"], "sampler": "my_draws", "workers": 0},
    "model": {"name": "my_vit", "args": {"image_size": 32}},
    "head": {"name": "my_loss", "args": {"scale": 8.0}},
    "optim": {"name": "my_sgd", "lr": 0.1},
    "schedule": "my_ramp",
    "train": {"steps": 4, "batch_size": 8, "log_every": 2},
    "evaluators": [
        {"name": "my_question", "data": {"name": "my_faces", "args": {"identities": 3}}, "allow_overlap": True},
        {"name": "pairs", "data": "my_faces", "args": {"flip": False}, "allow_overlap": True},
    ],
}


def script(folder, name, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the page's code as a module, the settings, and a run of them."""
    folder = tmp_path_factory.mktemp("extending")
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "my_parts.py").write_text("\n\n".join(code))
    (folder / "mine.yaml").write_text(yaml.safe_dump(SETTINGS))
    task = ["task=my_task", "head=[]", "train.steps=2"]
    for name, changes in {"run": [], "bright": task}.items():
        done = script(folder, "train.py", "--config", "mine.yaml", *changes, "--import", "my_parts", "--run-dir", name)
        assert done.returncode == 0, done.stderr
    return folder


def test_every_part_of_the_page_trains_and_is_asked(folder):
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["train/scale"] == pytest.approx(8, abs=0.5)
    assert rows[0]["train/lr"] == pytest.approx(0.1 * (1 - 0.9 / 4))
    assert rows[-1]["length/length"] > 0
    assert "pairs/auc" in rows[-1]


def test_the_run_is_found_again_with_its_parts(folder):
    done = script(folder, "evaluate.py", "--checkpoint", "run", "--data", "my_faces", "--ask", "my_question", "pairs")
    assert done.returncode == 0, done.stderr
    assert {p.stem for p in (folder / "run/benchmarks").glob("my_faces_*.json")} == {
        "my_faces_my_question",
        "my_faces_pairs",
    }
    code = "import facetx; print(facetx.load_model('run'), facetx.load_model('bright').predict)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert "my_vit" in loaded.stdout


def lfw(folder):
    """Four people of LFW's names with two images each, and the pairs of two folds."""
    for name in "ABCD":
        (folder / "lfw" / name).mkdir(parents=True)
        for i in (1, 2):
            image = np.random.default_rng((ord(name), i)).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(image).save(folder / "lfw" / name / f"{name}_{i:04d}.png")
    folds = "A\t1\t2\nB\t1\t2\nA\t1\tB\t1\nA\t2\tB\t2\n", "C\t1\t2\nD\t1\t2\nC\t1\tD\t1\nC\t2\tD\t2\n"
    (folder / "pairs.txt").write_text("2\t2\n" + "".join(folds))
    return ["--images", str(folder / "lfw"), "--pairs", str(folder / "pairs.txt")]


def test_elsewhere_its_module_is_asked_for_and_taken(folder, tmp_path):
    command = ["--checkpoint", str(folder / "run"), *lfw(tmp_path), "--out", "out"]
    done = script(tmp_path, "eval_lfw.py", *command)
    assert done.returncode == 2
    assert "there is no module 'my_parts'" in done.stderr
    assert "--import FOLDER/my_parts.py" in done.stderr
    done = script(tmp_path, "eval_lfw.py", *command, "--import", str(folder / "my_parts.py"))
    assert done.returncode == 0, done.stderr


def test_variants_find_a_module_that_lies_elsewhere(folder, tmp_path):
    """A variant trains in a process of its own, which imports the module anew."""
    settings = {**SETTINGS, "train": {"steps": 1, "batch_size": 8}, "variants": {"only": None}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(settings))
    done = script(tmp_path, "compare.py", "one.yaml", "--import", str(folder / "my_parts.py"), "--run-dir", "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/only/variant.json").read_text())["images"] == 8


def test_a_reward_of_ones_own_tunes_masks(folder):
    changes = ["data.name=synthetic_faces", "data.args={identities: 8, size: 32}", "data.transforms=[]", "head=[]"]
    changes += ["task={name: parsing_reward, args: {width: 8, reward: my_reward, reward_args: {power: 3.0}}}"]
    changes += ["evaluators=[]", "train.steps=2", "data.sampler=shuffled"]
    done = script(folder, "train.py", "--config", "mine.yaml", *changes, "--import", "my_parts", "--run-dir", "reward")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "reward/metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["train/reward"] < 1
