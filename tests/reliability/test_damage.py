"""Files that are damaged, foreign, or left over: each is known for what it is before anything is made of it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import differences
import pytest
import torch
from doing import assert_same, killed_before, rows_of, run, with_
from safetensors.torch import save_file

from facetx import load_model
from facetx.checkpoints.format import find_checkpoint, read_checkpoint, sha256
from facetx.checkpoints.meta import FileFacts, Meta, write_meta
from facetx.errors import CheckpointError
from facetx.prepare.convert import split
from facetx.prepare.sources import open_source
from facetx.prepare.verify import verify
from facetx.training import loop

pytestmark = pytest.mark.usefixtures("plain_pictures")


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


def test_and_is_passed_over_by_a_resume(small, unbroken, folder):
    (folder / "checkpoints/step_00000008/meta.json").write_bytes(b"\xff\0")
    run(small, folder)
    assert_same(unbroken(small), folder)


@pytest.mark.parametrize(
    "content", [b"../../evil", b"/etc", b"\xff\xfe\0", b"", b"step_00000099", b"step_1" + b"0" * 200]
)
@pytest.mark.parametrize("pointer", ["LAST", "BEST"])
def test_a_pointer_names_a_checkpoint_of_its_run_and_nothing_else(folder, pointer, content):
    (folder.parent / "evil").mkdir()
    (folder / "checkpoints" / pointer).write_bytes(content)
    assert find_checkpoint(folder, pointer).path.parent == folder / "checkpoints"
    assert load_model(folder, pointer=pointer).meta["step"] in (6, 8)


def test_what_a_killed_process_left_goes_at_the_next_start(small, unbroken, folder):
    checkpoints = folder / "checkpoints"
    (checkpoints / ".writing_0123456789ab").mkdir()
    (checkpoints / ".writing_0123456789ab/state.pt").touch()
    (checkpoints / ".writing_ba9876543210").touch()
    (checkpoints / "BEST").write_text("step_00000004\n")
    run(small, folder)
    names = {p.name for p in checkpoints.iterdir()}
    assert names == {p.name for p in (unbroken(small) / "checkpoints").iterdir()}
    assert (checkpoints / "BEST").read_text() == (unbroken(small) / "checkpoints/BEST").read_text()


def test_a_bad_line_of_metrics_costs_that_line(small, unbroken, folder, caplog):
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], b'{"step": \xff', *lines[1:]]))
    run(small, folder)
    assert "metrics.jsonl:2: left out, a damaged line" in caplog.text
    assert rows_of(folder) == rows_of(unbroken(small))


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


@pytest.mark.parametrize("name", ["settings.yaml", "metrics.jsonl", "meta.json"])
def test_a_draft_in_a_run_is_no_foreign_file_and_goes(small, unbroken, tmp_path, name):
    killed_before(name, lambda: run(small, tmp_path / "run"))
    run(small, tmp_path / "run")
    assert [*differences.of_trainings(unbroken(small).parent, tmp_path)] == []


def test_a_draft_of_an_evaluations_note_goes(small, unbroken, folder):
    draft = folder / "checkpoints/step_00000006"
    killed_before("meta.json", lambda: write_meta(draft, read_checkpoint(draft).meta))
    assert [*draft.glob(".*")]
    run(small, folder)
    assert not [*draft.glob(".*")]


def test_a_draft_of_a_report_goes(faces, tmp_path):
    def verified():
        return verify(open_source(faces), tmp_path / "report.json")

    killed_before("report.json", verified)
    assert [p.name[:13] for p in tmp_path.iterdir() if p.suffix == ".part"] == [".report.json."]
    verified()
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_split_that_is_killed_before_it_appears_is_done_anew(faces, tmp_path):
    def work():
        return split(open_source(faces), tmp_path / "out", 0.4)

    killed_before("out", work)
    assert not (tmp_path / "out").exists()
    work()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["out", "train.txt", "val.txt"]
