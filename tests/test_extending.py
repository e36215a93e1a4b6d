"""docs/extending.md: each part on that page trains, is evaluated, and is found again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/extending.md"

SETTINGS = {
    "name": "mine",
    "data": {"name": "my_faces", "transforms": ["my_noise"], "workers": 0},
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
    done = script(folder, "evaluate.py", "--checkpoint", "run", "--data", "my_faces", "--import", "my_parts")
    assert done.returncode == 0, done.stderr
    code = "import facetx; print(facetx.load_model('run'), facetx.load_model('bright').predict)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert "my_vit" in loaded.stdout


def test_without_its_module_it_is_said_what_is_missing(folder, tmp_path):
    done = script(tmp_path, "eval_lfw.py", "--checkpoint", str(folder / "run"), "--images", "x", "--pairs", "y")
    assert done.returncode == 2
    assert "there is no module 'my_parts'" in done.stderr
