"""``torchrun scripts/train.py``: one process is killed, the job says so, begins again, and ends as one would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facetx.checkpoints.format import find_checkpoint
from facetx.config import load_settings
from facetx.training import start_run
from facetx.training.sinks import read_rows

ROOT = Path(__file__).parents[2]
KILLS = """
import os, signal
from facetx.training import loop

own = loop.training_step

def step_or_die(run, batch, step):
    if (os.environ.get("TORCHELASTIC_RESTART_COUNT"), os.environ.get("RANK"), step) == ("0", "1", 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return own(run, batch, step)

loop.training_step = step_or_die
"""


@pytest.fixture
def train(small, tmp_path):
    """Runs the script by torchrun, with settings that need nothing of a process's own, such as dropout."""
    small["model"]["args"]["dropout"] = 0.0
    small["head"]["args"]["engine"] = "sharded"
    small["data"]["workers"] = 1
    small["train"] |= {"steps": 8, "log_every": 1}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    (tmp_path / "kills.py").write_text(KILLS)

    def run(name: str, *torchrun: str) -> subprocess.CompletedProcess:
        starts = [sys.executable, "-m", "torch.distributed.run", *torchrun]
        script = [str(ROOT / "scripts/train.py"), "--config", str(tmp_path / "small.yaml")]
        end = ["--run-dir", str(tmp_path / name), "--import", str(tmp_path / "kills.py")]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run([*starts, *script, *end], capture_output=True, text=True, timeout=300, env=environment)

    return run


def test_a_killed_process_ends_the_job_in_words_and_a_restart_goes_on(train, tmp_path, monkeypatch):
    done = train("two", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error: process 0 of 2 has lost another one" in done.stderr
    assert "going on from" in done.stderr
    assert done.stderr.count("INFO: going on from") == 1  # the first process alone tells
    assert done.stdout.count("done: ") == 1
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)
    start_run(load_settings(tmp_path / "small.yaml"), tmp_path / "one")
    one, two = (find_checkpoint(tmp_path / name, state=True) for name in ("one", "two"))
    assert one.step == two.step == 8
    rows = [
        {k: v for k, v in row.items() if not k.startswith("time/")} for row in read_rows(tmp_path / "one/metrics.jsonl")
    ]
    for row, other in zip(rows, read_rows(tmp_path / "two/metrics.jsonl"), strict=True):
        assert {k: other[k] for k in row} == pytest.approx(row, rel=1e-3, abs=1e-4)
