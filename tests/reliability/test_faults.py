"""What goes wrong around a run costs no more than it must: signals, workers, evaluators, disks, and damaged files."""

import json
import multiprocessing
import os
import pty
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facetx import load_model
from facetx.checkpoints.format import find_checkpoint, read_checkpoint, sha256
from facetx.checkpoints.meta import FileFacts, Meta, write_meta
from facetx.config import check_settings
from facetx.data.workers import WorkerError
from facetx.errors import CheckpointError, DataError
from facetx.evaluators import embedding
from facetx.training import loop, sinks, start_run
from facetx.training.sinks import read_rows


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    """They cost more than the runs here; what is drawn is a page with the names of the results."""

    def draw(folder, rows, results, evaluators):
        folder.mkdir(exist_ok=True)
        (folder / "page.txt").write_text(str([*results]))

    monkeypatch.setattr("facetx.training.run.write_pictures", draw)


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


def at_step(number: int, do: Callable[[], object]) -> None:
    """Has ``do`` called in the midst of a step, once."""
    own = loop.training_step

    def step(run, batch, now):
        if now == number:
            do()
        return own(run, batch, now)

    loop.training_step = step


def rows_of(folder: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if not k.startswith("time/")} for r in read_rows(folder / "metrics.jsonl")]


def assert_same(a: Path, b: Path) -> None:
    first, second = find_checkpoint(a), find_checkpoint(b)
    assert first.step == second.step
    assert all(torch.equal(value, second.weights()[name]) for name, value in first.weights().items())
    assert rows_of(a) == rows_of(b)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, faces) -> Callable[[dict], Path]:
    """The folder of the unbroken run."""
    done: list[Path] = []

    def get(raw: dict) -> Path:
        if not done:
            done.append(tmp_path_factory.mktemp("straight") / "run")
            run(raw, done[0])
        return done[0]

    return get


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_loses_no_step(small, straight, tmp_path, number):
    raw = with_(small, data={"workers": 2})

    def target():
        at_step(6, lambda: os.killpg(0, number))
        return run(raw, tmp_path / "run").signal

    assert in_a_session(target) == number
    assert find_checkpoint(tmp_path / "run").step == 7
    run(raw, tmp_path / "run")
    assert_same(straight(small), tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nor_does_one_in_an_evaluation_which_is_asked_again(small, straight, tmp_path, number):
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
    assert_same(straight(small), tmp_path / "run")


def test_a_closed_terminal_loses_no_step(small, straight, tmp_path):
    pid, terminal = pty.fork()
    if not pid:
        at_step(6, lambda: (tmp_path / "now").touch() or time.sleep(1))
        os._exit(run(small, tmp_path / "run").signal)
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
    assert_same(straight(small), tmp_path / "run")


def test_a_killed_worker_ends_the_run_with_a_checkpoint_and_its_own_words(small, straight, tmp_path):
    raw = with_(small, data={"workers": 2}, train={"checkpoint_every": 100})

    def target():
        at_step(1, lambda: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL))
        try:
            run(raw, tmp_path / "run")
        except WorkerError as error:
            (tmp_path / "words").write_text(str(error))
            return 2

    assert in_a_session(target) == 2
    assert "a loader worker was killed by the system, probably out of memory" in (tmp_path / "words").read_text()
    assert find_checkpoint(tmp_path / "run").step >= 2
    run(raw, tmp_path / "run")
    assert_same(straight(small), tmp_path / "run")


def test_an_evaluation_that_fails_costs_no_step_and_is_asked_again(small, straight, tmp_path, monkeypatch):
    own = embedding._forward
    for before in (3, 1):  # forward passes: the one that is tried before training, and those of the first evaluation
        calls = []

        def fails(*args, calls=calls, before=before):
            calls.append(1)
            if len(calls) > before:
                raise RuntimeError("a bug in an evaluator")
            return own(*args)

        with monkeypatch.context() as patch:
            patch.setattr(embedding, "_forward", fails)
            with pytest.raises(RuntimeError, match="a bug in an evaluator"):
                run(small, tmp_path / "run")
        assert find_checkpoint(tmp_path / "run").step == 12
    monkeypatch.setattr(loop, "training_step", None)  # nothing is trained twice
    assert [*run(small, tmp_path / "run").results] == ["val"]
    assert_same(straight(small), tmp_path / "run")
    assert (tmp_path / "run/pictures").is_dir()


def test_embeddings_that_are_not_finite_are_told_by_their_images(small, straight, faces, monkeypatch):
    model = load_model(straight(small))
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


@pytest.fixture
def folder(small, tmp_path, monkeypatch) -> Path:
    """Of a run that was stopped after 8 of 12 steps, with checkpoints after 6 and 8; the best one is the first."""
    own = loop.training_step

    def stopped(run, batch, now):
        if now == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(run, batch, now)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", stopped)
        run(small, tmp_path / "run")
    assert [p.name for p in sorted((tmp_path / "run/checkpoints").glob("step_*"))] == ["step_00000006", "step_00000008"]
    return tmp_path / "run"


def test_a_description_with_any_changed_bit_is_damaged(folder, caplog):
    file = folder / "checkpoints/step_00000008/meta.json"
    whole, before = file.read_bytes(), read_checkpoint(file.parent).meta
    for place in range(0, len(whole), 41):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 7
        file.write_bytes(changed)
        try:
            meta = read_checkpoint(file.parent).meta
        except CheckpointError:
            continue
        assert meta == before
    values = json.loads(whole)
    file.write_text(json.dumps({**values, "input": {**values["input"], "mean": [927.5] * 3}}))
    for pointer in ("LAST", "BEST"):
        assert find_checkpoint(folder, pointer).step == 6
    assert load_model(folder, pointer="LAST").meta["step"] == 6
    assert "meta.json is damaged, or was changed by hand (its own hash differs); using step_00000006" in caplog.text


@pytest.mark.parametrize("missing", ["step", "settings", "input", "files", "sha256", "format"])
def test_a_description_that_lacks_something_is_damaged(folder, missing):
    file = folder / "checkpoints/step_00000008/meta.json"
    values = json.loads(file.read_text())
    del values[missing]
    file.write_text(json.dumps(values))
    assert find_checkpoint(folder).step == 6


def test_and_is_passed_over_by_a_resume(small, straight, folder):
    (folder / "checkpoints/step_00000008/meta.json").write_bytes(b"\xff\0")
    run(small, folder)
    assert_same(straight(small), folder)


@pytest.mark.parametrize(
    "content", [b"../../evil", b"/etc", b"\xff\xfe\0", b"", b"step_00000099", b"step_1" + b"0" * 200]
)
@pytest.mark.parametrize("pointer", ["LAST", "BEST"])
def test_a_pointer_names_a_checkpoint_of_its_run_and_nothing_else(folder, pointer, content):
    (folder.parent / "evil").mkdir()
    (folder / "checkpoints" / pointer).write_bytes(content)
    assert find_checkpoint(folder, pointer).path.parent == folder / "checkpoints"
    assert load_model(folder, pointer=pointer).meta["step"] in (6, 8)


def test_what_a_killed_process_left_goes_at_the_next_start(small, straight, folder):
    checkpoints = folder / "checkpoints"
    (checkpoints / ".writing_0123456789ab").mkdir()
    (checkpoints / ".writing_0123456789ab/state.pt").touch()
    (checkpoints / ".writing_ba9876543210").touch()
    (checkpoints / "BEST").write_text("step_00000004\n")
    run(small, folder)
    names = {p.name for p in checkpoints.iterdir()}
    assert names == {p.name for p in (straight(small) / "checkpoints").iterdir()}
    assert (checkpoints / "BEST").read_text() == (straight(small) / "checkpoints/BEST").read_text()


def test_a_bad_line_of_metrics_costs_that_line(small, straight, folder, caplog):
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], b'{"step": \xff', *lines[1:]]))
    run(small, folder)
    assert "metrics.jsonl:2: left out, a damaged line" in caplog.text
    assert rows_of(folder) == rows_of(straight(small))


def spoil(folder: Path, change: Callable[[dict, dict], None]) -> None:
    """Changes weights and state of the last checkpoint, as somebody would whose description is right."""
    path = folder / "checkpoints/step_00000008"
    checkpoint = read_checkpoint(path)
    weights, state = checkpoint.weights(), checkpoint.state()
    change(weights, state)
    save_file(weights, path / "model.safetensors")
    torch.save(state, path / "state.pt")
    files = {n: FileFacts(bytes=(path / n).stat().st_size, sha256=sha256(path / n)) for n in checkpoint.meta.files}
    write_meta(path, checkpoint.meta.model_copy(update={"files": files}))


def first_moments(state: dict) -> dict:
    return next(moments for moments in state["moments"].values() if moments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w, s: first_moments(s).update(exp_avg=torch.zeros(3)), "its optimizer is another one"),
        (lambda w, s: first_moments(s).pop("exp_avg"), "its optimizer is another one"),
        (lambda w, s: first_moments(s).update(exp_avg_sq="x"), "its optimizer is another one"),
        (lambda w, s: first_moments(s).update(exp_avg=first_moments(s)["exp_avg"].long()), "its optimizer is another"),
        (lambda w, s: s["moments"].pop(next(iter(s["moments"]))), "its optimizer trained other parameters"),
        (lambda w, s: s["moments"].update(more={}), "its optimizer trained other parameters"),
        (lambda w, s: s.pop("moments"), "its training state is incomplete: moments is missing"),
        (lambda w, s: s.update(task=[1]), "its training state is incomplete: task is missing or of another kind"),
        (lambda w, s: w.pop(next(iter(w))), "missing"),
        (lambda w, s: s["progress"].pop("best"), "its progress is damaged"),
        (lambda w, s: s["progress"].update(counted="1"), "its progress is damaged"),
        (lambda w, s: s["progress"].update(sums=None), "its progress is damaged"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_before_anything_is_loaded(small, tmp_path, change, words):
    raw = with_(small, train={"steps": 8}, optim={"ema": 0.9})
    run(raw, tmp_path / "run")
    spoil(tmp_path / "run", change)
    with pytest.raises(CheckpointError, match=words):
        run(with_(raw, train={"steps": 12}), tmp_path / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 8 + b"{}", b"PK\x03\x04" + b"\0" * 60, b"\x80\x02c."])
def test_what_the_readers_cannot_read_is_an_error_of_the_checkpoint(small, folder, name, content):
    path = folder / "checkpoints/step_00000008"
    (path / name).write_bytes(content)
    meta = json.loads((path / "meta.json").read_text())
    facts = {"bytes": len(content), "sha256": sha256(path / name)}
    del meta["sha256"]
    write_meta(path, Meta.make(**{**meta, "files": {**meta["files"], name: facts}}))
    with pytest.raises(CheckpointError):
        run(with_(small, train={"steps": 12}), folder)


def test_a_disk_that_takes_no_row_for_a_while_costs_none(small, straight, tmp_path, monkeypatch, caplog):
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
    assert_same(straight(small), tmp_path / "run")


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
