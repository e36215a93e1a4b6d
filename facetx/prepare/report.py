"""What the tools that prepare data share: the report of what was done and left out, and progress."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError, printable
from facetx.files import lock, write_file
from facetx.prepare.sources import Source
from facetx.progress import progress


@dataclass
class Report:
    """What one tool did.

    Attributes:
        command: The tool's name.
        source: What was read.
        out: What was written, if anything.
        images: How many images it began with.
        dropped: Image -> why it was left out.
        facts: Plain values, in the order to print. The terminal shows no lists.
        warnings: What makes the result doubtful.
        file: Where ``save`` writes it; nowhere if None.
    """

    command: str
    source: str
    out: str | None = None
    images: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    file: str | Path | None = None

    @classmethod
    def of(
        cls, command: str, source: Source, out: str | Path | None = None, file: str | Path | None = None
    ) -> "Report":
        """At the beginning of the work on a source."""
        facts: dict[str, Any] = {"skipped": source.skipped} if source.skipped else {}
        return cls(command, str(source.path), None if out is None else str(out), len(source), facts=facts, file=file)

    def text(self) -> str:
        """For the terminal: one fact a line, the first few images with why they were dropped, and the warnings.

        Names are other people's, and made printable.
        """
        rows = {"source": self.source, "images": self.images, **self.facts}
        if self.out is not None:
            rows |= {"written": self.out, "kept": self.images - len(self.dropped), "dropped": len(self.dropped)}
        lines = list(_lines(rows))
        width = max(len(name) for name, value in lines if value is not None)
        shown = [name if value is None else f"{name:{width}}  {value}" for name, value in lines]
        if self.out is not None:
            shown += [f"  {reason}" for reason in _reasons(self.dropped)]
        shown += [f"warning: {text}" for text in self.warnings]
        return "\n".join(printable(line).replace("\n", "\\n") for line in shown)

    def save(self) -> None:
        """As JSON, whole or not at all. Done right before what is reported on appears, so that no reason is lost where
        the work is killed."""
        if self.file is not None:
            Path(self.file).parent.mkdir(parents=True, exist_ok=True)
            values = {name: value for name, value in vars(self).items() if name != "file"}
            with lock(self.file):  # which takes away what a killed process left of it
                write_file(self.file, (json.dumps(values, indent=1) + "\n").encode())


def _lines(facts: dict[str, Any], indent: str = "") -> Iterator[tuple[str, str | None]]:
    """(name, value) of each fact, (line, None) of what is no fact; facts inside of another are indented below it."""
    for key, value in facts.items():
        name = indent + key.replace("_", " ")
        if not isinstance(value, dict | list):
            yield name, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        elif value == {}:
            yield name, "none"
        elif isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values()):
            yield name, str(len(value))
            for reason in _reasons(value):
                yield f"{indent}  {reason}", None
        elif isinstance(value, dict):
            yield name, None
            yield from _lines(value, indent + "  ")


def _reasons(whys: dict[str, str], show: int = 5) -> Iterator[str]:
    """Of the first few images "name: why", each name once: most reasons begin with the path of their image."""
    for name, why in list(whys.items())[:show]:
        path, _, reason = why.partition(": ")
        yield f"{name}: {shorten(reason if reason and path.endswith(name) else why, 200, placeholder=' ...')}"
    if len(whys) > show:
        yield f"... and {len(whys) - show} more, all in the report's file"


def track(count: int, what: str) -> Iterator[int]:
    """0..count-1, with word of how far it has come."""
    with progress(count, what) as advance:
        for i in range(count):
            yield i
            advance(1)


def label_words(stored: NDArray[np.int64]) -> str:
    """How the labels in use lie, for a report; those that training numbers anew are no 0..C-1."""
    low, high, used = int(stored.min()), int(stored.max()), len(stored)
    if (low, high) == (0, used - 1):
        return f"0..{high}, each used"
    unused = high - low + 1 - used
    gaps = f"{unused} numbers between are not used" if unused else "each used"
    return f"{low}..{high}, {gaps}; training numbers them anew, 0..{used - 1}"


def why_unreadable(source: Source, index: int) -> str | None:
    """The reason why an image cannot be decoded; None if it can."""
    try:
        source.image(index)
    except DataError as error:
        return str(error)
    return None


def size_counts(sizes: list[tuple[int, int]], show: int = 10) -> dict[str, int]:
    """ "WxH" -> images, most frequent first, of (height, width)."""
    counted = Counter(sizes).most_common()
    named = {f"{w}x{h}": n for (h, w), n in counted[:show]}
    if len(counted) > show:
        named[f"{len(counted) - show} other sizes"] = sum(n for _, n in counted[show:])
    return named
