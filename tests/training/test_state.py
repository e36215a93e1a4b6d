"""A training state that does not fit is refused by names, shapes and types, before anything of it is loaded."""

import math

import pytest
import torch

from facetx.checkpoints.format import Checkpoint, find_checkpoint
from facetx.config import check_settings
from facetx.errors import CheckpointError, ConfigError, DataError
from facetx.optim import MovingAverage
from facetx.training import build, start_run
from facetx.training.state import Progress, restore, weights_and_state

NAME = "backbone.encoder.blocks.0.mlp.0.weight"


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


@pytest.fixture
def plain(small):
    return {**small, "evaluators": [], "select": None, "train": {**small["train"], "steps": 4}}


class Given:
    """A checkpoint in memory, to change."""

    def __init__(self, path):
        found = find_checkpoint(path, state=True)
        self.path, self.meta, self._weights, self._state = found.path, found.meta, found.weights(), found.state()

    def weights(self):
        return self._weights

    def state(self):
        return self._state


@pytest.fixture(params=["adamw", "sgd", "ema"])
def given(request, plain, tmp_path):
    """Settings, and what they have trained."""
    optim = {"adamw": {"lr": 1e-3}, "sgd": {"name": "sgd", "lr": 1e-3}, "ema": {"lr": 1e-3, "ema": 0.9}}
    settings = check_settings({**plain, "optim": optim[request.param]})
    start_run(settings, tmp_path / "run")
    return settings, Given(tmp_path / "run")


def everything(run, ema, progress):
    return weights_and_state(run, ema, progress)


def equal(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def copy(values):
    if isinstance(values, dict):
        return {k: copy(v) for k, v in values.items()}
    return values.clone() if isinstance(values, torch.Tensor) else values


def restored(settings, checkpoint):
    run = build(settings)
    ema = MovingAverage(run.task.published(), settings.optim.ema) if settings.optim.ema else None
    progress = Progress()
    before = copy(everything(run, ema, progress))
    try:
        restore(run, ema, progress, checkpoint)
    except CheckpointError:
        assert all(equal(a, b) for a, b in zip(before, everything(run, ema, progress))), "something was loaded"
        raise
    return everything(run, ema, progress)


def test_what_was_saved_comes_back(given):
    settings, checkpoint = given
    weights, state = restored(settings, checkpoint)
    assert equal(weights, checkpoint.weights())
    assert equal(state, checkpoint.state())


CHANGES = {
    "a moment of another shape": lambda s: _moment(s, lambda v: v[:1], "first"),
    "a moment that is one number": lambda s: _moment(s, lambda v: v.sum(), "first"),
    "a moment that is missing": lambda s: s["moments"][NAME].popitem(),
    "a moment too many": lambda s: s["moments"][NAME].update(other=torch.ones(())),
    "a moment of whole numbers": lambda s: _moment(s, lambda v: v.long(), "first"),
    "a moment that is no tensor": lambda s: _moment(s, lambda v: v.tolist(), "first"),
    "moments that are a list": lambda s: s["moments"].update({NAME: [1]}),
    "no moments of a parameter": lambda s: s["moments"].update({NAME: {}}),
    "a parameter without moments": lambda s: s["moments"].pop(NAME),
    "no moments at all": lambda s: s["moments"].clear(),
    "no part for moments": lambda s: s.pop("moments"),
    "a head's weight that is missing": lambda s: s["task"].pop("head.weight"),
    "a head's weight of another shape": lambda s: s["task"].update({"head.weight": torch.ones(2, 2)}),
    "a weight too many": lambda s: s["task"].update({"head.more": torch.ones(2, 2)}),
    "a head's weight that is NaN": lambda s: s["task"]["head.weight"].fill_(math.nan),
    "no task": lambda s: s.update(task=None),
    "no progress": lambda s: s.pop("progress"),
    "progress that lacks a count": lambda s: s["progress"].pop("skipped"),
    "progress in words": lambda s: s["progress"].update(best="high"),
}


def _moment(state, change, _):
    moments = state["moments"][NAME]
    key = "exp_avg" if "exp_avg" in moments else "momentum_buffer"
    moments[key] = change(moments[key])


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_does_not_fit_is_refused_before_anything_is_loaded(given, change):
    settings, checkpoint = given
    CHANGES[change](checkpoint.state())
    with pytest.raises(CheckpointError, match="step_00000004"):
        restored(settings, checkpoint)


def test_an_average_that_lacks_a_key_is_refused(plain, tmp_path):
    settings = check_settings({**plain, "optim": {"lr": 1e-3, "ema": 0.9}})
    start_run(settings, tmp_path / "run")
    checkpoint = Given(tmp_path / "run")
    checkpoint.weights().pop(NAME.removeprefix("backbone."))
    with pytest.raises(CheckpointError, match=r"missing \(1\): encoder\.blocks\.0\.mlp\.0\.weight"):
        restored(settings, checkpoint)


def test_shapes_and_types_are_told_by_name(plain, tmp_path):
    settings = check_settings(plain)
    start_run(settings, tmp_path / "run")
    checkpoint = Given(tmp_path / "run")
    checkpoint.state()["moments"][NAME]["exp_avg"] = torch.ones(3, 3)
    checkpoint.state()["moments"][NAME]["step"] = 4
    with pytest.raises(CheckpointError, match=rf"see {NAME}(.*\n)+  misshaped \(1\): exp_avg \(3, 3\) for \(32, 16\)\n"
                       r"  mistyped \(1\): step int for float32"):  # fmt: skip
        restored(settings, checkpoint)


def test_a_parameter_that_has_had_no_gradient_has_no_moments(plain, tmp_path):
    """While the backbone is held still."""
    settings = check_settings({**plain, "train": {**plain["train"], "head_first_steps": 3, "steps": 4}})
    start_run(settings, tmp_path / "run")
    settings = check_settings({**plain, "train": {**plain["train"], "head_first_steps": 2, "checkpoint_every": 2}})
    start_run(settings, tmp_path / "held")
    held = Checkpoint(path := tmp_path / "held/checkpoints/step_00000002", find_checkpoint(path).meta)
    moments = held.state()["moments"]
    assert moments[NAME] is None
    assert moments["head.weight"].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert equal(restored(settings, held)[1], held.state())


def test_another_selection_has_no_best_yet(small, tmp_path):
    start_run(check_settings({**small, "train": {**small["train"], "steps": 6}}), tmp_path / "run")
    checkpoint = find_checkpoint(tmp_path / "run")
    assert checkpoint.meta.metrics["best"] is True
    for select, best in (("val/accuracy", checkpoint.meta.metrics["val/accuracy"]), ("val/auc", -math.inf)):
        run, progress = build(check_settings({**small, "select": select})), Progress()
        restore(run, None, progress, checkpoint)
        assert progress.best == best


# ---- settings and data that change


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("train", {"log_every": 2, "checkpoint_every": 3, "keep": 5, "steps": 8}),
        ("data", {"workers": 1, "skip_limit": 20}),
        ("name", "another"),
        ("evaluators", []),
    ],
)
def test_what_decides_no_weight_may_change(plain, tmp_path, section, change, caplog):
    start_run(check_settings(plain), tmp_path / "run")
    value = {**plain[section], **change} if isinstance(change, dict) else change
    start_run(check_settings({**plain, section: value}), tmp_path / "run")
    assert ("going on with other settings" in caplog.text) == (value != plain[section])


def test_every_other_setting_must_be_asked_for(plain, tmp_path):
    start_run(check_settings(plain), tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    for section, value in (("seed", 1), ("head", "arcface"), ("schedule", {"warmup_steps": 2})):
        with pytest.raises(ConfigError, match=rf"another run:\n  {section}.*\nChoose .*--resume-with-changes"):
            start_run(check_settings({**plain, section: value}), tmp_path / "run")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_other_people_are_not_gone_on_with_unasked(plain, faces, tmp_path, caplog):
    import shutil

    root = shutil.copytree(faces, tmp_path / "faces")
    raw = {**plain, "data": {**plain["data"], "args": {"root": str(root)}}}
    start_run(check_settings(raw), tmp_path / "run")
    (root / "person_0/4.png").unlink()
    raw = {**raw, "train": {**raw["train"], "steps": 8}}
    with pytest.raises(DataError, match=r"trained on other data \(images: 30, now 29; .*--resume-with-changes"):
        start_run(check_settings(raw), tmp_path / "run")
    assert start_run(check_settings(raw), tmp_path / "run", with_changes=True).step == 8
    assert "going on with other data: images: 30, now 29" in caplog.text
