"""scripts/demo.py as a user runs it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import facetx
from facetx.config import check_settings

pytest_plugins = ["small_page"]
SCRIPT = Path(__file__).parents[2] / "scripts/demo.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_static_writes_the_page_and_says_what_its_server_must_send(exported, packages, tmp_path):
    done = run("--checkpoint", exported.path, "--assets", packages, "--static", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "_headers" in done.stdout
    assert (tmp_path / "site/model.onnx").read_bytes() == exported.path.read_bytes()
    assert (tmp_path / "site/index.html").is_file()


def test_a_run_is_exported_by_itself_and_leaves_nothing(script, small, packages, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "short-lived"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "short-lived").mkdir()
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), tmp_path / "run")
    before = sorted(path for path in (tmp_path / "run").rglob("*"))
    done = script("demo.py", "--checkpoint", tmp_path / "run", "--assets", packages, "--static", tmp_path / "site")
    assert done.returncode == 0, done.err
    about = json.loads((tmp_path / "site/model.json").read_text())
    assert (about["name"], about["embeds"], about["classes"]) == ("small", True, [])
    exported, run = (facetx.load_model(path, "cpu") for path in (tmp_path / "site/model.onnx", tmp_path / "run"))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert np.allclose(exported.embed(image), run.embed(image), atol=1e-5)
    assert list((tmp_path / "short-lived").glob("facetx*")) == []
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before


def test_a_mistake_exits_with_2_and_no_traceback(tmp_path):
    done = run("--checkpoint", tmp_path)
    assert done.returncode == 2
    assert f"error: {tmp_path}: " in done.stderr
    assert "checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_no_torch():
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "--help"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert " facetx.cli\n" in modules
    assert " torch\n" not in modules
