"""Each picture is written, in the asked size, and shows what it should: colors are counted."""

import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from facetx.evaluators.verification import VerificationResult
from facetx.metrics.verification import contiguous_folds
from facetx.plots.figures import (
    COLORS,
    RIGHT,
    WRONG,
    plot_pairs,
    plot_roc,
    plot_score_histogram,
    plot_training,
    training_panels,
)


def result(name, mean):
    rng = np.random.default_rng(0)
    same, fold = np.arange(600) % 60 < 30, contiguous_folds(600)
    scores = np.clip(rng.normal(np.where(same, mean, 0.05), 0.15), -1, 1)
    return VerificationResult(name, scores, same, fold, 20.0, True)


def share(path, color):
    """Share of the pixels that have this color, nearly."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    return np.mean(np.abs(pixels - 255 * np.array(to_rgb(color))).max(axis=-1) < 12)


def test_roc_draws_each_result(tmp_path):
    path = tmp_path / "roc.png"
    plot_roc({"one": result("one", 0.5)}, path)
    assert share(path, COLORS[0]) > 0.001
    assert share(path, COLORS[1]) == 0
    plot_roc({"one": result("one", 0.5), "two": result("two", 0.2)}, path)
    assert share(path, COLORS[1]) > 0.001
    assert 0.5 < share(path, "white") < 0.99


def test_histogram_of_ordinary_and_of_constant_scores(tmp_path):
    path = tmp_path / "scores.png"
    ordinary = result("one", 0.5)
    plot_score_histogram(ordinary, path)
    assert 0.3 < share(path, "white") < 0.95
    constant = np.ones(600)
    plot_score_histogram(VerificationResult("flat", constant, ordinary.same, ordinary.fold, 1.0, True), path)
    assert 0.3 < share(path, "white") < 0.999


def test_training_curves_with_and_without_evaluations(tmp_path):
    path = tmp_path / "training.png"
    rows = [{"step": s, "train/loss": 9 / s, "train/accuracy": 1 - 1 / s, "train/lr": 1e-3 / s} for s in range(1, 50)]
    plot_training(rows, path)
    assert share(path, COLORS[0]) > 0.001
    width = Image.open(path).width
    measured = [{"step": s, "lfw/accuracy": s / 60, "val/accuracy": s / 50, "seen/top1": s / 90} for s in (20, 40)]
    plot_training([*rows, *measured], path)
    assert share(path, COLORS[1]) > 0.0005
    assert Image.open(path).width > 1.4 * width


def test_shares_that_are_not_one_thing_have_an_axis_each():
    row = {"step": 1, "train/loss": -3.0, "train/accuracy": 0.5, "train/cosface/accuracy": 0.4, "train/lr": 1e-3}
    row |= {"val/accuracy": 0.7, "lfw/accuracy": 0.8, "lfw/accuracy_std": 0.1, "seen/top1": 0.2}
    assert [(title, keys) for title, _, keys in training_panels([row])] == [
        ("training loss", ["train/loss"]),
        ("training accuracy", ["train/accuracy", "train/cosface/accuracy"]),
        ("top-1, held-out images", ["seen/top1"]),
        ("verification accuracy", ["lfw/accuracy", "val/accuracy"]),
        ("learning rate", ["train/lr"]),
    ]


def test_a_loss_below_zero_is_drawn(tmp_path):
    for sign in (1, -1):
        rows = [{"step": s, "train/loss": sign * (5 + s / 10), "train/lr": 1e-3} for s in range(50)]
        plot_training(rows, tmp_path / f"{sign}.png")
    lines = [share(tmp_path / f"{sign}.png", COLORS[0]) for sign in (1, -1)]
    assert lines[1] > 0.8 * lines[0]


@pytest.mark.parametrize(("scores", "color", "absent"), [([0.9, 0.1], RIGHT, WRONG), ([0.1, 0.9], WRONG, RIGHT)])
def test_pairs_are_framed_by_the_decision(tmp_path, scores, color, absent):
    path = tmp_path / "pairs.png"
    gray = np.full((2, 28, 28, 3), 90, np.uint8)
    plot_pairs(gray, gray, scores, [True, False], 0.5, path)
    assert share(path, color) > 0.001
    assert share(path, absent) == 0
    assert share(path, "#5A5A5A") > 0.1


def test_pyplot_and_its_global_state_are_not_used(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test may have loaded it
    plot_roc({"one": result("one", 0.5)}, tmp_path / "roc.svg")
    assert (tmp_path / "roc.svg").read_text().startswith("<?xml")
    assert "matplotlib.pyplot" not in sys.modules
