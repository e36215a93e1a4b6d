"""Pictures of attributes: a radar plot by region of the face, how far probabilities can be trusted, and what was most
wrong."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.data.attribute_groups import CELEBA, plain, regions_of
from facetx.data.base import FaceDataset
from facetx.evaluators.attributes import PUBLISHED, AttributeResult
from facetx.plots.figures import COLORS, INK, PALE, WRONG, axes, new_figure, save

MAJORITY = "majority baseline"


def plot_radar(results: Mapping[str, AttributeResult], path: str | Path) -> None:
    """Accuracy of each attribute, by region of the face, beside always giving its more frequent answer.

    Where the attributes are CelebA's, the published mean of the first model of ``PUBLISHED`` is a circle: its figures
    of each attribute are not published as numbers.

    Args:
        results: Name -> result, all of the attributes of the first.
        path: The picture.
    """
    first = next(iter(results.values()))
    regions = regions_of(first.attribute_names)
    order = [i for places in regions.values() for i in places]
    lines = {MAJORITY: _values([r.majority for r in first.rates], order)}
    lines |= {name: _values([r.accuracy for r in result.rates], order) for name, result in results.items()}
    angles = 2 * np.pi * np.arange(len(order)) / len(order)
    figure = new_figure(9.0, 10.4)
    figure.set_layout_engine("none")  # which takes the names at the rim for a part of the plot, and shrinks it
    ax = figure.add_axes((0.15, 0.235, 0.7, 0.7 * 9.0 / 10.4), projection="polar")
    lowest = min(float(np.nanmin(v)) for v in lines.values())
    bottom = 5 * np.floor(min(lowest, 90) / 5) - 5
    start = 0
    for k, places in enumerate(regions.values()):
        middle = angles[start] + np.pi * (len(places) - 1) / len(order)
        width = 2 * np.pi * len(places) / len(order)
        color = COLORS[k % len(COLORS)]
        ax.bar(middle, 100 - bottom, width, bottom, color=color, alpha=0.1, linewidth=0, label=list(regions)[k])
        start += len(places)
    styles = [(INK, "--"), *((color, "-") for color in COLORS)]
    for (name, values), (color, style) in zip(lines.items(), styles):
        closed = np.append(np.arange(len(order)), 0)
        ax.plot(angles[closed], values[closed], style, color=color, linewidth=1.6, label=f"{name}: {_mean(values)}")
    if set(map(plain, first.attribute_names)) >= set(map(plain, CELEBA)):
        who, published = next(iter(PUBLISHED.items()))
        circle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(
            circle, np.full(200, published["accuracy"]), ":", color=WRONG, label=f"{who}: {published['accuracy']} %"
        )
    ax.set(ylim=(bottom, 100), xticks=angles)
    names = [first.attribute_names[i].replace("_", " ") for i in order]
    ax.set_xticklabels([])
    for angle, name in zip(angles, names):
        turned = np.rad2deg(angle) + (180 if np.pi / 2 < angle < 3 * np.pi / 2 else 0)
        side = "right" if np.pi / 2 < angle < 3 * np.pi / 2 else "left"
        ax.text(angle, 100 + 0.02 * (100 - bottom), name, rotation=turned, rotation_mode="anchor", ha=side, va="center",
                fontsize=8, color=INK)  # fmt: skip
    ax.tick_params(colors=INK, labelsize=8)
    ax.grid(color=PALE, linewidth=0.6)
    ax.spines["polar"].set_visible(False)
    figure.suptitle("Accuracy of each attribute (%), and the mean of all", fontsize=11, color=INK)
    figure.legend(loc="lower center", frameon=False, fontsize=9, ncols=3)
    save(figure, path)


def _values(shares: Sequence[float | None], order: Sequence[int]) -> NDArray[np.float64]:
    return np.array([np.nan if (share := shares[i]) is None else 100 * share for i in order])


def _mean(values: NDArray[np.float64]) -> str:
    return f"{np.nanmean(values):.2f} %"


def plot_calibration(result: AttributeResult, path: str | Path) -> None:
    """How often attributes are there, by the probability that they are given, and how many labels that rests on."""
    c = result.calibration
    figure = new_figure(5.4, 5.4)
    ax = axes(figure, 111, "probability that is given (%)", "attribute is there (%)")
    ax.plot([0, 100], [0, 100], "--", color=PALE, label="calibrated")
    full = c.counts > 0
    sizes = 20 + 180 * np.sqrt(c.counts[full] / c.counts.max())
    ax.plot(100 * c.said[full], 100 * c.there[full], color=COLORS[0], linewidth=1.6)
    ax.scatter(100 * c.said[full], 100 * c.there[full], sizes, color=COLORS[0], label="area by the number of labels")
    ax.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(f"{result.name}: expected calibration error {100 * c.error:.2f} %", fontsize=11, color=INK)
    save(figure, path)


def plot_wrong(result: AttributeResult, dataset: FaceDataset, path: str | Path, count: int = 16) -> None:
    """The pictures whose label the model contradicts most surely, with what it says and what the label says."""
    worst = result.worst(count)
    columns = 8
    rows = max(1, -(-len(worst) // columns))
    figure = new_figure(1.55 * columns, 2.0 * rows + 0.4)
    for place, (item, attribute) in enumerate(worst, start=1):
        ax = figure.add_subplot(rows, columns, place)
        ax.imshow(dataset[item]["image"])
        ax.set(xticks=[], yticks=[])
        ax.set_title(in_words(result, item, attribute).replace(": ", ":\n"), fontsize=7, color=INK, pad=4)
    title = "Said most surely, and labeled otherwise" if worst else "No label is contradicted"
    figure.suptitle(title, fontsize=10, color=INK)
    save(figure, path)


def in_words(result: AttributeResult, item: int, attribute: int) -> str:
    """What a model says of one attribute of one image, beside its label."""
    name = result.attribute_names[attribute].replace("_", " ")
    label = "yes" if result.labels[item, attribute] == 1 else "no"
    return f"{name}: {100 * result.probabilities[item, attribute]:.0f} %, labeled {label}"


def pictures_of(result: AttributeResult, dataset: FaceDataset) -> dict[str, Callable[[str | Path], None]]:
    """What there is to draw of a result: name -> what draws it into a file."""
    return {
        "radar": lambda path: plot_radar({result.name: result}, path),
        "calibration": lambda path: plot_calibration(result, path),
        "wrong": lambda path: plot_wrong(result, dataset, path),
    }
