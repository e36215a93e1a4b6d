"""Pictures of a run: training curves, ROC, score histogram, a sheet of pairs with their scores; and of several runs.

Each function writes one file, of the type that its suffix names (png, pdf, svg), and touches no global state of
matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetx.evaluators.identification import IdentificationResult
from facetx.evaluators.templates import TemplateResult
from facetx.evaluators.verification import VerificationResult
from facetx.metrics.roc import MIN_EXPECTED_ACCEPTS, auc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the color-blind too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
RIGHT, WRONG = "#009E73", "#D55E00"
COMPARED = {"top1": "top-1", "accuracy": "accuracy", "mean_f1": "mean F1", "mean_iou": "mean IoU"}
"""Numbers of evaluators that stand in a comparison of runs, and what they are called there."""
INK, PALE = "#333333", "#D9D9D9"


def plot_roc(results: Mapping[str, VerificationResult], path: str | Path) -> None:
    """ROC curves over a logarithmic FAR axis, the TAR at each reported FAR with its 95 % interval.

    The gray range on the left is where fewer than ten different pairs are expected to be accepted (of the result that
    has most of them): what stands there hangs on a few pairs.
    """
    figure = new_figure(7.2, 5.0)
    ax = axes(figure, 111, "FAR: different people accepted (%)", "TAR: same person accepted (%)")
    most = max(r.roc.different for r in results.values())
    left = 0.5 / most
    ax.axvspan(
        100 * left,
        100 * MIN_EXPECTED_ACCEPTS / most,
        color="#EFEFEF",
        zorder=0,
        linewidth=0,
        label=f"fewer than {MIN_EXPECTED_ACCEPTS} of {most:,} different pairs: not well supported",
    )
    for i, (name, result) in enumerate(results.items()):
        color, a = COLORS[i % len(COLORS)], result.accuracy
        accuracy = "" if a is None else f"accuracy {100 * a.mean:.2f} % (se {100 * a.se:.2f}), "
        free = (
            int(np.searchsorted(result.roc.fpr, 0, side="right")) - 1
        )  # the last point that accepts no different pair
        ax.step(
            100
            * np.maximum(result.roc.fpr[free:], left),  # FAR 0 has no place on a log axis: it stands at its left end
            100 * result.roc.tpr[free:],
            where="post",
            color=color,
            linewidth=1.8,
            label=f"{name}: {accuracy}AUC {100 * result.auc:.2f} %",
        )
        for t in result.tars:
            ax.errorbar(
                100 * t.target,
                100 * t.tar,
                yerr=[[100 * (t.tar - t.low)], [100 * (t.high - t.tar)]],
                fmt="o",
                markersize=5,
                color=color,
                markerfacecolor=color if t.supported else "white",
                capsize=3,
                linewidth=1.2,
                zorder=3,
            )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlim(100 * left, 100)
    ax.set_ylim(0, 101)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    save(figure, path)


def plot_score_histogram(result: VerificationResult, path: str | Path) -> None:
    """How the scores of same and of different pairs lie about the threshold."""
    figure = new_figure(7.2, 4.4)
    ax = axes(figure, 111, "cosine of the two embeddings", "share of each kind of pairs (%)")
    edges = np.linspace(min(result.scores.min(), 0), max(result.scores.max(), 1e-3), 61)
    for kind, chosen, color in (("same", result.same, COLORS[0]), ("different", ~result.same, COLORS[1])):
        scores = result.scores[chosen]
        ax.hist(
            scores,
            bins=edges.tolist(),
            weights=np.full(len(scores), 100 / len(scores)),
            color=color,
            alpha=0.65,
            label=f"{kind}: {len(scores):,} pairs, mean {scores.mean():.3f}",
        )
    ax.axvline(result.threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {result.threshold:.3f}")
    figure.suptitle(f"{result.name}: equal error rate {100 * result.eer:.2f} %", fontsize=11, color=INK)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=3)
    save(figure, path)


def plot_templates(result: TemplateResult, path: str | Path) -> None:
    """TAR of templates over a logarithmic FAR axis, with its 95 % interval; dashed where the FAR is not supported."""
    figure = new_figure(7.2, 4.4)
    ax = axes(figure, 111, "FAR: different people accepted (%)", "TAR: same person accepted (%)")
    curve = [t for t in result.curve if t.far > 0]
    far, tar, low, high = (100 * np.array([getattr(t, k) for t in curve]) for k in ("target", "tar", "low", "high"))
    firm = next((i for i, t in enumerate(curve) if t.supported), len(curve))  # the first that enough pairs support
    ax.fill_between(far, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
    ax.plot(far[: firm + 1], tar[: firm + 1], color=COLORS[0], linewidth=1.8, linestyle="--")
    ax.plot(far[firm:], tar[firm:], color=COLORS[0], linewidth=1.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_ylim(0, 101)
    figure.suptitle(f"{result.name}, {result.flags}: {result.pairs:,} pairs of templates", fontsize=11, color=INK)
    save(figure, path)


def plot_ranks(result: IdentificationResult, path: str | Path, most: int = 20) -> None:
    """Share of the images whose identity is among the k closest of all others, k up to ``most`` (CMC)."""
    figure = new_figure(7.2, 4.4)
    ax = axes(figure, 111, "closest images looked at (rank)", "identity is among them (%)")
    ranks = np.arange(1, most + 1)
    ax.plot(ranks, [100 * result.ranking.rank_k(int(k)) for k in ranks], color=COLORS[0], linewidth=1.8, marker="o")
    ax.set(ylim=(0, 101), xticks=[1, *ranks[4::5].tolist()])
    figure.suptitle(f"{result.images:,} images of {result.identities:,} identities", fontsize=11, color=INK)
    save(figure, path)


def plot_training(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Loss, accuracies and learning rate over the steps.

    Args:
        rows: Of ``metrics.jsonl``: each has "step" and some of "train/loss", "train/accuracy", "train/lr",
            "<evaluator>/accuracy" and "<evaluator>/top1" (shares in 0..1).
        path: The picture.
    """
    panels = training_panels(rows)
    figure = new_figure(3.7 * len(panels), 3.6)
    for place, (title, unit, keys) in enumerate(panels, start=1):
        ax = axes(figure, (1, len(panels), place), "step", unit)
        ax.set_title(title, fontsize=11, color=INK, loc="left")
        scale = 100.0 if unit == "%" else 1.0
        lowest = highest = 0.0
        for i, key in enumerate(keys):
            points = [(row["step"], scale * row[key]) for row in rows if key in row]
            if points:
                steps, values = zip(*points)
                few = len(points) <= 30
                color, label = COLORS[i % len(COLORS)], key.removesuffix("/accuracy").removesuffix("/top1")
                ax.plot(
                    steps, values, color=color, label=label, linewidth=1.6, marker="o" if few else "", markersize=3.5
                )
                lowest, highest = min(lowest, *values), max(highest, *values)
        if lowest >= 0 < highest:  # SFace's loss is below
            ax.set_ylim(0, 1.05 * highest)  # the line of a number that hardly moves would lie on the frame
        if len(keys) > 1 or not keys[0].startswith("train/"):
            ax.legend(frameon=False, fontsize=9, loc="lower right")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.1e}".replace("e-0", "e-") if value else "0")
    save(figure, path)


def training_panels(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """Title, unit and keys of each panel. Shares that are not one thing, such as of training images and of pairs of
    strangers, have an axis each."""
    keys = sorted({key for row in rows for key in row})
    kinds = {
        "training accuracy": [k for k in keys if k.startswith("train/") and k.endswith("/accuracy")],
        "top-1, held-out images": [k for k in keys if k.endswith("/top1")],
        "attributes, held-out images": [k for k in keys if k.endswith(("/accuracy_macro", "/balanced_accuracy"))],
        "parsing, held-out images": [k for k in keys if k.endswith(("/mean_f1", "/mean_iou"))],
        "verification accuracy": [k for k in keys if not k.startswith("train/") and k.endswith("/accuracy")],
    }
    return [
        ("training loss", "loss (nats)", ["train/loss"]),
        *((title, "%", found) for title, found in kinds.items() if found),
        ("learning rate", "learning rate", ["train/lr"]),
    ]


def plot_comparison(runs: Mapping[str, Sequence[Mapping[str, Any]]], batch_size: int, path: str | Path) -> None:
    """Several runs over the images that they have seen: the training loss, then the numbers in ``COMPARED``.

    Args:
        runs: Name -> rows of its ``metrics.jsonl``, as in ``plot_training``.
        batch_size: Images a step.
        path: The picture.
    """
    kinds = list(COMPARED)
    found = {key: key.rpartition("/")[2] for rows in runs.values() for row in rows for key in row}
    measured = [key for key, kind in found.items() if kind in kinds and not key.startswith("train/")]
    measured.sort(key=lambda key: (kinds.index(found[key]), key))
    most = max(row["step"] for rows in runs.values() for row in rows) * batch_size / 1e3
    figure = new_figure(1.0 + 3.7 * (1 + len(measured)), 4.4)
    for place, key in enumerate(["train/loss", *measured], start=1):
        loss = key == "train/loss"
        name, _, kind = key.partition("/")
        title = "training loss" if loss else f"{name} {COMPARED[kind]}"
        ax = axes(figure, (1, 1 + len(measured), place), "images seen (thousand)", "loss (nats)" if loss else "%")
        ax.set_title(title, fontsize=11, color=INK, loc="left")
        for i, (run, rows) in enumerate(runs.items()):
            points = [(row["step"] * batch_size / 1e3, row[key] * (1 if loss else 100)) for row in rows if key in row]
            ax.plot(
                *(zip(*points) if points else ((), ())),
                color=COLORS[i % len(COLORS)],
                linestyle=("-", "--", ":")[i // len(COLORS) % 3],
                linewidth=1.6,
                marker="" if loss else "o",
                markersize=3.5,
                label=run if place == 1 else None,
            )
        ax.set_xlim(0, 1.03 * most)
        if loss:
            scale_losses(ax, [row["train/loss"] for rows in runs.values() for row in rows if "train/loss" in row])
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=min(len(runs), 7))
    save(figure, path)


def scale_losses(ax: Axes, losses: Sequence[float]) -> None:
    """Losses of different heads have different scales, and SFace's a sign: a logarithmic axis of both signs where they
    spread over more than a decade, its ticks at 1, 2, 5, 10, ...; else an ordinary one."""
    sizes = [abs(loss) for loss in losses]
    if max(sizes, default=0.0) < 10 * max(1.0, min(sizes, default=0.0)):
        return
    from matplotlib.ticker import SymmetricalLogLocator

    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def plot_distributions(scores: Mapping[str, tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """How well each variant keeps same and different pairs apart: one small histogram a variant, all on one scale.

    Args:
        scores: Name -> cosines (N,), and whether each pair is one person (N,).
        path: The picture.
    """
    columns = min(4, len(scores))
    lines = -(-len(scores) // columns)
    figure = new_figure(2.9 * columns, 1.9 * lines + 0.5)
    edges = np.linspace(-1, 1, 81)
    for place, (name, (cosines, same)) in enumerate(scores.items(), start=1):
        ax = axes(figure, (lines, columns, place), "cosine" if place > len(scores) - columns else "", "")
        ax.set_title(f"{name}: AUC {100 * auc(cosines, same):.1f} %", fontsize=10, color=INK, loc="left")
        for kind, chosen, color in (("same person", same, COLORS[0]), ("different people", ~same, COLORS[1])):
            weights = np.full(int(chosen.sum()), 1 / chosen.sum())
            label = kind if place == 1 else None
            ax.hist(cosines[chosen], bins=edges.tolist(), weights=weights, color=color, alpha=0.65, label=label)
        ax.set(xlim=(-1, 1), yticks=[])
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    save(figure, path)


def plot_pairs(
    images_a: Sequence[np.ndarray],
    images_b: Sequence[np.ndarray],
    scores: Sequence[float] | np.ndarray,
    same: Sequence[bool] | np.ndarray,
    threshold: float,
    path: str | Path,
) -> None:
    """A sheet of pairs, four in a row: the score, who they are, and whether the decision was right, by color and sign.

    Args:
        images_a, images_b: The N first and second images, uint8 RGB, all of one size (H, W, 3).
        scores: (N,) cosines.
        same: (N,) whether they are one person.
        threshold: A pair is taken for one person where its score is above.
        path: The picture.
    """
    columns = 4
    lines = -(-len(scores) // columns)
    figure = new_figure(2.6 * columns, 1.58 * lines + 0.4)
    for i, (a, b, score, one) in enumerate(zip(images_a, images_b, scores, same)):
        right = (score > threshold) == one
        color = RIGHT if right else WRONG
        ax = figure.add_subplot(lines, columns, i + 1)
        gap = np.full((len(a), max(1, len(a) // 28), 3), 255, np.uint8)
        ax.imshow(np.concatenate([a, gap, b], axis=1))
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set(color=color, linewidth=3)
        kind = "same" if one else "different"
        ax.set_title(f"{'✓' if right else '✗'}  {score:.2f}  {kind}", fontsize=10, color=color, pad=5)
    figure.suptitle(
        f"Above {threshold:.2f} taken for one person.  ✓ decided rightly, ✗ wrongly", fontsize=10, color=INK
    )
    save(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that draws without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes(figure: Figure, place: Any, x: str, y: str) -> Axes:
    """Axes with a light grid and no box."""
    ax = figure.add_subplot(*place) if isinstance(place, tuple) else figure.add_subplot(place)
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.grid(color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    return ax


def save(figure: Figure, path: str | Path) -> None:
    figure.savefig(path, dpi=150)
