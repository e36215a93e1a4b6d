"""Pictures of parsing: masks over their images beside the truth, the classes as bars, and the worst images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.data.mask_classes import Color, class_words
from facetx.data.sample import IGNORED, Map, move_image
from facetx.evaluators.parsing import ParsingResult
from facetx.metrics.parsing import BACKGROUND, Mask
from facetx.plots.figures import INK, PALE, axes, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = NDArray[np.uint8]
STRENGTH = 0.6
"""How much of an overlay is the class's color."""
UNKNOWN: Color = (128, 128, 128)
"""Of pixels without a label."""
SIDE = 256
"""Pixels of a picture's longer side on a sheet, at most."""


def overlay(image: Image, mask: Mask, colors: Sequence[Color], strength: float = STRENGTH) -> Image:
    """The image with each class but the background in its color, at the mask's size.

    Args:
        image: uint8 RGB, of any size.
        mask: (H, W) classes, 255 where that is not known.
        colors: (M,) of the classes.
        strength: Share of the color, in 0..1.
    """
    shape = mask.shape[0], mask.shape[1]
    if image.shape[:2] != shape:
        image = move_image(image, Map.resize(image.shape[:2], shape))
    table = np.full((IGNORED + 1, 3), UNKNOWN, np.float32)
    table[: len(colors)] = colors
    covered = (mask != BACKGROUND)[..., None]
    mixed = np.where(covered, (1 - strength) * image + strength * table[mask], image)
    out: Image = (mixed + 0.5).astype(np.uint8)
    return out


def triple(result: ParsingResult, dataset: FaceDataset, item: int) -> list[Image]:
    """An image, its label over it, and what the model says over it; small enough for a sheet."""
    sample = dataset[item]
    truth = overlay(sample["image"], sample["mask"], result.colors)
    said = overlay(sample["image"], result.said[item], result.colors)
    return [_small(picture) for picture in (sample["image"], truth, said)]


def _small(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    new = (max(1, round(scale * height)), max(1, round(scale * width)))
    return image if scale >= 1 else move_image(image, Map.resize((height, width), new))


def in_words(result: ParsingResult, item: int) -> str:
    """How one image is met."""
    return f"F1 {100 * result.image_f1[item]:.1f} %" if np.isfinite(result.image_f1[item]) else "background alone"


def plot_overlays(result: ParsingResult, dataset: FaceDataset, path: str | Path) -> None:
    """Images in even steps over the set: each, with its label, and with what the model says over it."""
    _sheet(result, dataset, result.shown(), "Image, label, and what the model says", path)


def plot_worst(result: ParsingResult, dataset: FaceDataset, path: str | Path) -> None:
    """The images of the lowest F1 in the same way, the lowest first."""
    worst = result.worst()
    _sheet(result, dataset, worst, "The lowest F1 of an image: image, label, and what the model says", path)


def _sheet(result: ParsingResult, dataset: FaceDataset, items: Sequence[int], title: str, path: str | Path) -> None:
    columns = 2
    rows = max(1, -(-len(items) // columns))
    figure = new_figure(10.4, 1.95 * rows + 1.5)
    for place, item in enumerate(items):
        for k, picture in enumerate(triple(result, dataset, item)):
            ax = figure.add_subplot(rows, 3 * columns, 3 * place + k + 1)
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if k != 1:
                words = in_words(result, item) if k else dataset.key(item)[-28:]
                ax.set_title(words, fontsize=8, color=INK, pad=4, loc="right" if k else "left")
    figure.suptitle(title if items else "No image has anything but background", fontsize=11, color=INK)
    _legend(figure, result)
    save(figure, path)


def _legend(figure: Figure, result: ParsingResult) -> None:
    from matplotlib.patches import Patch

    pairs = list(zip(result.classes, result.colors))[BACKGROUND + 1 :]
    patches = [Patch(color=_shade(color), label=class_words(name)) for name, color in pairs]
    figure.legend(handles=patches, loc="outside lower center", frameon=False, fontsize=9, ncols=min(len(patches), 7))


def _shade(color: Color) -> tuple[float, float, float]:
    """As matplotlib takes it."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def plot_classes(result: ParsingResult, path: str | Path) -> None:
    """F1 of each class as a bar with its 95 % interval, its IoU and the F1 of its boundary as marks beside it."""
    there = [i for i in range(len(result.classes)) if np.isfinite(result.rates["f1"][i])]
    rates = {name: 100 * values[there] for name, values in result.rates.items()}
    low, high = 100 * result.intervals["f1"][:, there]
    y = np.arange(len(there))[::-1]
    figure = new_figure(7.2, 0.34 * len(there) + 1.7)
    ax = axes(figure, 111, "%", "")
    ax.barh(y, rates["f1"], height=0.72, color=[_shade(result.colors[i]) for i in there], alpha=0.6, label="F1")
    around = np.abs(np.stack([rates["f1"] - low, high - rates["f1"]]))
    ax.errorbar(
        rates["f1"], y, xerr=around, fmt="none", ecolor=INK, capsize=3, linewidth=1.2, label="its 95 % interval"
    )
    ax.plot(rates["iou"], y, "|", color=INK, markersize=14, markeredgewidth=2.6, label="IoU")
    ax.plot(rates["boundary_f1"], y, "d", color="white", markeredgecolor=INK, markersize=6, label="boundary F1")
    for height, value in zip(y, rates["f1"]):
        ax.text(102, height, f"{value:.1f}", va="center", fontsize=9, color=INK)
    ax.set(xlim=(0, 110), xticks=range(0, 101, 20), yticks=y)
    ax.set_yticklabels([class_words(result.classes[i]) for i in there])
    ax.grid(axis="y", visible=False)
    if "mean_f1" in (found := result.summary()):
        ax.axvline(100 * found["mean_f1"], color=PALE, linestyle="--", linewidth=1.4, zorder=0, label="mean F1")
    handles, labels = ax.get_legend_handles_labels()
    kept = [(h, name) for h, name in zip(handles, labels) if name != "F1"]
    figure.legend(*zip(*kept), loc="outside lower center", frameon=False, fontsize=9, ncols=4)
    title = f"{result.name}: F1 of each class" + (
        f", mean {100 * found['mean_f1']:.2f} %" if "mean_f1" in found else ""
    )
    figure.suptitle(title, fontsize=11, color=INK)
    save(figure, path)


def pictures_of(result: ParsingResult, dataset: FaceDataset) -> dict[str, Callable[[str | Path], None]]:
    """What there is to draw of a result: name -> what draws it into a file."""
    return {
        "classes": lambda path: plot_classes(result, path),
        "overlays": lambda path: plot_overlays(result, dataset, path),
        "worst": lambda path: plot_worst(result, dataset, path),
    }
