"""What goes wrong around a run costs no more than it must: signals, workers, evaluators, disks, a second trainer."""

import logging
import multiprocessing
import os
import pty
import signal
import sys
import time
from collections.abc import Callable

import differences
import pytest
import torch
from doing import assert_same, in_a_session, run, with_

from facetx import load_model
from facetx.checkpoints.format import find_checkpoint
from facetx.data.workers import WorkerError
from facetx.errors import CheckpointError, DataError
from facetx.evaluators import embedding
from facetx.training import loop, sinks

pytestmark = pytest.mark.usefixtures("plain_pictures")


def at_step(number: int, do: Callable[[], object]) -> None:
    """Has ``do`` called in the midst of a step, once."""
    own = loop.training_step

    def step(run, batch, now):
        if now == number:
            do()
        return own(run, batch, now)

    loop.training_step = step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_loses_no_step(small, unbroken, tmp_path, number):
    raw = with_(small, data={"workers": 2})

    def target():
        at_step(6, lambda: os.killpg(0, number))
        return run(raw, tmp_path / "run").signal

    assert in_a_session(target) == number
    assert find_checkpoint(tmp_path / "run").step == 7
    run(raw, tmp_path / "run")
    assert_same(unbroken(small), tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nor_does_one_in_an_evaluation_which_is_asked_again(small, unbroken, tmp_path, number):
    raw = with_(small, data={"workers": 2})

    def target():
        own = embedding._forward
        calls = []

        def forward(*args):
            calls.append(1)
            if len(calls) == 2:  # the first try is before the first step
                os.killpg(0, number)
            return own(*args)

        embedding._forward = forward
        return run(raw, tmp_path / "run").signal

    assert in_a_session(target) == number
    last = find_checkpoint(tmp_path / "run")
    assert (last.step, last.meta.evaluated) == (6, False)
    run(raw, tmp_path / "run")
    assert_same(unbroken(small), tmp_path / "run")


def test_a_closed_terminal_loses_no_step(small, unbroken, tmp_path):
    pid, terminal = pty.fork()
    if not pid:
        try:
            sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", 1) for descriptor in (1, 2))
            logging.basicConfig(stream=sys.stderr, force=True)
            at_step(6, lambda: (tmp_path / "now").touch() or time.sleep(1))
            os._exit(run(small, tmp_path / "run").signal)
        finally:
            os._exit(1)
    until = time.monotonic() + 60
    os.set_blocking(terminal, False)
    while not (tmp_path / "now").exists() and time.monotonic() < until:
        try:
            os.read(terminal, 4096)
        except BlockingIOError:
            time.sleep(0.01)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == signal.SIGHUP
    assert find_checkpoint(tmp_path / "run").step == 7
    run(small, tmp_path / "run")
    assert_same(unbroken(small), tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "a loader worker was killed by the system, probably out of memory"),
        (signal.SIGBUS, "a loader worker read where nothing is"),  # such as in a mapped file that was cut
    ],
)
def test_a_killed_worker_ends_the_run_with_a_checkpoint_and_its_own_words(small, unbroken, tmp_path, number, words):
    raw = with_(small, data={"workers": 2}, train={"checkpoint_every": 100})

    def target():
        at_step(1, lambda: os.kill(multiprocessing.active_children()[0].pid, number))
        try:
            run(raw, tmp_path / "run")
        except WorkerError as error:
            (tmp_path / "words").write_text(str(error))
            return 2

    assert in_a_session(target) == 2
    assert words in (tmp_path / "words").read_text()
    assert find_checkpoint(tmp_path / "run").step >= 2
    run(raw, tmp_path / "run")
    assert_same(unbroken(small), tmp_path / "run")


def test_an_evaluation_that_fails_costs_no_step_and_is_asked_again(small, unbroken, tmp_path, monkeypatch):
    own = loop.evaluate
    for bad in (2, 1):  # the last one, in both
        asked = []

        def evaluate(*args, asked=asked, bad=bad):
            asked.append(1)
            if len(asked) == bad:
                raise RuntimeError("a bug in an evaluator")
            return own(*args)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "evaluate", evaluate)
            with pytest.raises(RuntimeError, match="a bug in an evaluator"):
                run(small, tmp_path / "run")
        assert find_checkpoint(tmp_path / "run").step == 12
    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", None)  # nothing is trained twice
        assert [*run(small, tmp_path / "run").results] == ["val"]
    assert_same(unbroken(small), tmp_path / "run")
    assert (tmp_path / "run/pictures").is_dir()


def test_embeddings_that_are_not_finite_are_told_by_their_images(small, unbroken, faces, monkeypatch):
    model = load_model(unbroken(small))
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(torch.nan)
    files = [str(faces / "person_0/0.png"), str(faces / "person_1/0.png")]
    for ask in (lambda: model.embed(files), lambda: model.compare(*files)):
        with pytest.raises(DataError, match=r"embeddings of 2 images are NaN or infinite: .*person_0/0.png"):
            ask()


def test_a_second_trainer_in_a_run_is_refused_by_the_name_of_the_first(small, tmp_path):
    def first():
        at_step(6, lambda: ((tmp_path / "now").touch(), time.sleep(60)))
        run(small, tmp_path / "run")

    process = multiprocessing.get_context("fork").Process(target=first)
    process.start()
    while not (tmp_path / "now").exists():
        time.sleep(0.01)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    with pytest.raises(DataError, match=f"run: is being written by process {process.pid} on "):
        run(small, tmp_path / "run")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before
    process.kill()
    process.join()
    assert run(small, tmp_path / "run").step == 12


def test_a_disk_that_takes_no_row_for_a_while_costs_none(small, unbroken, tmp_path, monkeypatch, caplog):
    own = os.write
    refused = []

    def write(file, content):
        if content.startswith(b'{"step"') and len(refused) < 2:
            refused.append(content)
            raise OSError(28, "No space left on device")
        return own(file, content)

    monkeypatch.setattr(sinks.os, "write", write)
    run(small, tmp_path / "run")
    assert caplog.text.count("JsonLines: a row of metrics is not written ([Errno 28] No space left on device)") == 1
    assert_same(unbroken(small), tmp_path / "run")


def test_pictures_that_a_disk_did_not_take_are_drawn_by_the_next_start(small, tmp_path, monkeypatch, caplog):
    def draw(folder, *rest):
        folder.mkdir()
        (folder / "roc.png").touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("facetx.training.run.write_pictures", draw)
        assert run(small, tmp_path / "run").step == 12
    assert "could not be drawn" in caplog.text
    assert not [*(tmp_path / "run").glob("pictures*")]
    run(small, tmp_path / "run")
    assert (tmp_path / "run/pictures/page.txt").read_text() == "['val']"


def test_a_first_checkpoint_that_cannot_be_written_is_begun_anew(small, unbroken, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("facetx.checkpoints.write.save_file", full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            run(small, tmp_path / "run")
    assert not [*(tmp_path / "run/checkpoints").iterdir()]
    run(small, tmp_path / "run")
    assert "run: begins anew, since there is no whole checkpoint to go on from: it has none yet" in caplog.text
    assert [*differences.of_trainings(unbroken(small).parent, tmp_path)] == []
