"""One model on many benchmarks: what is there is run, and one table says how it stands."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetx.benchmarks.catalog import Benchmark, Found, find_benchmark, published
from facetx.benchmarks.groups import Labels, results_by_group
from facetx.benchmarks.inputs import InputCheck, check_inputs
from facetx.benchmarks.receipts import Receipt, make_receipt
from facetx.benchmarks.results import Comparable, write_result
from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import HERE, Evaluator, How, Model, backbone_of
from facetx.evaluators.build import EVALUATORS, argument_names, build_evaluator
from facetx.evaluators.builders import identification
from facetx.evaluators.templates import TemplateResult
from facetx.evaluators.verification import PairVerification, VerificationResult, short
from facetx.files import write_json
from facetx.metrics.groups import GroupRates
from facetx.nn.backbone import Backbone
from facetx.tables import Table

QUESTIONS = {
    "pairs": "pairs drawn from the data set: are the two one person?",
    "identification": "each image against all others, one person among several, strangers, and clusters",
}
"""That are asked of a data set unless others are named, and what they are hard by."""


@dataclass(frozen=True)
class Outcome:
    """One benchmark that was run.

    Attributes:
        name: Of its file.
        title: In tables.
        asks: What it is hard by.
        evaluator: Its images and pairs.
        result: What came out.
        receipt: How.
        inputs: The images beside the model's contract.
        warnings: What a reader of the numbers has to know.
        groups: Of pairs, rates of each group of each attribute, where labels were given.
        seconds: For all of it.
    """

    name: str
    title: str
    asks: str
    evaluator: Any
    result: Any
    receipt: Receipt
    inputs: InputCheck
    warnings: list[str]
    groups: dict[str, list[GroupRates]]
    seconds: float


def find_benchmarks(benchmarks: Sequence[Benchmark], root: str | Path) -> tuple[list[Found], list[Benchmark]]:
    """Which of the benchmarks have their files below a data root, and which have not."""
    there = [(benchmark, find_benchmark(benchmark, root)) for benchmark in benchmarks]
    return [found for _, found in there if found is not None], [b for b, found in there if found is None]


def run_benchmark(backbone: Backbone, found: Found, *, flip: bool = True, **more: Any) -> Outcome:
    """Runs one benchmark with all that makes its number trustworthy.

    Args:
        backbone: The model.
        found: Of ``find_benchmarks``.
        flip: Sum the embeddings of an image and of its mirror.
        more: Of ``measure``.
    """
    b = found.benchmark
    evaluator = found.open(backbone.contract.size, flip, backbone.needs_keypoints)
    return measure(backbone, evaluator, b.name, b.title, b.asks, pairs=b.pairs, landmarks=found.landmarks, **more)


def run_identification(
    backbone: Backbone, root: str | Path, *, landmarks: str | Path | None = None, flip: bool = True, **more: Any
) -> Outcome:
    """1:N and clustering on any folder of identities.

    Args:
        backbone: The model.
        root: ``root/<identity>/<image>``.
        landmarks: File of its keypoints, for a backbone that takes them, and to check the alignment by.
        flip: Sum the embeddings of an image and of its mirror.
        more: Of ``measure``.

    Raises ``DataError`` for too few identities.
    """
    marks = str(landmarks) if landmarks is not None and backbone.needs_keypoints else None
    evaluator = identification(root=str(root), part="all", size=backbone.contract.size, landmarks=marks, flip=flip)
    title = f"1:N, {Path(root).resolve().name}"
    asks = QUESTIONS["identification"]
    return measure(backbone, evaluator, "identification", title, asks, landmarks=landmarks, **more)


def run_question(
    model: Callable[[bool], Model],
    question: str,
    dataset: FaceDataset,
    name: str,
    *,
    flip: bool = True,
    args: Mapping[str, Any] | None = None,
    **more: Any,
) -> Outcome:
    """Asks a question of any data set.

    Args:
        model: Gives the model; the whole task, with all that was trained, where it is called with true.
        question: An evaluator of ``EVALUATORS`` that takes a data set.
        dataset: What it asks by.
        name: Of the outcome's file.
        flip: Sum the embeddings of an image and of its mirror, where the evaluator has that choice.
        args: Other arguments of the evaluator.
        more: Of ``measure``.

    Raises ``FacetxError`` for a question or a data set that do not fit, such as one of too few identities.
    """
    builder = EVALUATORS[question]
    choices = {"flip": flip} if "flip" in argument_names(builder) else {}
    evaluator = build_evaluator(question, dataset, {**choices, **(args or {})})
    asks = QUESTIONS.get(question) or (inspect.getdoc(builder) or question).splitlines()[0]
    return measure(model(evaluator.whole_task), evaluator, name, f"{dataset.name}, {question}", asks, **more)


def measure(
    model: Model,
    evaluator: Evaluator,
    name: str,
    title: str,
    asks: str,
    *,
    pairs: int | None = None,
    landmarks: str | Path | None = None,
    labels: Labels | None = None,
    seed: int | None = None,
    how: How = HERE,
) -> Outcome:
    """An evaluator's result with its receipt, and its images beside the model's contract.

    Args:
        model, evaluator: What to ask what.
        name, title, asks: Of the outcome.
        pairs: Of the official protocol, where there is one.
        landmarks: CSV file of the images' keypoints, to check their alignment by.
        labels: Of ``read_groups``, for pairs.
        seed: Of the model's training, for the receipt.
        how: To run the model.

    Raises ``DataError`` for an evaluator without a data set.
    """
    began = time.perf_counter()
    if evaluator.dataset is None:
        raise DataError(f"{evaluator.name}: has no data set, so its images cannot be looked at")
    contract = backbone_of(model).contract
    if evaluator.own_size:  # frames as they are, on no template
        contract = replace(contract, alignment="none")
    inputs = check_inputs(contract, evaluator.dataset, np.unique(evaluator.terms().items), landmarks)
    result = evaluator.result(model, how)
    receipt = make_receipt(evaluator, model, how.amp, seed)
    warnings = [*inputs.warnings, *result.notes]
    if isinstance(result, VerificationResult | TemplateResult) and pairs not in (None, result.pairs):
        warnings.append(f"pairs: {result.pairs} of the protocol's {pairs}; not comparable with published results")
    groups = {}
    if labels and isinstance(evaluator, PairVerification) and isinstance(result, VerificationResult):
        groups = results_by_group(evaluator, result, labels)
    seconds = time.perf_counter() - began
    return Outcome(name, title, asks, evaluator, result, receipt, inputs, warnings, groups, seconds)


def results_folder(checkpoint: str | Path, kind: str) -> Path:
    """Where the results of a run, or of one of its checkpoints, lie: ``<run>/<kind>``, and ``<kind>/<step>`` below it;
    those of an exported file in ``<kind>/<its name>`` beside it.

    Never in a checkpoint's own folder: old ones are deleted.
    """
    path = Path(checkpoint)
    if path.is_file():
        return path.parent / kind / path.stem
    one = path.resolve()
    return one.parent.parent / kind / one.name if one.parent.name == "checkpoints" else path / kind


def pairs_of_images(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those of 1:1 verification over folds, which share tables and curves."""
    return [outcome for outcome in outcomes if isinstance(outcome.result, VerificationResult)]


def tables(outcomes: Sequence[Outcome], model: str) -> list[Table]:
    """The pairs in one table, beside published results, then each other benchmark in its own."""
    pairs = pairs_of_images(outcomes)
    found = [summary_table(pairs)] if pairs else []
    found += [published_table(pairs, model)] if any(published(outcome.name) for outcome in pairs) else []
    for outcome in outcomes:
        if not isinstance(outcome.result, VerificationResult):
            found += outcome.result.tables()
            if published(outcome.name):
                found.append(published_table([outcome], model))
    return found


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a benchmark on pairs; of one fold there is no accuracy."""
    head = ("%", "pairs", "accuracy", "std", "standard error", "AUC", "EER", "TAR at FAR <= 1e-3")
    rows = []
    for outcome in outcomes:
        r = outcome.result
        tar = next(t for t in r.tars if t.target == 1e-3)
        a = r.accuracy
        over_folds = ("-",) * 3 if a is None else (f"{100 * n:.2f}" for n in (a.mean, a.std, a.se))
        row = (outcome.title, f"{r.pairs}", *over_folds, f"{100 * r.auc:.2f}", f"{100 * r.eer:.2f}")
        rows.append((*row, _percent(tar.tar, tar.supported)))
    return Table(head, rows)


def published_table(outcomes: Sequence[Outcome], model: str) -> Table:
    """In percent, a row a model: this one, and those of the literature."""
    rows: dict[str, list[str]] = {}
    head: list[str] = []
    for outcome in outcomes:
        others = published(outcome.name)
        own = outcome.result.summary()
        firm = {f"tar@far={short(t.target)}": t.supported for t in outcome.result.tars}
        for name in next(iter(others.values()), {}):
            head.append(outcome.title if name == "accuracy" else f"{outcome.title} {name}")
            ours = _percent(own[name], firm.get(name, True)) if name in own else "-"
            for who, cell in {model: ours, **{who: f"{numbers[name]:.2f}" for who, numbers in others.items()}}.items():
                cells = rows.setdefault(who, [])
                cells += ["-"] * (len(head) - 1 - len(cells)) + [cell]
    lines = [(who, *row, *["-"] * (len(head) - len(row))) for who, row in rows.items()]
    return Table(("published, %", *head), lines)


def _percent(share: float, supported: bool) -> str:
    return f"{100 * share:.2f}{'' if supported else ' (too few pairs)'}"


def write_outcome(path: str | Path, outcome: Outcome, model: dict[str, Any]) -> None:
    """Writes one benchmark's JSON: result (with all scores, where it can be compared), receipt, and the rest."""
    more = {
        "model": model,
        "title": outcome.title,
        "inputs": outcome.inputs.as_dict(),
        "warnings": outcome.warnings,
        "groups": {attribute: [asdict(g) for g in groups] for attribute, groups in outcome.groups.items()},
        "seconds": round(outcome.seconds, 2),
    }
    if isinstance(outcome.result, Comparable):
        write_result(path, outcome.result, outcome.receipt, **more)
    else:
        write_json(path, {**outcome.result.as_dict(), **more, "receipt": outcome.receipt.as_dict()})
