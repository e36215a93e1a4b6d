"""How far a long piece of work has come, told once it takes longer than a reader waits gladly."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from facetx.errors import printable

log = logging.getLogger("facetx")
PATIENCE = 2.0
"""Seconds of silence at the beginning; what is done by then tells nothing."""
PERIOD = 10.0
"""Seconds between two lines of a log."""


@contextmanager
def progress(total: int, what: str, unit: str = "images") -> Iterator[Callable[[int], object]]:
    """Gives ``advance(count)``, to be called as the work goes on.

    On a terminal and in a notebook a bar on stderr shows how far it is and how long it will take; it goes when the work
    is done. Elsewhere, such as where stderr goes to a file, a line of the log says so every ``PERIOD`` seconds.

    Args:
        total: How many there are to do.
        what: Is done, in a word or two.
        unit: Of what.
    """
    if log.isEnabledFor(logging.WARNING) and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        from tqdm import tqdm

        with tqdm(
            total=total,
            desc=printable(what),
            unit=f" {unit}",
            delay=PATIENCE,
            leave=False,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar:
            yield bar.update
    else:
        yield _Lines(total, what, unit)


class _Lines:
    """``advance`` as lines of the log."""

    def __init__(self, total: int, what: str, unit: str):
        self.total, self.what, self.unit = total, what, unit
        self.done, self.began = 0, time.monotonic()
        self.due = self.began + PATIENCE

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now >= self.due and self.done < self.total:
            left = (now - self.began) / self.done * (self.total - self.done) if self.done else float("inf")
            log.info("%s: %d of %d %s, about %.0f s left", self.what, self.done, self.total, self.unit, left)
            self.due = now + PERIOD
