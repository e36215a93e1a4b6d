"""The quick ones of scripts/benchmark.py run and print their tables; the figures are the machine's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark.py"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["metrics", "--pairs", "600"], r"600 pairs, 10 folds, .*\nfacetx +[\d.]+ ms\nloops +[\d.]+ ms, [\d.]+ times"),
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
    assert re.findall(r"(\w+) +(\d) workers +[\d,]+ images/s of (\d+)x", out) == [
        ("synthetic_faces", "0", "112"),
        ("synthetic_faces", "1", "112"),
        ("image_folder", "0", "32"),
        ("image_folder", "1", "32"),
    ]
