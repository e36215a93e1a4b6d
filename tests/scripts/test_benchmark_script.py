"""The quick ones of scripts/benchmark.py run and print their tables; the figures are the machine's."""

import csv
import importlib.util
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from facetx.backbones import BACKBONES

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark.py"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["metrics", "--pairs", "600"], r"600 pairs, 10 folds, .*\nfacetx +[\d.]+ ms\nloops +[\d.]+ ms, [\d.]+ times"),
        (
            ["parsing", "--masks", "4", "--size", "64", "--batch", "2", "--steps", "1", "--device", "cpu"],
            r"4 masks of 512x512, 19 classes\nconfusion matrix +[\d.]+ s(.|\n)+facetx +1,596,588(.|\n)+LR-ASPP +[\d,]+",
        ),
        (
            ["plan", "--gpus", "2", "--classes", "1000", "--model", "vit_p8s8_tiny", "--rate", "100"],
            r"1,000 classes, sharded, ddp, 128 images a GPU\nGPUs +machines +batch(.|\n)+\n +2 +1 +256 .* 200 ",
        ),
        (["heads", "--classes", "500", "--batch", "8", "--dim", "16", "--steps", "1"], r"\nchunked +[\d.]+ +[\d.]+ "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_it_prints_its_table(arguments, pattern):
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(pattern, done.stdout), done.stdout


def test_data_reads_a_folder_with_and_without_workers(faces):
    command = [sys.executable, str(SCRIPT), "data", "--root", str(faces), "--batch", "4", "--steps", "1"]
    out = subprocess.run([*command, "--workers", "0", "1"], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^([\w, ]+?) +(\d) workers +[\d,]+ images/s of (\d+)x\d+ +([\d,]+) MiB$", out, re.MULTILINE)
    sizes = {"synthetic_faces": "112", "image_folder": "32", "packed": "32", "packed, numbers drawn": "32"}
    assert [row[:3] for row in rows] == [(name, n, sizes[name]) for name in sizes for n in "01"]
    assert all(int(row[3].replace(",", "")) > 50 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "--root", "nothere"], "nothere: no such folder"),
        (["data", "--workers", "-1"], "--workers: expected a whole number of 0 or more, got '-1'"),
        (["heads", "--head", "triplet"], "error: --head triplet: is no class-center head; they are adaface, arcface"),
        (["heads", "--steps", "0"], "--steps: expected a whole number of 1 or more, got '0'"),
        (["metrics", "--pairs", "101"], "error: --pairs 101: is no multiple of 20"),
        (["backbones", "--compile", "indctor"], "error: --compile indctor: is no backend of torch.compile; the usual"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_exits_with_2_and_no_traceback(arguments, words):
    told = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert words in told.stderr
    assert "Traceback" not in told.stderr


def test_help_imports_neither_torch_nor_numpy():
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "--help"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert " facetx.cli\n" in modules
    assert " torch\n" not in modules
    assert " numpy\n" not in modules


@pytest.fixture
def benchmark(capsys, monkeypatch):
    """The script as a module; ``benchmark.run("backbones", ...)`` gives what it prints."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        assert module.main(module.arguments().parse_args(arguments)) == 0
        return capsys.readouterr().out

    module.run = run
    module.of_backbones = importlib.import_module("benchmark_backbones")
    return module


def rows_of(out):
    return [line.split("  ")[0] for line in out.splitlines() if " ms  x " in line]


def _vit(dim):
    return BACKBONES.create("vit_tiny", image_size=32, depth=1, dim=dim, heads=1)


TINY = ("--device", "cpu", "--batch", "2", "--depth", "1", "--steps", "1")


def test_every_row_that_is_to_be_compiled_is(benchmark, monkeypatch):
    # One class for all, of other widths: twice as many graphs as torch.compile has room for.
    widths = itertools.cycle(16 * n for n in range(1, 9))
    monkeypatch.setattr(benchmark.of_backbones, "_network", lambda name, depth: (_vit(next(widths)), 32))
    monkeypatch.setattr(benchmark.of_backbones, "find_spec", lambda module: module)
    counters.clear()
    out = benchmark.run("backbones", *TINY, "--compile", "eager")
    rows = rows_of(out)
    assert rows == [name for names in benchmark.of_backbones.GROUPS.values() for name in names]
    assert "compiled by eager" in out
    assert counters["stats"]["unique_graphs"] == 2 * (len(rows) - 1)  # one in eval and one in train mode


@pytest.mark.slow
def test_the_networks_compared_are_one_graph_each(benchmark):
    pytest.importorskip("vit_pytorch")
    out = benchmark.run("backbones", *TINY, "--compile", "eager", "--groups", "vit")
    assert len(rows_of(out)) == 4


def test_rows_of_a_library_that_is_absent_are_left_out_and_named(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark.of_backbones, "find_spec", lambda module: None if module == "vit_pytorch" else module)
    out = benchmark.run("backbones", *TINY, "--groups", "vit")
    assert rows_of(out) == ["facetx vit_p8s8", "timm VisionTransformer"]
    assert out.splitlines()[1] == "left out, not installed: vit-pytorch ViT; pip install 'facetx[bench]'"


def test_step_memory_is_what_autograd_keeps_each_storage_once(benchmark):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    images = torch.randn(5, 4)
    # The first layer keeps its input, ReLU and the second layer share one tensor, the square keeps its own.
    kept = benchmark.of_backbones._step_bytes(model, lambda: model(images).square().sum().backward(), "cpu")
    assert kept == 4 * 5 * (4 + 8 + 2)
    assert benchmark.of_backbones._weight_bytes(model) == 4 * (4 * 8 + 8 + 8 * 2 + 2)


def test_steps_are_taken_in_several_ways(benchmark):
    cases = ["eager", "original: float32, plain, eager, dropout 0.1"]
    out = benchmark.run("step", "--device", "cpu", "--batch", "2", "--classes", "20", "--steps", "1", "--cases", *cases)
    rows = re.findall(r"^(\S.+?) {2,}2 +\d+ +[\d.]+ % +([\d.]+) +[\d.]+ s$", out, re.MULTILINE)
    assert [name for name, _ in rows] == cases
    assert rows[0][1] == "1.000"


def test_memory_is_foretold_and_taken_alike(benchmark):
    out = benchmark.run(
        "memory", "--device", "cpu", "--batch", "2", "--classes", "20", "--cases", "vit_p12s8", "facerec_l8"
    )
    rows = re.findall(r"^(\w+) +[\d,]+ MiB +[\d,]+ MiB +([\d.]+)$", out, re.MULTILINE)
    assert [name for name, _ in rows] == ["vit_p12s8", "facerec_l8"]
    assert all(abs(float(ratio) - 1) < 0.03 for _, ratio in rows)


def test_a_row_that_takes_too_long_is_left_out_and_the_others_come(benchmark, monkeypatch):
    def network(name, depth):
        if name == "vit_kprpe_small without KP-RPE":
            time.sleep(30)
        return _vit(16), 32

    monkeypatch.setattr(benchmark.of_backbones, "_network", network)
    out = benchmark.run("backbones", *TINY, "--groups", "kprpe", "--bound", "1")
    assert "vit_kprpe_small without KP-RPE  left out: it takes more than --bound 1 seconds\n" in out
    assert rows_of(out) == ["vit_kprpe_small"]


def test_a_record_grows_and_is_a_table(tmp_path):
    out = tmp_path / "here.csv"
    command = [sys.executable, str(SCRIPT), "record", "--out", str(out), "--device", "cpu", "--only", "metrics"]
    for _ in range(2):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "6,000 pairs" in told
    lines = list(csv.DictReader(out.open()))
    assert [(line["table"], line["row"], line["quantity"]) for line in lines] == 2 * [
        ("metrics", "facetx", "ms"),
        ("metrics", "plain loops", "ms"),
    ]
    assert all(float(line["value"]) > 0 and line["date"] and line["device"] and line["torch"] for line in lines)
    table = subprocess.run([sys.executable, str(SCRIPT), "table", str(out)], capture_output=True, text=True, check=True)
    assert table.stdout.count("### metrics: 6,000 pairs") == 1
    assert f"| facetx | {lines[2]['value']} |" in table.stdout  # the later one


def test_a_command_that_takes_too_long_does_not_hold_the_record_up(tmp_path):
    command = [sys.executable, str(SCRIPT), "record", "--out", str(tmp_path / "x.csv"), "--bound", "1"]
    told = subprocess.run([*command, "--only", "ijbc"], capture_output=True, text=True, check=True).stdout
    assert "ijbc: more than --bound 1 seconds" in told
