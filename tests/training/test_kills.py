"""Runs that are killed right before a random change of a file, then taken up again, end as one that was not killed.

``FACETX_TEST_KILLS=100 python -m pytest tests/training/test_kills.py`` kills 100 times in each of two runs.
"""

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from worlds import assert_same_run, die, in_a_process, listing, run, with_

CHANGES = ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "write", "ftruncate", "truncate")
"""What Python's own code does to files; the bytes of tensors are written by libraries, between two of these."""


def killed_before_change(n: int) -> None:
    """Has this process killed right before the ``n``-th change of a file; never for 0, which counts them."""
    for name in CHANGES:
        setattr(os, name, _counting(getattr(os, name), n))


counted = 0


def _counting(own, n):
    def change(*args, **more):
        global counted
        counted += 1
        if counted == n:
            die()
        return own(*args, **more)

    return change


def changes_of(raw: dict, folder: Path) -> int:
    """How many changes of files the unbroken run makes."""

    def target():
        killed_before_change(0)
        run(raw, folder)
        folder.with_name("count").write_text(str(counted))

    assert in_a_process(target) == 0
    return int(folder.with_name("count").read_text())


def kill_and_compare(raw: dict, straight: Path, folder: Path, places: list[int], workers: list[int]) -> None:
    """Kills a run before each of these changes, one after the other, and lets it end then."""
    for place, number in zip(places, workers):

        def target(place=place, number=number):
            killed_before_change(place)
            run(with_(raw, data={"workers": number}), folder)

        assert in_a_process(target) in (-signal.SIGKILL, 0)
    run(raw, folder)
    assert_same_run(straight, folder)
    assert not [name for name in listing(folder) if ".writing_" in name or name.endswith(".part")]
    shutil.rmtree(folder)


def kill_often(raw: dict, folder: Path, kills: int, seed: int, told=lambda *_: None) -> None:
    """Some runs are killed once, some twice."""
    straight = folder / "straight"
    total = changes_of(raw, straight)
    draw = random.Random(seed)
    done = 0
    while done < kills:
        places = [draw.randint(1, total) for _ in range(draw.choice((1, 1, 2)))]
        workers = [draw.choice((0, 0, 1, 2)) for _ in places]
        told(done, places, workers)
        kill_and_compare(raw, straight, folder / "run", places, workers)
        done += len(places)
    told(done, total, "none differs")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


KILLS = int(os.environ.get("FACETX_TEST_KILLS", "6"))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_kill_before_any_change_of_a_file_changes_nothing(small, tmp_path, ema):
    kill_often(with_(small, optim={"ema": ema}), tmp_path, KILLS, seed=int(bool(ema)), told=print)
