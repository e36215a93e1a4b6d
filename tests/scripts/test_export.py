"""scripts/export.py as a user runs it, and evaluate.py, eval_lfw.py and benchmark.py on what it has written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import facetx
from facetx.config.load import check_settings

pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxscript", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'export'")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_folder(small, tmp_path):
    facetx.start_run(check_settings({**small, "evaluators": [], "select": None}), tmp_path / "run")
    return tmp_path / "run"


def numbers(path):
    """A result's file without what two programs may have otherwise."""
    written = json.loads(path.read_text())
    receipt = {k: v for k, v in written["receipt"].items() if k != "versions"}
    return written, receipt


def test_a_run_is_exported_and_its_file_evaluated_like_the_run(script, run_folder, faces, tmp_path):
    told = script("export.py", run_folder, "--to", "onnx", "--quantize", "int8", "--images", 16)
    assert told.returncode == 0, told.err
    file = run_folder / "export/model.onnx"
    for words in (
        "recognition, embedding [16]",
        "input: image, 32x32 RGB, (x - 127.5) / 127.5, aligned to arcface; in the graph: uint8 RGB (B, 3, H, W)",
        "of an output's largest value at most, at batch 1, 2 and 7, of noise, drawn faces and image_folder\n",
        f"written: {file}\n",
        f"written: {file.with_suffix('.int8.onnx')}, ",
    ):
        assert words in told.out, words
    assert float(re.search(r"differs from PyTorch by (\S+) of", told.out)[1]) <= 1e-4
    assert re.search(r"^pairs +\d+ +[\d.]+ % +[\d.]+ % +\d+ +\d+ +[\d.e-]+$", told.out, re.MULTILINE)

    found = {}
    for checkpoint in (run_folder, file):
        told = script("evaluate.py", "--checkpoint", checkpoint, "--identification", faces, "--workers", 0)
        assert told.returncode == 0, told.err
    found = [numbers(f / "identification.json") for f in (run_folder / "benchmarks", file.parent / "benchmarks/model")]
    (plain, receipt), (exported, receipt_of_export) = found
    assert receipt == receipt_of_export
    assert "onnxruntime" in exported["receipt"]["versions"]
    assert "onnxruntime" not in plain["receipt"]["versions"]
    assert exported["model"]["step"] == plain["model"]["step"] == 12
    assert exported["summary"] == pytest.approx(plain["summary"], abs=1e-6)


def test_eval_lfw_takes_an_exported_file(script, run_folder, faces, tmp_path):
    file = tmp_path / "faces.onnx"
    assert script("export.py", run_folder, "--out", file).returncode == 0
    for person in ("person_0", "person_1"):
        folder = tmp_path / "lfw" / person
        folder.mkdir(parents=True)
        for i in range(2):
            Image.open(faces / person / f"{i}.png").save(folder / f"{person}_{i + 1:04d}.png")
    rows = "person_0\t1\t2\nperson_0\t1\tperson_1\t1\n", "person_1\t1\t2\nperson_0\t2\tperson_1\t2\n"
    (tmp_path / "pairs.txt").write_text("2\t1\n" + "".join(rows))
    data = ["--images", tmp_path / "lfw", "--pairs", tmp_path / "pairs.txt", "--workers", 0]
    for checkpoint in (run_folder, file):
        told = script("eval_lfw.py", "--checkpoint", checkpoint, *data)
        assert told.returncode == 0, told.err
    (plain, receipt), (exported, receipt_of_export) = (
        numbers(path) for path in (run_folder / "lfw/lfw.json", tmp_path / "lfw/faces/lfw.json")
    )
    assert receipt == receipt_of_export
    assert exported["summary"] == pytest.approx(plain["summary"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "onx"], "no export to 'onx'; did you mean 'onnx'?"),
        (["--opset", "7"], "opset 7: facetx writes opsets 18 to 23"),
        (["--to", "torchscript", "--quantize", "int8"], "--quantize int8 is of --to onnx"),
        (["--calibrate", "packed"], "--calibrate and --calibrate-args are about --quantize int8"),
        (["--out", "x.pt"], "x.pt: the name of an export to onnx ends in .onnx"),
        ([], "no checkpoint here"),
    ],
)
def test_a_mistake_exits_with_2(script, tmp_path, options, words):
    told = script("export.py", tmp_path, *options)
    assert told.returncode == 2
    assert words in told.err
    assert not list(tmp_path.iterdir())


def test_the_benchmark_prints_a_row_of_each_way():
    command = [sys.executable, ROOT / "scripts/benchmark.py", "export", "--batch", "2", "--steps", "1", "--ways"]
    done = subprocess.run([*command, "onnx", "int8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +[\d.]+ ms +([\d.]+) +[\d.]+ images/s +([\d.]+)$", done.stdout, re.MULTILINE)
    assert rows[0] == ("eager", "1.00", "1.00")
    assert [row[0] for row in rows] == ["eager", "onnx", "int8"]  # to compile takes half a minute
