"""One model on many benchmarks: what is there is run, and one table says how it stands."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetx.evaluators.catalog import PUBLISHED, Benchmark, Found, find_benchmark
from facetx.evaluators.embedding import embed_views
from facetx.evaluators.groups import Labels, results_by_group
from facetx.evaluators.inputs import InputCheck, check_inputs
from facetx.evaluators.receipt import Receipt, make_receipt
from facetx.evaluators.result_file import write_result
from facetx.evaluators.verification import PairVerification, VerificationResult, markdown_table
from facetx.metrics.groups import GroupRates


@dataclass(frozen=True)
class Outcome:
    """One benchmark that was run.

    Attributes:
        benchmark: Which.
        evaluator: Its images and pairs.
        result: What came out.
        receipt: How.
        inputs: The images beside the model's contract.
        groups: Rates of each group of each attribute, where labels were given.
        seconds: For all of it.
    """

    benchmark: Benchmark
    evaluator: PairVerification
    result: VerificationResult
    receipt: Receipt
    inputs: InputCheck
    groups: dict[str, list[GroupRates]]
    seconds: float

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers has to know."""
        pairs = len(self.result.same)
        part = f"pairs: {pairs} of the protocol's {self.benchmark.pairs}; not comparable with published results"
        return self.inputs.warnings + ([part] if pairs != self.benchmark.pairs else [])


def find_benchmarks(benchmarks: Sequence[Benchmark], root: str | Path) -> tuple[list[Found], list[Benchmark]]:
    """Which of the benchmarks have their files below a data root, and which have not."""
    there = [(benchmark, find_benchmark(benchmark, root)) for benchmark in benchmarks]
    return [found for _, found in there if found is not None], [b for b, found in there if found is None]


def run_benchmark(
    backbone: Any,
    found: Found,
    *,
    flip: bool = True,
    labels: Labels | None = None,
    seed: int | None = None,
    embed: Callable[..., Any] = embed_views,
    amp: bool = False,
    **how: Any,
) -> Outcome:
    """Runs one benchmark with all that makes its number trustworthy.

    Args:
        backbone: The model.
        found: Of ``find_benchmarks``.
        flip: Sum the embeddings of an image and of its mirror.
        labels: Of ``read_groups``.
        seed: Of the model's training, for the receipt.
        embed: Stands in for ``embed_views``, such as an ``EmbeddingCache``.
        amp, how: Of ``embed_views``: device, batch_size, workers.
    """
    began = time.perf_counter()
    evaluator = found.open(backbone.contract.size, flip, backbone.needs_keypoints)
    used = np.unique([evaluator.first, evaluator.second])
    inputs = check_inputs(backbone.contract, evaluator.dataset, used, found.landmarks)
    result = evaluator.result(backbone, embed=embed, amp=amp, **how)
    receipt = make_receipt(evaluator, backbone, amp, seed)
    groups = results_by_group(evaluator, result, labels or {})
    return Outcome(found.benchmark, evaluator, result, receipt, inputs, groups, time.perf_counter() - began)


def summary_table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with a row a benchmark."""
    head = ("%", "pairs", "accuracy", "std", "standard error", "AUC", "EER", "TAR at FAR <= 1e-3")
    rows = []
    for outcome in outcomes:
        r = outcome.result
        tar = next(t for t in r.tars if t.target == 1e-3)
        numbers = (r.accuracy.mean, r.accuracy.std, r.accuracy.se, r.auc, r.eer, tar.tar)
        row = [outcome.benchmark.title, f"{len(r.same)}", *(f"{100 * n:.2f}" for n in numbers)]
        rows.append((*row[:-1], row[-1] if tar.supported else f"{row[-1]} (too few pairs)"))
    return markdown_table(head, rows)


def published_table(outcomes: Sequence[Outcome], model: str) -> str:
    """A Markdown table of accuracies in percent: the model's, and those of the literature."""
    columns = [o.benchmark for o in outcomes if any(o.benchmark.name in row for row in PUBLISHED.values())]
    own = {o.benchmark.name: 100 * o.result.accuracy.mean for o in outcomes}
    rows = [
        (name, *(f"{row[b.name]:.2f}" if b.name in row else "-" for b in columns))
        for name, row in {model: own, **PUBLISHED}.items()
    ]
    return markdown_table(("accuracy, %", *(b.title for b in columns)), rows)


def write_outcome(path: str | Path, outcome: Outcome, model: dict[str, Any]) -> None:
    """Writes one benchmark's JSON: the result with its scores and receipt, the inputs, the groups, and the model."""
    write_result(
        path,
        outcome.result,
        outcome.receipt,
        model=model,
        benchmark={"title": outcome.benchmark.title, "pairs": outcome.benchmark.pairs},
        inputs=outcome.inputs.as_dict(),
        warnings=outcome.warnings,
        groups={attribute: [asdict(g) for g in groups] for attribute, groups in outcome.groups.items()},
        seconds=round(outcome.seconds, 2),
    )
