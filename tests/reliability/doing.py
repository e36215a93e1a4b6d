"""What the tests here do with runs."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.training import start_run
from facetx.training.sinks import read_rows


def with_(settings: dict, **sections) -> dict:
    return {**settings, **{name: {**settings[name], **changes} for name, changes in sections.items()}}


def run(raw: dict, folder: Path):
    return start_run(check_settings(raw), folder)


def in_a_session(target: Callable[[], int], limit: float = 60) -> int:
    """The exit code of ``target``'s process, the first one of a session of its own."""

    def begin():
        os.setsid()
        os._exit(target())

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join(limit)
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("it hangs")
    return process.exitcode


def rows_of(folder: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if not k.startswith("time/")} for r in read_rows(folder / "metrics.jsonl")]


def assert_same(a: Path, b: Path) -> None:
    first, second = find_checkpoint(a), find_checkpoint(b)
    assert first.step == second.step
    assert all(torch.equal(value, second.weights()[name]) for name, value in first.weights().items())
    assert rows_of(a) == rows_of(b)


def killed_before(name: str, work: Callable[[], object]) -> None:
    """``work`` in a process that is killed right before it gives a draft its name."""

    def replace(draft, target):
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.replace(draft, target)

    def target():
        Path.replace = Path.rename = replace
        work()

    assert in_a_session(target) == -signal.SIGKILL
