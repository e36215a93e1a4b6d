"""The pictures that a run or an evaluation leaves behind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetx.evaluators.attributes import AttributeResult
from facetx.evaluators.base import Evaluator, Result
from facetx.evaluators.parsing import ParsingResult
from facetx.evaluators.verification import PairVerification, VerificationResult
from facetx.plots import attributes, parsing
from facetx.plots.figures import plot_pairs, plot_roc, plot_score_histogram, plot_training


def write_pictures(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, Result],
    evaluators: Sequence[Evaluator] = (),
) -> list[Path]:
    """Draws what there is to draw into ``folder`` and returns the files.

    ``training.png`` of the rows; of results of verification ``roc.png``; for each of their evaluators
    ``<name>_scores.png``, and ``<name>_pairs.png`` with pairs from the surest mistakes to the surest hits; of
    attributes ``<name>_radar.png``, ``<name>_calibration.png`` and ``<name>_wrong.png``; of parsing
    ``<name>_classes.png``, ``<name>_overlays.png`` and ``<name>_worst.png``. Results of other kinds have
    their curve in ``training.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_pairs = {name: result for name, result in results.items() if isinstance(result, VerificationResult)}
    made = []
    if rows:
        made.append(folder / "training.png")
        plot_training(rows, made[-1])
    if of_pairs:
        made.append(folder / "roc.png")
        plot_roc(of_pairs, made[-1])
    for name, result in of_pairs.items():
        made.append(folder / f"{name}_scores.png")
        plot_score_histogram(result, made[-1])
    for evaluator in evaluators:
        if evaluator.name in of_pairs and isinstance(evaluator, PairVerification):
            made.append(folder / f"{evaluator.name}_pairs.png")
            plot_sample_pairs(evaluator, of_pairs[evaluator.name], made[-1])
        answer = results.get(evaluator.name)
        if evaluator.dataset is None:
            continue
        pictures = {}
        if isinstance(answer, AttributeResult):
            pictures = attributes.pictures_of(answer, evaluator.dataset)
        elif isinstance(answer, ParsingResult):
            pictures = parsing.pictures_of(answer, evaluator.dataset)
        for what, draw in pictures.items():
            made.append(folder / f"{evaluator.name}_{what}.png")
            draw(made[-1])
    return made


def plot_sample_pairs(evaluator: PairVerification, result: VerificationResult, path: Path, count: int = 16) -> None:
    """A sheet of ``count`` pairs: half of same, half of different people; of each, the most mistaken, then even steps
    up to the surest."""
    chosen: list[int] = []
    for same in (True, False):
        of_kind = np.flatnonzero(result.same == same)
        order = of_kind[np.argsort(result.scores[of_kind] if same else -result.scores[of_kind], kind="stable")]
        chosen += order[np.linspace(0, len(order) - 1, min(count // 2, len(order))).astype(int)].tolist()
    images = [
        [evaluator.dataset[int(side[i])]["image"] for i in chosen] for side in (evaluator.first, evaluator.second)
    ]
    plot_pairs(images[0], images[1], result.scores[chosen], result.same[chosen], result.threshold, path)
