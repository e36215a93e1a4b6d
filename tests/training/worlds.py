"""For tests of what happens to runs: in a process of its own that dies, and compared with one that does not."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import torch

from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.processes import joined
from facetx.training import start_run
from facetx.training.sinks import read_rows


def with_(settings: dict, **sections) -> dict:
    out = dict(settings)
    for name, changes in sections.items():
        out[name] = {**out[name], **changes}
    return out


def run(raw: dict, folder: Path, resume: str = "auto", with_changes: bool = False):
    return start_run(check_settings(raw), folder, resume, with_changes)


def in_a_process(target: Callable[[], object], seconds: float = 60) -> int:
    """What a forked process ends with that leads a group of its own: its exit code, below 0 for a signal."""

    def lead():
        os.setsid()
        target()

    process = multiprocessing.get_context("fork").Process(target=lead)
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("it hangs")
    assert process.exitcode is not None
    return process.exitcode


def in_processes(count: int, work: Callable[[], object], seconds: float = 120) -> list[int]:
    """Does ``work`` in forked processes of one training, as torchrun would start them; their exit codes, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def one(rank):
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        with joined("cpu"):
            work()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, until - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, "it hangs"
    return [process.exitcode or 0 for process in processes]


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rows_without_time(folder: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if not k.startswith("time/")} for r in read_rows(folder / "metrics.jsonl")]


def listing(folder: Path) -> list[str]:
    """All files but TensorBoard's, which has one more for each process."""
    files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(f for f in files if not f.startswith("tensorboard"))


def assert_same_run(a: Path, b: Path) -> None:
    """Two runs left the same: weights, state, description, rows, pointers, and names of files."""
    first, second = (find_checkpoint(folder, state=True) for folder in (a, b))
    assert first.step == second.step
    assert_equal(first.state(), second.state())
    assert_equal(first.weights(), second.weights())
    assert [m for m in first.meta.metrics if not m.startswith("time/")] == [
        m for m in second.meta.metrics if not m.startswith("time/")
    ]
    assert first.meta.evaluated == second.meta.evaluated
    assert rows_without_time(a) == rows_without_time(b)
    assert find_checkpoint(a, "BEST").step == find_checkpoint(b, "BEST").step
    assert listing(a) == listing(b)


def assert_equal(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b
