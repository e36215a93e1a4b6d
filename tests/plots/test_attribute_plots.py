"""Pictures of attributes: the radar has the lines that it should, and what is wrong is said in words."""

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from facetx.evaluators.attributes import AttributeResult
from facetx.plots.attributes import in_words, plot_calibration, plot_radar
from facetx.plots.figures import COLORS


def result(right):
    """Ten images of three attributes, of which one in ``right`` is said wrongly."""
    labels = (np.arange(30).reshape(10, 3) % 2).astype(np.float32)
    signs = np.where(np.arange(30).reshape(10, 3) % right == 0, -1, 1)
    return AttributeResult("x", ("Male", "Bald", "Eyeglasses"), (signs * (4 * labels - 2)).astype(np.float32), labels,
                           np.full(3, 0.5))  # fmt: skip


def share(path, color):
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    return np.mean(np.abs(pixels - 255 * np.array(to_rgb(color))).max(axis=-1) < 12)


def test_the_radar_draws_each_result(tmp_path):
    plot_radar({"one": result(7)}, tmp_path / "one.png")
    assert share(tmp_path / "one.png", COLORS[0]) > 0.0005
    assert share(tmp_path / "one.png", COLORS[1]) == 0
    plot_radar({"one": result(7), "two": result(5)}, tmp_path / "two.png")
    assert share(tmp_path / "two.png", COLORS[1]) > 0.0005


def test_calibration_of_two_steps_alone(tmp_path):
    plot_calibration(result(7), tmp_path / "curve.png")
    assert share(tmp_path / "curve.png", COLORS[0]) > 0.001


def test_mistakes_in_words():
    found = result(7)
    assert found.worst(3) == [(0, 0), (2, 1), (4, 2)]
    assert in_words(found, 0, 0) == "Male: 88 %, labeled no"
    assert in_words(found, 2, 1) == "Bald: 12 %, labeled yes"
