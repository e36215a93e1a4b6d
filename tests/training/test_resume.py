"""A run that is killed and taken up again ends as one that was not: the same weights and the same log, bit for bit."""

import os
import signal
from pathlib import Path

import pytest
from worlds import assert_equal, assert_same_run, die, in_a_process, run, with_

from facetx.checkpoints.format import find_checkpoint, read_checkpoint
from facetx.checkpoints.write import Writer
from facetx.config import check_settings, load_settings
from facetx.errors import CheckpointError, ConfigError
from facetx.training import build, loop
from facetx.training.sinks import read_rows


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They cost more than the runs here, and ``test_loop`` looks at them."""
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


def killed_run(raw: dict, folder: Path, step: int, where: str) -> None:
    """The run in a process of its own, which gets a kill -9 at ``step``."""

    own_step, own_save = loop.training_step, Writer.save

    def until_then(run, batch, now):
        return die() if now == step else own_step(run, batch, now)

    def save_half(self, meta, weights, state):
        if meta.step == step:
            os.replace = die
        own_save(self, meta, weights, state)

    def target():
        if where == "training_step":
            loop.training_step = until_then
        else:
            Writer.save = save_half
        run(raw, folder)

    assert in_a_process(target) == -signal.SIGKILL


@pytest.fixture(scope="module")
def straight(tmp_path_factory, faces):
    """Runs each variant once, unbroken."""
    done: dict[str, Path] = {}

    def get(name: str, raw: dict) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp(name) / "run"
            run(raw, done[name])
        return done[name]

    return get


# An epoch has 5 steps and a checkpoint is written every 4: these fall on, before and after both.
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 8, 9, 10, 11])
def test_a_kill_at_any_step_changes_nothing(small, straight, tmp_path, step):
    killed_run(small, tmp_path / "run", step, "training_step")
    run(with_(small, data={"workers": step % 3}), tmp_path / "run")
    assert_same_run(straight("plain", small), tmp_path / "run")


def test_nor_with_an_average_accumulation_and_several_heads(small, straight, tmp_path):
    sampler = {"name": "identities", "args": {"images": 2}}
    raw = with_(small, optim={"ema": 0.9, "accumulate": 2}, data={"sampler": sampler})
    raw["head"] = [small["head"], {"name": "triplet", "weight": 0.5}]
    killed_run(raw, tmp_path / "run", 7, "training_step")
    run(raw, tmp_path / "run")
    assert_same_run(straight("rich", raw), tmp_path / "run")


def test_nor_with_convolutions_in_channels_last(small, straight, tmp_path):
    raw = with_(small, train={"channels_last": True}, optim={"ema": 0.9})
    raw["model"] = {"name": "timm:test_resnet", "args": {"image_size": 32, "embedding_dim": 16}}
    assert build(check_settings(raw)).backbone.trunk.layer1[0].conv1.weight.stride()[1] == 1
    killed_run(raw, tmp_path / "run", 7, "training_step")
    run(raw, tmp_path / "run")
    assert_same_run(straight("channels_last", raw), tmp_path / "run")


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(small, straight, tmp_path):
    killed_run(small, tmp_path / "run", 8, "save")
    assert find_checkpoint(tmp_path / "run").step == 6
    run(small, tmp_path / "run")
    assert_same_run(straight("plain", small), tmp_path / "run")


def test_a_second_kill_changes_nothing_either(small, straight, tmp_path):
    killed_run(small, tmp_path / "run", 6, "training_step")
    killed_run(small, tmp_path / "run", 10, "training_step")
    run(small, tmp_path / "run")
    assert_same_run(straight("plain", small), tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(small, straight, tmp_path, monkeypatch, number):
    own = loop.training_step

    def step_and_signal(r, batch, step):
        if step == 6:
            os.kill(os.getpid(), number)
        return own(r, batch, step)

    monkeypatch.setattr(loop, "training_step", step_and_signal)
    before = signal.getsignal(number)
    outcome = run(small, tmp_path / "run")
    assert (outcome.signal, outcome.step) == (number, 7)
    assert find_checkpoint(tmp_path / "run").step == 7
    assert signal.getsignal(number) is before
    monkeypatch.setattr(loop, "training_step", own)
    assert run(small, tmp_path / "run").signal == 0
    assert_same_run(straight("plain", small), tmp_path / "run")


def test_a_damaged_checkpoint_is_passed_over_and_said_so(small, straight, tmp_path, caplog):
    run(with_(small, train={"steps": 8}), tmp_path / "run")
    whole = tmp_path / "run/checkpoints/step_00000008/state.pt"
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="step_00000008: state.pt is missing or damaged"):
        read_checkpoint(whole.parent)
    assert find_checkpoint(tmp_path / "run").step == 6
    assert "state.pt is missing or damaged; using step_00000006 instead" in caplog.text


def test_going_on_with_other_settings_is_said(small, tmp_path, caplog):
    run(with_(small, train={"steps": 4}), tmp_path / "run")
    other = with_(small, train={"steps": 8}, optim={"lr": 2e-3})
    with pytest.raises(
        ConfigError, match=r"another run:\n  optim.lr: 0.001 -> 0.002\nChoose a new --run-dir"
    ) as caught:
        run(other, tmp_path / "run")
    assert "--resume-with-changes" in str(caught.value)
    assert "train.steps" not in str(caught.value)
    assert find_checkpoint(tmp_path / "run").step == 4
    run(other, tmp_path / "run", with_changes=True)
    assert "going on with other settings: optim.lr: 0.001 -> 0.002; train.steps: 4 -> 8" in caplog.text
    assert find_checkpoint(tmp_path / "run").step == 8


def test_images_are_counted_through_a_change_of_the_batch_size(small, tmp_path):
    run(with_(small, train={"steps": 4, "log_every": 2}), tmp_path / "run")
    run(with_(small, train={"steps": 8, "log_every": 2, "batch_size": 3}), tmp_path / "run", with_changes=True)
    images = [row["images"] for row in read_rows(tmp_path / "run/metrics.jsonl") if "images" in row]
    assert images == [12, 24, 30, 36]


def test_settings_are_written_only_with_what_they_trained(small, tmp_path):
    folder = tmp_path / "run"
    raw = with_(small, model={"lora": {"rank": 2}}, train={"steps": 4})
    with pytest.raises(ConfigError, match="warm-up"):
        run({**raw, "schedule": {"warmup_steps": 4}}, folder)
    assert not folder.exists()

    run(raw, str(folder))
    began = (folder / "settings.yaml").read_bytes()
    assert load_settings(folder / "settings.yaml") == check_settings(raw)
    with pytest.raises(CheckpointError, match="of another model"):
        run(with_(raw, model={"lora": None}, train={"steps": 8}), folder, with_changes=True)
    assert (folder / "settings.yaml").read_bytes() == began


def test_a_finished_run_that_is_started_again_stays_as_it_is(small, tmp_path, monkeypatch):
    drawn = []

    def draw(folder, rows, results, evaluators):
        drawn.append([*results])
        folder.mkdir()

    monkeypatch.setattr("facetx.training.run.write_pictures", draw)
    run(small, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    outcome = run(with_(small, train={"log_every": 6}), tmp_path / "run")
    assert (outcome.step, outcome.results) == (12, {})
    with pytest.raises(ConfigError, match="optim.lr: 0.001 -> 0.002"):
        run(with_(small, optim={"lr": 2e-3}), tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert drawn == [["val"]]

    run(small, tmp_path / "new", str(tmp_path / "run"))
    assert not (tmp_path / "new").exists()

    (tmp_path / "run/pictures").rmdir()  # as if it had been killed before it drew them
    run(small, tmp_path / "run")
    assert drawn == [["val"], ["val"]]
    assert (tmp_path / "run/pictures").is_dir()


def test_a_checkpoint_of_another_model_is_refused(small, tmp_path):
    run(with_(small, train={"steps": 4}), tmp_path / "run")
    other = with_(small, model={"args": {**small["model"]["args"], "mlp_dim": 48, "depth": 2}})
    with pytest.raises(ConfigError, match="model.args.depth: 1 -> 2"):
        run(other, tmp_path / "run")
    with pytest.raises(CheckpointError) as caught:
        run(other, tmp_path / "run", with_changes=True)
    message = str(caught.value)
    assert "of another model" in message
    assert "missing (11)" in message  # the second block's parameters
    assert "misshaped (3)" in message  # the MLP's two weights and one bias


def test_resume_never_and_foreign_folders(small, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    for resume in ("auto", "never"):
        with pytest.raises(ConfigError, match="full: is not empty"):
            run(small, tmp_path / "full", resume)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        run(small, tmp_path / "new", str(tmp_path / "full"))


def test_a_new_folder_can_go_on_from_another_run(small, straight, tmp_path):
    short = with_(small, train={"checkpoint_every": 4})
    killed_run(short, tmp_path / "first", 6, "training_step")
    run(short, tmp_path / "second", str(tmp_path / "first"))
    a, b = find_checkpoint(straight("plain", small)), find_checkpoint(tmp_path / "second")
    assert_equal(a.state(), b.state())
