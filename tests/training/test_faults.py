"""What happens to a run from outside loses nothing: signals, killed processes, full disks, evaluators that fail."""

import logging
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from worlds import assert_same_run, die, in_a_process, rows_without_time, run, with_

from facetx.checkpoints import write
from facetx.checkpoints.format import find_checkpoint
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.packed import PackWriter
from facetx.data.workers import SIGNALS, WorkerError, reading_process
from facetx.errors import CheckpointError, DataError, FacetxError
from facetx.evaluators.verification import PairVerification
from facetx.files import lock
from facetx.training import DivergedError, loop, records
from facetx.training import run as run_module
from facetx.training import sinks as sinks_module
from facetx.training.sinks import JsonLines, read_rows


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, faces):
    """A run that nothing happened to."""
    done: list[Path] = []

    def get(small: dict) -> Path:
        if not done:
            done.append(tmp_path_factory.mktemp("straight") / "run")
            run(small, done[0])
        return done[0]

    return get


def at_step(step, do):
    """``loop.training_step``, with something done before a step."""
    own = loop.training_step

    def training_step(r, batch, now):
        if now == step:
            do()
        return own(r, batch, now)

    return training_step


def test_a_pack_that_is_cut_while_it_is_read_costs_no_step(small, faces, tmp_path, monkeypatch):
    source = ImageFolder(str(faces))
    writer = PackWriter(tmp_path / "pack", (32, 32), "test")
    for i in range(len(source)):
        writer.add(f"p/{i}", int(source.labels[i]), source[i]["image"])
    writer.finish(source.identities)
    data = {**small["data"], "name": "packed", "args": {"path": str(tmp_path / "pack")}, "workers": 0}
    cut = at_step(5, lambda: os.truncate(tmp_path / "pack/images.npy", 4096))
    monkeypatch.setattr(loop, "training_step", cut)
    with pytest.raises(DataError, match=r"images.npy: was cut to 4096 bytes while it was read"):
        run({**small, "data": data, "evaluators": [], "select": None}, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run").step >= 5


# ---- signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_whole_group_loses_nothing(small, straight, tmp_path, number):
    """As of ``timeout``, a scheduler, a container, a closed terminal."""

    def target():
        loop.training_step = at_step(6, lambda: (os.killpg(0, number), time.sleep(0.3)))
        outcome = run(with_(small, data={"workers": 2}), tmp_path / "run")
        os._exit(outcome.signal + 10 * outcome.step)

    assert in_a_process(target) == number + 70
    assert find_checkpoint(tmp_path / "run", state=True).step == 7
    run(small, tmp_path / "run")
    assert_same_run(straight(small), tmp_path / "run")


@pytest.mark.parametrize("step", [6, 12])
def test_a_signal_in_an_evaluation_does_not_wait_for_it(small, straight, tmp_path, step):
    def slow(self, model, how):
        os.killpg(0, signal.SIGTERM)
        time.sleep(60)

    def target():
        own = loop.evaluators_due
        loop.evaluators_due = lambda r, done: own(r, done) if done == step else []
        PairVerification.result = slow
        outcome = run(with_(small, data={"workers": 1}), tmp_path / "run")
        os._exit(outcome.signal + 10 * outcome.step)

    assert in_a_process(target, seconds=30) == signal.SIGTERM + 10 * step
    checkpoint = find_checkpoint(tmp_path / "run", state=True)
    assert (checkpoint.step, checkpoint.meta.evaluated) == (step, False)
    if step == 6:  # at 12 the evaluation of step 6 has been left out
        run(small, tmp_path / "run")
        assert_same_run(straight(small), tmp_path / "run")


def test_a_signal_while_a_batch_is_waited_for_does_not_wait_on(small, straight, tmp_path):
    def target():
        own = ImageFolder.__getitem__

        def slow(self, index):
            in_a_worker = os.getpgid(0) != os.getpid()
            if in_a_worker and (tmp_path / "run/checkpoints/step_00000006").exists():
                time.sleep(1)  # until what was read before is used up
                os.killpg(0, signal.SIGTERM)
                time.sleep(60)
            return own(self, index)

        ImageFolder.__getitem__ = slow
        outcome = run(with_(small, data={"workers": 1}), tmp_path / "run")
        os._exit(outcome.signal)

    assert in_a_process(target, seconds=30) == signal.SIGTERM
    assert find_checkpoint(tmp_path / "run", state=True).step >= 6
    run(small, tmp_path / "run")
    assert_same_run(straight(small), tmp_path / "run")


def test_a_signal_that_is_ignored_stays_so(small, tmp_path, monkeypatch):
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(loop, "training_step", at_step(3, lambda: os.kill(os.getpid(), signal.SIGHUP)))
        outcome = run({**small, "evaluators": [], "select": None}, tmp_path / "run")
        assert (outcome.signal, outcome.step) == (0, 12)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- processes


def test_a_process_that_reads_leaves_signals_to_its_parent():
    def target():
        reading_process()
        os.killpg(0, signal.SIGTERM)
        os.killpg(0, signal.SIGHUP)
        os.killpg(0, signal.SIGINT)
        os._exit(7)

    assert in_a_process(target) == 7


def test_a_worker_that_is_killed_ends_the_run_with_a_checkpoint_and_its_own_words(
    small, straight, tmp_path, monkeypatch
):
    def kill():
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    raw = with_(small, data={"workers": 1})
    words = "a loader worker was killed by the system, probably out of memory; lower data.workers"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", at_step(1, kill))
        with pytest.raises(WorkerError, match=words):
            run(raw, tmp_path / "run")
    checkpoint = find_checkpoint(tmp_path / "run", state=True)
    assert 2 <= checkpoint.step < 12
    run(small, tmp_path / "run")
    assert rows_without_time(straight(small)) == rows_without_time(tmp_path / "run")


def test_too_little_shared_memory_is_told(small, straight, tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "share_memory_", full)
        with pytest.raises(WorkerError, match=r"/dev/shm, has no room .* No space left .*--shm-size"):
            run(with_(small, data={"workers": 1}), tmp_path / "run")
    run(small, tmp_path / "run")
    assert_same_run(straight(small), tmp_path / "run")


def test_workers_die_with_their_parent(small, tmp_path):
    def note_and_die():
        workers = [child.pid for child in multiprocessing.active_children()]
        (tmp_path / "pids").write_text(" ".join(map(str, workers)))
        die()

    def target():
        loop.training_step = at_step(2, note_and_die)
        run(with_(small, data={"workers": 2}), tmp_path / "run")

    assert in_a_process(target) == -signal.SIGKILL
    workers = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(_lives(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_lives(pid) for pid in workers)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_processes_do_not_train_in_one_folder(small, tmp_path):
    with lock(tmp_path / "run"), pytest.raises(DataError, match=rf"run: is being written by process {os.getpid()} on "):
        run(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- evaluators


def failing(at, own=PairVerification.result):
    calls = []

    def result(self, model, how):
        calls.append(1)
        if len(calls) == at:
            raise DataError("a.png: cannot be read as an image")
        return own(self, model, how)

    return result


@pytest.mark.parametrize("at", [1, 2])
def test_what_an_evaluator_raises_loses_no_step_and_is_asked_again(small, straight, tmp_path, monkeypatch, at, caplog):
    monkeypatch.setattr(PairVerification, "result", failing(at))
    with pytest.raises(DataError, match=r"^evaluator val: a\.png: cannot be read"):
        run(small, tmp_path / "run")
    checkpoint = find_checkpoint(tmp_path / "run", state=True)
    assert (checkpoint.step, checkpoint.meta.evaluated) == (6 * at, False)
    assert f"the evaluation after step {6 * at} failed; the same command asks again" in caplog.text
    outcome = run(small, tmp_path / "run")
    assert outcome.step == 12
    assert outcome.results.keys() == {"val"}
    assert_same_run(straight(small), tmp_path / "run")


def test_so_does_what_is_no_error_of_ours(small, tmp_path, monkeypatch):
    def result(self, model, how):
        raise ZeroDivisionError

    monkeypatch.setattr(PairVerification, "result", result)
    with pytest.raises(ZeroDivisionError):
        run(small, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run", state=True).step == 6


@pytest.mark.parametrize("where", ["before its row", "after its row", "after it is noted", "after the pointer"])
@pytest.mark.parametrize("step", [6, 12])
def test_a_kill_between_a_checkpoint_and_what_its_evaluation_leaves(small, straight, tmp_path, where, step):
    def target():
        row, note, point = records.Records.evaluated, records.record_evaluation, write.point

        def evaluated(self, now, values):
            if now == step:
                if where == "before its row":
                    die()
                elif where == "after its row":
                    records.record_evaluation = die
                elif where == "after it is noted":
                    write.point = die
                else:
                    write.point = lambda *args: (point(*args), die())
                    records.record_evaluation = lambda *args, **more: (note(*args, **more), die())
            row(self, now, values)

        records.Records.evaluated = evaluated
        run(small, tmp_path / "run")

    assert in_a_process(target) in (-signal.SIGKILL, 0)  # 0: at step 12 there may be no pointer to be moved
    run(small, tmp_path / "run")
    assert_same_run(straight(small), tmp_path / "run")


# ---- disks


def test_a_kill_in_the_first_checkpoint_lets_the_run_begin_anew(small, straight, tmp_path, caplog):
    def target():
        own = write.save_checkpoint

        def save(*args):
            os.replace = die
            own(*args)

        write.save_checkpoint = save
        run(small, tmp_path / "run")

    assert in_a_process(target) == -signal.SIGKILL
    _older(tmp_path / "run/tensorboard")
    left = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".writing_")
    run(small, tmp_path / "run")
    assert "begins anew, since there is no whole checkpoint to go on from: it has none yet" in caplog.text
    assert_same_run(straight(small), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for key, steps in {"train/loss": [3, 6, 9, 12], "val/accuracy": [6, 12]}.items():
        assert [event.step for event in events.Scalars(key)] == steps


def test_a_first_checkpoint_that_cannot_be_written_does_so_too(small, straight, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(write.torch, "save", full)
        patch.setattr(loop, "training_step", at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        with pytest.raises(CheckpointError, match="No space left on device"):
            run(small, tmp_path / "run")
    run(small, tmp_path / "run")
    assert_same_run(straight(small), tmp_path / "run")


def test_nor_do_damaged_ones_stand_in_the_way(small, straight, tmp_path, caplog):
    run(with_(small, train={"steps": 4}), tmp_path / "run")
    (tmp_path / "run/checkpoints/step_00000004/state.pt").write_bytes(b"")
    run(small, tmp_path / "run")
    assert "begins anew" in caplog.text
    assert "state.pt is missing or damaged" in caplog.text
    assert_same_run(straight(small), tmp_path / "run")


def test_scalars_stand_once_in_tensorboard_after_a_resume(small, tmp_path):
    def target():
        loop.training_step = at_step(9, die)
        run(small, tmp_path / "run")

    assert in_a_process(target) == -signal.SIGKILL
    _older(tmp_path / "run/tensorboard")
    run(small, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for key, steps in {"train/loss": [3, 6, 9, 12], "val/accuracy": [6, 12]}.items():
        assert [event.step for event in events.Scalars(key)] == steps


def _older(folder: Path) -> None:
    """Within one second TensorBoard sorts files by the number of their process."""
    for file in folder.iterdir():
        head, _, rest = file.name.partition("tfevents.")
        file.rename(file.with_name(f"{head}tfevents.1000000000.{rest.partition('.')[2]}"))


def test_a_full_disk_costs_no_row_once_it_has_room_again(tmp_path, monkeypatch):
    own, full = os.write, []

    def sometimes(descriptor, content):
        if full:
            return own(descriptor, content[: full[0]]) if full[0] else _no_space()
        return own(descriptor, content)

    def _no_space():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks_module.os, "write", sometimes)
    sink = JsonLines(tmp_path / "m.jsonl")
    sink.write({"step": 1})
    for much in (0, 5):
        full[:] = [much]
        with pytest.raises(OSError):
            sink.write({"step": 2 + bool(much)})
        assert [row["step"] for row in read_rows(tmp_path / "m.jsonl")] == [1]
    full.clear()
    sink.write({"step": 4})
    sink.close()
    assert [row["step"] for row in read_rows(tmp_path / "m.jsonl")] == [1, 2, 3, 4]


def test_a_disk_that_takes_no_row_does_not_stop_training(small, tmp_path, monkeypatch, caplog):
    def full(self, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JsonLines, "write", full)
    monkeypatch.setattr("facetx.training.records.TensorBoard.write", full)
    monkeypatch.setattr("facetx.training.records.Terminal.write", full)
    assert run(small, tmp_path / "run").step == 12
    told = [r.message for r in caplog.records if "a row of metrics is not written" in r.message]
    assert len(told) == 3  # once each
    assert "JsonLines: a row of metrics is not written ([Errno 28] No space left on device)" in told[0]


def test_pictures_are_whole_or_not_there(small, tmp_path, monkeypatch, caplog):
    def half(folder, *_):
        folder.mkdir()
        (folder / "roc.png").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "write_pictures", half)
    assert run(small, tmp_path / "run").step == 12
    assert "pictures: could not be drawn ([Errno 28] No space left on device)" in caplog.text
    assert not [path for path in (tmp_path / "run").iterdir() if "pictures" in path.name]

    drawn = []
    monkeypatch.setattr(run_module, "write_pictures", lambda folder, rows, *_: (folder.mkdir(), drawn.append(rows)))
    run(small, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir() if "pictures" in path.name] == ["pictures"]
    assert [row["step"] for row in drawn[0]] == [3, 6, 6, 9, 12, 12]


def test_a_damaged_line_costs_that_line_and_is_said(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\xff": 2}\n[3]\n{"step": "x"}\n\n{"step": 5}\n{"step": 6')
    assert [row["step"] for row in read_rows(path)] == [1, 5]
    told = [record.message for record in caplog.records]
    assert [message.split(": ")[0].rpartition(":")[2] for message in told] == ["2", "3", "4"]
    assert "metrics.jsonl:2: left out, a damaged line" in told[0]


# ---- numbers


@pytest.mark.parametrize("free", [0, 2**50])
def test_weights_that_are_not_finite_stop_the_run_and_are_not_written(small, tmp_path, monkeypatch, free, caplog):
    caplog.set_level(logging.INFO, "facetx")
    own = loop.training_step

    def broken(r, batch, step):
        out = own(r, batch, step)
        if step == 6:
            with torch.no_grad():
                r.task.head.weight[0] = math.nan
        return out

    monkeypatch.setattr(loop, "training_step", broken)
    monkeypatch.setattr(write, "free_memory", lambda: free)
    raw = with_(small, train={"checkpoint_every": 1, "stop_after_bad_steps": 100})
    with pytest.raises(DivergedError, match=r"step_00000007: .* NaN or infinite numbers in task\.head\.weight"):
        run({**raw, "evaluators": [], "select": None}, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run").step == 6


def test_an_error_of_the_writer_shows_at_the_next_step(small, tmp_path, monkeypatch, caplog):
    own, failed = write.save_checkpoint, []

    def save(folder, meta, *what):
        if meta.step == 4:
            failed.append(meta.step)
            raise CheckpointError("step_00000004: could not be written")
        return own(folder, meta, *what)

    def wait():
        while not failed:
            time.sleep(0.01)
        time.sleep(0.05)

    said: list[int] = []
    monkeypatch.setattr(write, "save_checkpoint", save)
    monkeypatch.setattr(write, "free_memory", lambda: 2**50)
    looking = at_step(5, lambda: said.append("step_00000004: could not be written" in caplog.text))
    monkeypatch.setattr(loop, "training_step", looking)
    monkeypatch.setattr(loop, "training_step", at_step(4, wait))
    assert run(small, tmp_path / "run").step == 12
    assert said == [True]


def test_errors_of_the_data_save_first(small, tmp_path, monkeypatch):
    own, calls = loop.note_unreadable, []

    def note(*args):
        calls.append(1)
        if len(calls) == 6:
            raise DataError("too many are unreadable")
        own(*args)

    monkeypatch.setattr(loop, "note_unreadable", note)
    with pytest.raises(FacetxError, match="too many are unreadable"):
        run(small, tmp_path / "run")
    assert find_checkpoint(tmp_path / "run", state=True).step == 5
