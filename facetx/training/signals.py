"""Stopping a run without losing a step."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger("facetx")


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C are noted, so that the step ends and a checkpoint is written; a second one kills."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        log.warning("signal %d: ending this step, then writing a checkpoint; send it again to stop at once", number)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {int(n): signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
