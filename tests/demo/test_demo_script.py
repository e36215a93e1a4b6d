"""scripts/demo.py as a user runs it."""

import subprocess
import sys
from pathlib import Path

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


def test_a_mistake_exits_with_2_and_no_traceback(tmp_path):
    done = run("--checkpoint", tmp_path)
    assert done.returncode == 2
    assert f"error: {tmp_path}: is a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_no_torch():
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "--help"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert " facetx.cli\n" in modules
    assert " torch\n" not in modules
