"""Checkpoints on disk: nothing twice, whole or not there, believed only where their hashes agree."""

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import facetx
from facetx.checkpoints import format as checkpoints
from facetx.checkpoints import meta as meta_module
from facetx.checkpoints import write
from facetx.checkpoints.format import find_checkpoint, point, pointed, read_checkpoint, tidy
from facetx.checkpoints.meta import DamagedError, Meta, read_meta, write_meta
from facetx.checkpoints.weights import NotFiniteError, read_weights
from facetx.checkpoints.write import Writer, record_evaluation, save_checkpoint
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.base import Description
from facetx.errors import CheckpointError
from facetx.training import build, start_run
from facetx.training.sinks import read_rows

MODEL = {"name": "vit_p8s8_tiny", "args": {"image_size": 32, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8}}
OLD = Path(__file__).parent / "format_1"


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


def meta_of(step: int, **more) -> Meta:
    return Meta.make(step=step, settings={"name": "x", "model": MODEL}, input=InputContract(size=32), **more)


def saved(folder: Path, step: int, value: float = 1.0, **more):
    return save_checkpoint(folder, meta_of(step, **more), {"w": torch.full((3,), value)}, {"task": {}, "n": step})


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# ---- what stands in them


def files_of(checkpoint) -> dict:
    return {p.name for p in checkpoint.path.iterdir()}


@pytest.mark.parametrize("ema", [None, 0.9])
def test_nothing_is_stored_twice(small, tmp_path, ema):
    raw = {**small, "evaluators": [], "select": None, "optim": {**small["optim"], "ema": ema}}
    outcome = start_run(check_settings(raw), tmp_path / "run")
    checkpoint = find_checkpoint(tmp_path / "run")
    assert files_of(checkpoint) == {"model.safetensors", "state.pt", "meta.json"}
    own = outcome.run.task.state_dict()
    weights, state = checkpoint.weights(), checkpoint.state()
    published = outcome.ema.state if ema else outcome.run.backbone.state_dict()
    assert weights.keys() == published.keys()
    assert all(torch.equal(v, published[k]) for k, v in weights.items())
    besides = {k: v for k, v in own.items() if ema or not k.startswith("backbone.")}
    assert state["task"].keys() == besides.keys()
    assert all(torch.equal(v, besides[k]) for k, v in state["task"].items())
    assert state["moments"].keys() == dict(outcome.run.task.named_parameters()).keys()
    numbers = sum(v.numel() for v in [*own.values(), *(published.values() if ema else ())])
    numbers += 2 * sum(p.numel() + 1 for p in outcome.run.task.parameters())
    size = sum((checkpoint.path / name).stat().st_size for name in ("model.safetensors", "state.pt"))
    assert size < 4 * numbers + 100_000  # headers of some hundred bytes a tensor


def test_the_description_says_what_a_model_is_built_of(small, tmp_path):
    settings = check_settings(small)
    run = start_run(settings, tmp_path / "run").run
    meta = find_checkpoint(tmp_path / "run").meta
    assert (meta.step, meta.format, meta.evaluated, meta.torch) == (12, 2, True, torch.__version__)
    assert meta.settings.model == settings.model
    assert meta.settings.model_dump(mode="json") == settings.model_dump(mode="json")
    assert meta.input == run.backbone.contract
    assert meta.data == Description(6)
    assert meta.digest == run.dataset.digest()
    rows = [row for row in read_rows(tmp_path / "run/metrics.jsonl") if row["step"] == 12]
    assert meta.metrics == {**rows[0], **rows[1]}


def test_only_what_is_read_is_hashed(tmp_path, monkeypatch):
    checkpoint = saved(tmp_path, 3)
    hashed = []
    own = checkpoints.sha256
    monkeypatch.setattr(checkpoints, "sha256", lambda path: hashed.append(path.name) or own(path))
    flip(checkpoint.path / "state.pt", 200)
    found = find_checkpoint(tmp_path)
    assert torch.equal(found.weights()["w"], torch.ones(3))
    assert hashed == ["model.safetensors"]  # once, though it was looked at twice
    with pytest.raises(DamagedError, match=r"step_00000003: state\.pt is missing or damaged"):
        found.state()
    with pytest.raises(DamagedError, match="no whole checkpoint is left"):
        find_checkpoint(tmp_path, state=True)


# ---- damage


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "meta.json"])
def test_a_flipped_bit_anywhere_is_damage(tmp_path, name, caplog):
    saved(tmp_path, 1, 1.0)
    path = saved(tmp_path, 2, 2.0).path
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 60, replace=False):
        flip(path / name, int(place))
        if name != "meta.json" or _says_something_else(path / name, whole):
            assert find_checkpoint(tmp_path, state=True).step == 1, place
        (path / name).write_bytes(whole)
    assert "using step_00000001 instead" in caplog.text
    assert find_checkpoint(tmp_path, state=True).step == 2


def _says_something_else(path: Path, whole: bytes) -> bool:
    """JSON may be the same in other words: a space for a line's end, "E" for "e"."""
    try:
        return json.loads(path.read_bytes()) != json.loads(whole)
    except ValueError:
        return True


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "meta.json is damaged"),
        (b"\xff\xfe{}", "meta.json is damaged"),
        (b"[" * 100_000, "meta.json is damaged"),
        (b"[1]", "holds no description"),
        (b"{}", "its own hash differs"),
        (b'{"format": 1}', "step: Field required"),
        (
            b'{"format": 1, "step": 3, "settings": {"name": "x"}}',
            "settings.model: Field required, input: Field required",
        ),
        (b'{"format": 2, "step": 3}', "its own hash differs"),
    ],
)
def test_a_description_that_is_none_is_damage(tmp_path, content, words):
    path = saved(tmp_path, 1).path
    (path / "meta.json").write_bytes(content)
    with pytest.raises(DamagedError, match=words):
        read_checkpoint(path)
    for use in (lambda: facetx.load_model(tmp_path), lambda: facetx.load_model(path)):
        with pytest.raises(CheckpointError, match=words):
            use()


def rewritten(path: Path, **changes) -> None:
    """The description with changes, and the right hash."""
    content = {**read_meta(path).as_dict(), **changes}
    content["sha256"] = meta_module._hash(content)
    (path / "meta.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": "3"}, "step: Input should be a valid integer"),
        ({"step": -1}, "step: "),
        ({"step": True}, "step: "),
        ({"input": {"size": 32, "std": [0.0]}}, "input: .*std must be above 0"),
        ({"input": {"size": 32, "colour": "RGB"}}, "input.colour: "),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
        ({"files": {}}, r"it names no model\.safetensors"),
        ({"data": {"num_classes": "many"}}, "data.num_classes"),
        ({"settings": {"name": "x", "model": {"args": {}}}}, "settings.model.name: Field required"),
        ({"surprise": 1}, "surprise: Extra inputs"),
    ],
)
def test_each_field_of_a_description_is_checked(tmp_path, changes, words):
    path = saved(tmp_path, 1).path
    rewritten(path, **changes)
    with pytest.raises(DamagedError, match=f"meta.json is damaged .*{words}"):
        read_checkpoint(path)


def test_another_format_is_said_and_not_passed_over(tmp_path):
    saved(tmp_path, 1)
    rewritten(saved(tmp_path, 2).path, format=3)
    with pytest.raises(CheckpointError, match="step_00000002: written in format 3, this facetx reads formats 1 to 2"):
        find_checkpoint(tmp_path)


def test_numbers_that_json_does_not_know_survive(tmp_path):
    path = saved(tmp_path, 1, metrics={"a": math.nan, "b": math.inf, "c": 0.1}).path
    metrics = read_meta(path).metrics
    assert math.isnan(metrics["a"])
    assert (metrics["b"], metrics["c"]) == (math.inf, 0.1)


def test_weights_alone_are_no_state(tmp_path):
    checkpoint = save_checkpoint(tmp_path, meta_of(0), {"w": torch.ones(2)})
    assert files_of(checkpoint) == {"model.safetensors", "meta.json"}
    with pytest.raises(CheckpointError, match="has weights and no training state"):
        find_checkpoint(tmp_path, state=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".ckpt"])
def test_what_a_reader_makes_of_nonsense_is_an_error_of_ours(tmp_path, suffix):
    rng = np.random.default_rng(1)
    good = tmp_path / f"good{suffix}"
    if suffix == ".npz":
        np.savez(good, w=np.ones(3))
    elif suffix == ".safetensors":
        write.save_file({"w": torch.ones(3)}, good)
    else:
        torch.save({"w": torch.ones(3)}, good)
    whole = good.read_bytes()
    file = tmp_path / f"bad{suffix}"
    for trial in range(60):
        content = bytearray(whole if trial % 2 else rng.bytes(trial))
        for place in rng.integers(0, len(whole), 3) if trial % 2 else ():
            content[place] = rng.integers(256)
        file.write_bytes(content[: len(content) - trial // 4])
        with contextlib.suppress(CheckpointError):  # and no other error
            read_weights(file)


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros(2**25, np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**16
    with pytest.raises(CheckpointError, match=r"bomb.npz: .*unpacks to 33554\d+ bytes; at most"):
        read_weights(tmp_path / "bomb.npz")
    np.savez(tmp_path / "other.npz", w=np.ones(3, ">f4"))
    with pytest.raises(CheckpointError, match=r"other.npz: cannot be read as .npz .*byte order"):
        read_weights(tmp_path / "other.npz")


# ---- pointers and order


@pytest.mark.parametrize("content", [b"../../evil\n", b"/etc\n", b"\xff\xfe\x00", b"", b"step_1", b"step_00000002/.."])
@pytest.mark.parametrize("pointer", ["LAST", "BEST"])
def test_a_pointer_names_a_checkpoint_of_its_run_and_nothing_else(tmp_path, content, pointer, caplog):
    saved(tmp_path / "evil", 9)
    folder = tmp_path / "run/checkpoints"
    saved(folder, 1)
    saved(folder, 2)
    (folder / pointer).write_bytes(content)
    assert find_checkpoint(tmp_path / "run", pointer).step == 2
    assert f"{pointer}: is damaged, it names no checkpoint of this run" in caplog.text
    tidy(folder, 2, 2)
    assert pointed(folder, "LAST") == folder / "step_00000002"
    assert not (folder / "BEST").exists()


def test_the_best_is_known_even_where_its_pointer_was_not_moved_in_time(tmp_path, monkeypatch):
    saved(tmp_path, 1, metrics={"best": True})
    point(tmp_path, "BEST", "step_00000001")
    checkpoint = saved(tmp_path, 2)
    saved(tmp_path, 3, metrics={"best": False})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "point", killed)
    with pytest.raises(KeyboardInterrupt):
        record_evaluation(checkpoint, {"acc": 0.9, "best": True}, best=True)
    assert (tmp_path / "BEST").read_text() == "step_00000001\n"
    assert find_checkpoint(tmp_path, "BEST").step == 2
    tidy(tmp_path, 3, keep=1)
    assert (tmp_path / "BEST").read_text() == "step_00000002\n"
    assert [p.name for p in checkpoints.steps_in(tmp_path)] == ["step_00000003", "step_00000002"]


def test_what_was_left_half_done_goes_at_the_next_start(tmp_path):
    for step in (1, 2, 3, 4, 5):
        saved(tmp_path, step)
    (tmp_path / ".writing_abc").mkdir()
    (tmp_path / ".writing_abc/state.pt").write_bytes(b"half")
    (tmp_path / ".writing_pointer").write_text("step")
    tidy(tmp_path, 4, keep=2)  # 5 is damaged, say
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LAST", "step_00000003", "step_00000004"]
    assert (tmp_path / "LAST").read_text() == "step_00000004\n"


# ---- writing


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    saved(tmp_path, 1)
    state = {"task": {"head.w": torch.tensor([1.0, math.nan])}, "moments": {"a": {"exp_avg": torch.tensor(math.inf)}}}
    with pytest.raises(
        NotFiniteError, match=r"step_00000002: is not written, .* in task\.head\.w, moments\.a\.exp_avg"
    ):
        save_checkpoint(tmp_path, meta_of(2), {"w": torch.ones(1)}, state)
    with pytest.raises(NotFiniteError, match="numbers in w$"):
        save_checkpoint(tmp_path, meta_of(2), {"w": torch.full((2,), -math.inf)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LAST", "step_00000001"]
    assert find_checkpoint(tmp_path).step == 1


def test_weights_that_start_not_finite_are_refused_by_name(small, tmp_path):
    run = build(check_settings(small))
    weights = run.backbone.state_dict()
    name = next(k for k, v in weights.items() if v.is_floating_point())
    weights[name] = torch.full_like(weights[name], math.nan)
    torch.save(weights, tmp_path / "w.pt")
    model = {**small["model"], "init_from": str(tmp_path / "w.pt")}
    with pytest.raises(CheckpointError, match=f"w.pt: has NaN or infinite numbers in {name}"):
        build(check_settings({**small, "model": model}))


def tree():
    torch.manual_seed(0)
    weights = {"a": torch.rand(50, 3), "b": torch.arange(4)}
    return weights, {"task": {"h": torch.rand(5)}, "moments": {"x": {"step": torch.tensor(3.0)}, "y": None}, "n": [1.5]}


def test_in_the_background_and_in_the_foreground_the_same_comes_out(tmp_path, monkeypatch):
    threads = []
    own = write.save_checkpoint
    record = lambda *args: threads.append(threading.current_thread()) or own(*args)  # noqa: E731
    monkeypatch.setattr(write, "save_checkpoint", record)
    weights, state = tree()
    for name, free in (("back", 2**50), ("fore", 0)):
        monkeypatch.setattr(write, "free_memory", lambda free=free: free)
        writer = Writer(tmp_path / name, keep=2)
        writer.save(meta_of(1), weights, state)
        assert writer.finished().step == 1
        assert writer.finished() is None
        writer.close()
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()
    for name in ("model.safetensors", "state.pt", "meta.json"):
        back, fore = (tmp_path / where / "step_00000001" / name for where in ("back", "fore"))
        assert back.read_bytes() == fore.read_bytes()


def test_what_changes_while_it_is_written_is_not_written(tmp_path, monkeypatch):
    go = threading.Event()
    own = write.save_checkpoint
    monkeypatch.setattr(write, "save_checkpoint", lambda *args: go.wait(10) and own(*args))
    monkeypatch.setattr(write, "free_memory", lambda: 2**50)
    weights, state = tree()
    expected = weights["a"].clone()
    writer = Writer(tmp_path, keep=2)
    writer.save(meta_of(1), weights, state)
    assert not writer.idle
    weights["a"].zero_()
    state["task"]["h"].zero_()
    go.set()
    checkpoint = writer.finished()
    assert torch.equal(checkpoint.weights()["a"], expected)
    assert checkpoint.state()["task"]["h"].abs().min() > 0
    writer.close()


def test_memory_is_looked_up():
    free = write.free_memory()
    assert 2**20 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# ---- format 1


def embedding(path) -> list[float]:
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))[0]
    return facetx.load_model(path, "cpu").embed(image).ravel().tolist()


def test_format_1_is_loaded():
    expected = json.loads((OLD / "expected.json").read_text())
    assert embedding(OLD) == pytest.approx(expected["embedding"], abs=1e-5)
    checkpoint = find_checkpoint(OLD, state=True)
    assert (checkpoint.meta.format, checkpoint.step, checkpoint.meta.data) == (1, 4, Description(6))
    average, task = checkpoint.weights(), checkpoint.state()["task"]
    assert any(not torch.equal(v, task[f"backbone.{k}"]) for k, v in average.items())


def test_a_model_is_loaded_without_the_trainer():
    code = f"import facetx, sys; facetx.load_model({str(OLD)!r}, 'cpu'); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "facetx.checkpoints.format" in out
    assert not [name for name in out if name.startswith(("facetx.training", "facetx.plots", "tensorboard"))]


def test_a_run_goes_on_from_format_1(tmp_path):
    expected = json.loads((OLD / "expected.json").read_text())
    settings = check_settings(json.loads((OLD / "meta.json").read_text())["settings"])
    outcome = start_run(settings, tmp_path / "run", str(OLD))
    assert outcome.step == 8
    rows = read_rows(tmp_path / "run/metrics.jsonl")
    assert [row["step"] for row in rows] == [6, 8]
    for row, before in zip(rows, expected["rows"]):
        for key in ("train/loss", "train/center_loss/center_distance", "train/grad_norm", "train/lr"):
            assert row[key] == pytest.approx(before[key], rel=1e-4)
    assert embedding(tmp_path / "run") == pytest.approx(expected["after_8_steps"], abs=1e-5)
    assert find_checkpoint(tmp_path / "run").meta.format == 2
    assert load_file(find_checkpoint(tmp_path / "run").path / "model.safetensors").keys() == outcome.ema.state.keys()


def test_a_description_of_format_1_is_checked_too(tmp_path):
    path = tmp_path / "step_00000004"
    path.mkdir()
    for name in ("meta.json", "model.safetensors", "train.pt"):
        (path / name).write_bytes((OLD / name).read_bytes())
    meta = json.loads((path / "meta.json").read_text())
    del meta["input"]
    (path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DamagedError, match="input: Field required"):
        facetx.load_model(tmp_path)
    write_meta(path, find_checkpoint(OLD).meta)
