"""Two results on the same benchmark: may they be compared, and is one better?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facetx.benchmarks.receipts import Receipt
from facetx.benchmarks.results import Comparable
from facetx.errors import DataError
from facetx.evaluators.parsing import ParsingResult, number_words
from facetx.evaluators.verification import VerificationResult, short
from facetx.metrics import parsing
from facetx.metrics.significance import Bootstrapped, McNemar, bootstrap_shares, bootstrap_tar, mcnemar
from facetx.tables import Table

MUST_MATCH = ("protocol", "images", "flip", "norm", "thresholds", "definitions")
"""The fields of receipts that must be equal, and the contract's alignment. Size, color, mean and std belong to the
model: they say how it reads the same images. So do its keypoints."""
COLUMNS = ("A (95 %)", "B (95 %)", "B - A in points (95 %)", "p, paired bootstrap")


@dataclass(frozen=True)
class Comparison:
    """What can be said of two results a and b.

    Attributes:
        name: Of the benchmark.
        mcnemar: Of the decisions at each fold's threshold.
        accuracy: Share of all pairs decided rightly, by the paired bootstrap.
        tars: The paired bootstrap of TAR at each FAR that the pairs support.
        notes: Differences of the receipts that do not forbid to compare.
    """

    name: str
    mcnemar: McNemar
    accuracy: Bootstrapped
    tars: dict[float, Bootstrapped]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "tars": {short(far): asdict(found) for far, found in self.tars.items()}}

    def table(self) -> Table:
        """Both results and their difference."""
        rows = [_row("accuracy", self.accuracy)]
        rows += [_row(f"TAR at FAR <= {short(far)}", found) for far, found in self.tars.items()]
        return Table((self.name, *COLUMNS), rows)

    def text(self) -> str:
        """The table, McNemar's test in words, and the notes, for a terminal."""
        test = self.mcnemar
        words = (
            f"McNemar, exact: A alone is right on {test.only_a} pairs, B alone on {test.only_b}; p = {test.p:.3g}: "
            f"{_verdict(test.p)} at the 5 % level."
        )
        return _text(self.table(), words, self.notes)


@dataclass(frozen=True)
class ParsingComparison:
    """What can be said of two models' masks of the same images.

    Attributes:
        name: Of the benchmark.
        numbers: Mean F1 and the others, by the paired bootstrap over images.
        classes: The F1 of each class in the same way; without those that no mask has.
        better: The sign test on images: those on which one model alone has the higher F1.
        notes: Differences of the receipts that do not forbid to compare.
    """

    name: str
    numbers: dict[str, Bootstrapped]
    classes: dict[str, Bootstrapped]
    better: McNemar
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """Both results and their difference: the means, then each class."""
        rows = [_row(number_words(name), found) for name, found in self.numbers.items()]
        rows += [_row(f"F1 of {name}", found) for name, found in self.classes.items()]
        return Table((self.name, *COLUMNS), rows)

    def text(self) -> str:
        """The table, the sign test in words, and the notes, for a terminal."""
        test = self.better
        words = (
            f"Sign test: A has the higher F1 on {test.only_a} images, B on {test.only_b}; p = {test.p:.3g}: "
            f"{_verdict(test.p)} at the 5 % level."
        )
        return _text(self.table(), words, self.notes)


def mismatches(a: Receipt, b: Receipt) -> list[str]:
    """What keeps two results from being compared, one line each; empty where nothing does."""
    found = [_differ(name, getattr(a, name), getattr(b, name)) for name in MUST_MATCH]
    found.append(_differ("alignment", a.input.get("alignment"), b.input.get("alignment")))
    return [line for line in found if line]


def compare_results(
    a: Comparable, receipt_a: Receipt, b: Comparable, receipt_b: Receipt
) -> Comparison | ParsingComparison:
    """Compares two results. Raises ``DataError`` naming each mismatch where they were not measured alike."""
    problems = mismatches(receipt_a, receipt_b)
    notes = _notes(receipt_a, receipt_b)
    if isinstance(a, VerificationResult) and isinstance(b, VerificationResult):
        if not (np.array_equal(a.same, b.same) and np.array_equal(a.fold, b.fold)):
            problems.append("labels or folds: they differ though the receipts agree, so one of the files was changed")
        _refuse(a, b, problems)
        return _compare_pairs(a, b, notes)
    if isinstance(a, ParsingResult) and isinstance(b, ParsingResult):
        if a.classes != b.classes:
            problems.append(f"classes: {', '.join(a.classes)}; and {', '.join(b.classes)}")
        elif a.labels != b.labels:
            problems.append("masks: they differ, so one was measured by other labels")
        _refuse(a, b, problems)
        return compare_masks(a, b, notes)
    raise DataError(f"{a.name} and {b.name} are a result of pairs and one of masks, which cannot be compared")


def _refuse(a: Comparable, b: Comparable, problems: list[str]) -> None:
    """Raises ``DataError`` where there are problems."""
    if problems:
        raise DataError(
            f"{a.name} and {b.name} were not measured alike, so their difference says nothing:\n  "
            + "\n  ".join(problems)
            + "\nevaluate both models again with the same images, labels and settings"
        )


def _compare_pairs(a: VerificationResult, b: VerificationResult, notes: list[str]) -> Comparison:
    return Comparison(
        name=a.name,
        mcnemar=mcnemar(a.right, b.right),
        accuracy=bootstrap_shares(a.right, b.right),
        tars={t.target: bootstrap_tar(a.scores, b.scores, a.same, t.target) for t in a.tars if t.supported},
        notes=notes,
    )


def compare_masks(a: ParsingResult, b: ParsingResult, notes: list[str]) -> ParsingComparison:
    """Two models' masks of the same images. Raises ``ValueError`` for results of others."""
    return ParsingComparison(
        name=a.name,
        numbers=parsing.compare(a.counts, b.counts),
        classes=parsing.compare_classes(a.counts, b.counts, a.classes),
        better=mcnemar(a.image_f1 > b.image_f1, b.image_f1 > a.image_f1),
        notes=notes,
    )


def _verdict(p: float) -> str:
    return "a difference beyond chance" if p < 0.05 else "no difference beyond chance"


def _notes(a: Receipt, b: Receipt) -> list[str]:
    names = sorted({*a.versions, *b.versions})
    versions = [_differ(f"version of {name}", a.versions.get(name), b.versions.get(name)) for name in names]
    same = "both are of the same weights" if (a.weights, a.network) == (b.weights, b.network) else ""
    how = [_differ(name, getattr(a, name), getattr(b, name)) for name in ("precision", "device", "input")]
    return [line for line in (same, *how, *versions) if line]


def _differ(name: str, a: Any, b: Any) -> str:
    """A line where two values differ, else nothing."""
    if a == b:
        return ""
    if isinstance(a, dict):
        return f"{name}: of {', '.join(sorted(k for k in {*a, *b} if a.get(k) != b.get(k)))}"
    shown = (f"{v[:12]}..." if isinstance(v, str) and len(v) == 64 else str(v) for v in (a, b))
    return f"{name}: {' and '.join(shown)}"


def _text(table: Table, words: str, notes: list[str]) -> str:
    """A comparison for a terminal."""
    return "\n".join([table.text(), "", words, *(f"note: {note}" for note in notes)])


def _row(name: str, found: Bootstrapped) -> tuple[str, ...]:
    low, high = found.difference_interval
    return (
        name,
        _share(found.a, found.a_interval),
        _share(found.b, found.b_interval),
        f"{100 * found.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
        f"{found.p:.3g}",
    )


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{100 * value:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
