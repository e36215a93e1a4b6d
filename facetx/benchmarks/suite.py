"""One model on many benchmarks: what is there is run, and one table says how it stands."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetx.benchmarks.catalog import Benchmark, Found, find_benchmark, published
from facetx.benchmarks.groups import Labels, results_by_group
from facetx.benchmarks.inputs import InputCheck, check_inputs
from facetx.benchmarks.receipts import Receipt, make_receipt
from facetx.benchmarks.results import write_result
from facetx.evaluators.builders import identification
from facetx.evaluators.embedding import embed_views
from facetx.evaluators.verification import VerificationResult, markdown_table
from facetx.files import write_json
from facetx.metrics.groups import GroupRates


@dataclass(frozen=True)
class Outcome:
    """One benchmark that was run.

    Attributes:
        name: Of its file.
        title: In tables.
        asks: What it is hard by.
        evaluator: Its images and pairs.
        result: What came out: a ``VerificationResult``, ``TemplateResult`` or ``IdentificationResult``.
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


def run_benchmark(backbone: Any, found: Found, *, flip: bool = True, **how: Any) -> Outcome:
    """Runs one benchmark with all that makes its number trustworthy.

    Args:
        backbone: The model.
        found: Of ``find_benchmarks``.
        flip: Sum the embeddings of an image and of its mirror.
        how: Of ``measure``.
    """
    b = found.benchmark
    evaluator = found.open(backbone.contract.size, flip, backbone.needs_keypoints)
    return measure(backbone, evaluator, b.name, b.title, b.asks, pairs=b.pairs, landmarks=found.landmarks, **how)


def run_identification(
    backbone: Any, root: str | Path, *, landmarks: str | Path | None = None, flip: bool = True, **how: Any
) -> Outcome:
    """1:N and clustering on any folder of identities.

    Args:
        backbone: The model.
        root: ``root/<identity>/<image>``.
        landmarks: File of its keypoints, for a backbone that takes them, and to check the alignment by.
        flip: Sum the embeddings of an image and of its mirror.
        how: Of ``measure``.

    Raises ``DataError`` for too few identities.
    """
    marks = str(landmarks) if landmarks is not None and backbone.needs_keypoints else None
    evaluator = identification(str(root), "all", size=backbone.contract.size, landmarks=marks, flip=flip)
    asks = "each image against all others, one person among several, strangers, and clusters"
    return measure(
        backbone, evaluator, "identification", f"1:N, {Path(root).resolve().name}", asks, landmarks=landmarks, **how
    )


def measure(
    backbone: Any,
    evaluator: Any,
    name: str,
    title: str,
    asks: str,
    *,
    pairs: int | None = None,
    landmarks: str | Path | None = None,
    labels: Labels | None = None,
    seed: int | None = None,
    embed: Callable[..., Any] = embed_views,
    amp: bool = False,
    **how: Any,
) -> Outcome:
    """An evaluator's result with its receipt, and its images beside the model's contract.

    Args:
        backbone, evaluator: What to run on what.
        name, title, asks: Of the outcome.
        pairs: Of the official protocol, where there is one.
        landmarks: CSV file of the images' keypoints, to check their alignment by.
        labels: Of ``read_groups``, for pairs.
        seed: Of the model's training, for the receipt.
        embed: Stands in for ``embed_views``, such as an ``EmbeddingCache``.
        amp, how: Of ``embed_views``: device, batch_size, workers.
    """
    began = time.perf_counter()
    inputs = check_inputs(backbone.contract, evaluator.dataset, np.unique(evaluator.terms().items), landmarks)
    result = evaluator.result(backbone, embed=embed, amp=amp, **how)
    receipt = make_receipt(evaluator, backbone, amp, seed)
    warnings = list(inputs.warnings)
    if pairs is not None and result.pairs != pairs:
        warnings.append(f"pairs: {result.pairs} of the protocol's {pairs}; not comparable with published results")
    of_pairs = isinstance(result, VerificationResult)
    groups = results_by_group(evaluator, result, labels) if of_pairs and labels else {}
    seconds = time.perf_counter() - began
    return Outcome(name, title, asks, evaluator, result, receipt, inputs, warnings, groups, seconds)


def results_folder(checkpoint: str | Path, kind: str) -> Path:
    """Where the results of a run, or of one of its checkpoints, lie: ``<run>/<kind>``, and ``<kind>/<step>`` below it.

    Never in a checkpoint's own folder: old ones are deleted.
    """
    path = Path(checkpoint)
    one = path.resolve()
    return one.parent.parent / kind / one.name if one.parent.name == "checkpoints" else path / kind


def pairs_of_images(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those of 1:1 verification over folds, which share tables and curves."""
    return [outcome for outcome in outcomes if isinstance(outcome.result, VerificationResult)]


def tables(outcomes: Sequence[Outcome], model: str) -> list[str]:
    """Markdown: the pairs in one table, beside published results, then each other benchmark in its own."""
    pairs = pairs_of_images(outcomes)
    found = [summary_table(pairs), published_table(pairs, model)] if pairs else []
    for outcome in outcomes:
        if not isinstance(outcome.result, VerificationResult):
            found.append(outcome.result.table())
            if published(outcome.name):
                found.append(published_table([outcome], model))
    return found


def summary_table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with a row a benchmark on pairs."""
    head = ("%", "pairs", "accuracy", "std", "standard error", "AUC", "EER", "TAR at FAR <= 1e-3")
    rows = []
    for outcome in outcomes:
        r = outcome.result
        tar = next(t for t in r.tars if t.target == 1e-3)
        numbers = (r.accuracy.mean, r.accuracy.std, r.accuracy.se, r.auc, r.eer, tar.tar)
        row = [outcome.title, f"{r.pairs}", *(f"{100 * n:.2f}" for n in numbers)]
        rows.append((*row[:-1], row[-1] if tar.supported else f"{row[-1]} (too few pairs)"))
    return markdown_table(head, rows)


def published_table(outcomes: Sequence[Outcome], model: str) -> str:
    """A Markdown table in percent, a row a model: this one, and those of the literature."""
    rows: dict[str, list[str]] = {}
    head: list[str] = []
    for outcome in outcomes:
        others = published(outcome.name)
        own = {model: {name: 100 * value for name, value in outcome.result.summary().items()}}
        for name in next(iter(others.values()), {}):
            head.append(outcome.title if name == "accuracy" else f"{outcome.title} {name}")
            for who, numbers in {**own, **others}.items():
                cells = rows.setdefault(who, [])
                cells += ["-"] * (len(head) - 1 - len(cells)) + [f"{numbers[name]:.2f}"]
    lines = [(who, *row, *["-"] * (len(head) - len(row))) for who, row in rows.items()]
    return markdown_table(("published, %", *head), lines)


def write_outcome(path: str | Path, outcome: Outcome, model: dict[str, Any]) -> None:
    """Writes one benchmark's JSON: result and receipt (of pairs, every score too), inputs, groups, and model."""
    more = {
        "model": model,
        "title": outcome.title,
        "inputs": outcome.inputs.as_dict(),
        "warnings": outcome.warnings,
        "groups": {attribute: [asdict(g) for g in groups] for attribute, groups in outcome.groups.items()},
        "seconds": round(outcome.seconds, 2),
    }
    if isinstance(outcome.result, VerificationResult):
        write_result(path, outcome.result, outcome.receipt, **more)
    else:
        write_json(path, {**outcome.result.as_dict(), **more, "receipt": outcome.receipt.as_dict()})
