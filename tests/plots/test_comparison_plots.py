"""The pictures of a comparison: each variant has its line, each evaluator its panel."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from facetx.plots.figures import COLORS, plot_comparison, plot_distributions, scale_losses


def share(path, color):
    """Share of the pixels that have this color, nearly."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    return np.mean(np.abs(pixels - 255 * np.array(to_rgb(color))).max(axis=-1) < 12)


def rows(loss, **measured):
    training = [{"step": s, "train/loss": loss, "train/softmax/accuracy": 0.3} for s in (10, 20)]
    return [*training, {"step": 20, **{k.replace("__", "/"): v for k, v in measured.items()}}]


def test_a_line_a_variant_and_a_panel_an_evaluator(tmp_path):
    one = {"one": rows(5.0)}
    plot_comparison(one, 64, tmp_path / "one.png")
    assert share(tmp_path / "one.png", COLORS[0]) > 0.001
    assert share(tmp_path / "one.png", COLORS[1]) == 0
    two = {"one": rows(5.0, val__top1=0.2, lfw__accuracy=0.7), "two": rows(-3.0, lfw__accuracy=0.6)}
    plot_comparison(two, 64, tmp_path / "two.png")
    assert share(tmp_path / "two.png", COLORS[1]) > 0.0005  # a loss below 0 has its place too
    width = [Image.open(tmp_path / f"{name}.png").width for name in ("one", "two")]
    assert width[1] > 2 * width[0]  # three panels for one
    plot_comparison({"one": rows(5.0, val__mean_f1=0.5, val__pixel_accuracy=0.7)}, 64, tmp_path / "parsing.png")
    assert width[0] < Image.open(tmp_path / "parsing.png").width < width[1]  # two: the pixels' accuracy has none


@pytest.mark.parametrize(
    "losses", [[3.2, 3.9], [5, 20], [0.9, 9.5], [-3, 5], [-0.5, 14], [-40, 30], [-38, -33], [0.001, 12], [0.2, 0.9]]
)
def test_the_axis_of_losses_has_numbers(losses):
    figure = Figure()
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.plot(losses)
    scale_losses(ax, losses)
    figure.canvas.draw()
    low, high = ax.get_ylim()
    assert low <= min(losses) < max(losses) <= high
    shown = [t.get_text() for t in ax.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert len([text for text in shown if text]) >= 3


def test_more_variants_than_colors(tmp_path):
    many = {f"v{i}": rows(float(i)) for i in range(2 * len(COLORS) + 1)}
    plot_comparison(many, 64, tmp_path / "many.png")
    assert all(share(tmp_path / "many.png", color) > 0 for color in COLORS)


def test_distributions_of_each_variant(tmp_path):
    same = np.arange(400) < 200
    apart = np.where(same, 0.6, -0.2) + np.linspace(-0.1, 0.1, 400)
    mixed = np.tile(np.linspace(-0.3, 0.3, 200), 2)
    plot_distributions({"apart": (apart, same)}, tmp_path / "apart.png")
    plot_distributions({"mixed": (mixed, same)}, tmp_path / "mixed.png")
    blue = [share(tmp_path / f"{name}.png", (0.35, 0.64, 0.80)) for name in ("apart", "mixed")]
    assert blue[0] > 2 * blue[1]  # where they overlap neither has its own color
    plot_distributions({f"v{i}": (apart, same) for i in range(5)}, tmp_path / "five.png")
    assert Image.open(tmp_path / "five.png").height > 1.5 * Image.open(tmp_path / "apart.png").height
