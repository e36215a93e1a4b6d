"""What the tools that prepare data share: the report of what was done and left out, and progress."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.sources import Source
from facetx.errors import DataError
from facetx.files import write_file


@dataclass
class Report:
    """What one tool did.

    Attributes:
        command: The tool's name.
        source: What was read.
        out: What was written, if anything.
        images: How many images it began with.
        dropped: Image -> why it was left out.
        facts: Plain values, in the order to print.
        file: Where ``save`` writes it; nowhere if None.
    """

    command: str
    source: str
    out: str | None = None
    images: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    file: str | Path | None = None

    @classmethod
    def of(
        cls, command: str, source: Source, out: str | Path | None = None, file: str | Path | None = None, **facts: Any
    ) -> "Report":
        """At the beginning of the work on a source."""
        facts |= {"skipped": source.skipped} if source.skipped else {}
        return cls(command, str(source.path), None if out is None else str(out), len(source), {}, facts, file)

    def text(self, show: int = 5) -> str:
        """For the terminal: the facts, and the first few images dropped for each reason."""
        rows = {"source": self.source, "images": self.images, **self.facts}
        if self.out is not None:
            rows |= {"written": self.out, "kept": self.images - len(self.dropped), "dropped": len(self.dropped)}
        width = max(map(len, rows))
        lines = [f"{name.replace('_', ' '):{width}}  {_short(value)}" for name, value in rows.items()]
        for name, why in list(self.dropped.items())[:show]:
            lines.append(f"  dropped {name}: {why}")
        if len(self.dropped) > show:
            lines.append(f"  ... and {len(self.dropped) - show} more, all in the report's file")
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """As JSON; the file appears whole or not at all."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        values = {name: value for name, value in vars(self).items() if name != "file"}
        write_file(path, (json.dumps(values, indent=1) + "\n").encode())

    def save(self) -> None:
        """Done right before what is reported on appears, so that no reason is lost where the work is killed."""
        if self.file is not None:
            self.write(self.file)


SHOWN = 12
"""Entries of a dictionary that the terminal shows; size_counts has fewer."""


def _short(value: Any, inner: bool = False) -> str:
    """In one line; a dictionary inside of another stands in brackets, and a list inside of a list is joined by ~."""
    if isinstance(value, dict):
        text = ", ".join(f"{k}: {_short(v, inner=True)}" for k, v in list(value.items())[:SHOWN])
        text = f"{len(value)}: {text}, ..." if len(value) > SHOWN else text
        return (f"({text})" if inner and value else text) or "none"
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)}: {_short(value[:5])}, ..."
    if isinstance(value, list):
        return ", ".join(" ~ ".join(map(_short, v)) if isinstance(v, list) else _short(v) for v in value) or "none"
    return str(value)


def track(count: int, what: str) -> Iterator[int]:
    """0..count-1 under a progress bar, on a terminal only."""
    from tqdm import tqdm

    return iter(tqdm(range(count), desc=what, unit="image", disable=None, file=sys.stderr))


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
