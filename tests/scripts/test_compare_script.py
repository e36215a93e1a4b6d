"""scripts/compare.py as a user runs it: the table, the errors, and how it stops."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(small, tmp_path):
    """The script on two learning rates of the small run."""
    small |= {"evaluators": [], "select": None, "variants": {"slow": {}, "fast": {"optim.lr": 1e-2}}}
    small["train"] |= {"steps": 4, "checkpoint_every": 2}
    path = tmp_path / "rates.yaml"
    path.write_text(yaml.safe_dump(small, sort_keys=False))
    return [sys.executable, str(ROOT / "scripts/compare.py"), str(path), "--run-dir", str(tmp_path / "run")]


def with_overrides(command, *overrides):
    return [*command[:3], *overrides, *command[3:]]


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_it_prints_the_table_and_trains_nothing_twice(command, tmp_path):
    first = run(command)
    assert first.returncode == 0, first.stderr
    assert [line.split()[1] for line in first.stdout.splitlines()[2:4]] == ["slow", "fast"]
    again = run(command)
    assert again.stdout == first.stdout
    assert "variant slow, 1 of 2" in first.stderr
    assert "variant" not in again.stderr


def test_mistakes_are_told_before_anything_is_written(command, tmp_path):
    told = run(with_overrides(command, "optim.rate=1", "variants.fast.train.stepz=2"))
    assert told.returncode == 2
    assert told.stderr.startswith("error: 2 problems in the settings\n")
    assert "command line (optim.rate=1): optim.rate: unknown key" in told.stderr
    assert "did you mean 'steps'?" in told.stderr
    told = run(with_overrides(command, "variants.fast.model.args.depht=2"))
    assert "did you mean 'depth'?" in told.stderr
    refused = run([*with_overrides(command, "variants.fast.model.args.image_size=33"), "--dry-run"])
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: variant fast: backbone vit_p8s8_tiny: ")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def started(command, tmp_path):
    """The script while its first variant trains."""
    process = subprocess.Popen(
        with_overrides(command, "train.steps=100000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = tmp_path / "run/slow/metrics.jsonl"
    for _ in range(1200):
        if rows.exists() and rows.read_text():
            break
        time.sleep(0.1)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_variant_with_a_checkpoint(started, tmp_path, number):
    os.kill(started.pid, number)
    out, errors = started.communicate(timeout=120)
    assert started.returncode == 128 + number, errors
    assert f"stopped by signal {int(number)}; the same command goes on from there" in out
    assert (tmp_path / "run/slow/checkpoints/LAST").exists()
    assert not (tmp_path / "run/slow/variant.json").exists()
    assert not (tmp_path / "run/fast").exists()


def test_a_kill_leaves_no_training_behind(started, command, tmp_path):
    second = run(command)
    assert second.returncode == 2
    assert f"run: is being written by process {started.pid} on " in second.stderr
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc as Linux has it")
    pids = [Path("/proc") / pid for pid in children.read_text().split()]
    assert pids
    started.kill()
    started.wait()
    deadline = time.monotonic() + 20
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, pids))


def lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
