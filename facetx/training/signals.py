"""Stopping a run without losing a step: the one place where a signal becomes a decision."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from facetx.data.workers import SIGNALS
from facetx.processes import agreed, count

log = logging.getLogger("facetx")


class InterruptedBySignal(BaseException):
    """A signal came while work was done that may be left undone."""


class Caught:
    """What signals have asked for.

    Attributes:
        number: The signal that came; 0 while none has.
    """

    def __init__(self) -> None:
        self.number = 0
        self._interrupts = False

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, a signal raises ``InterruptedBySignal`` at once: for what a resumed run does again."""
        self._interrupts = True
        try:
            if self.number:
                raise InterruptedBySignal
            yield
        finally:
            self._interrupts = False

    def by_all(self) -> bool:
        """Whether any process of the training has been sent one, which then counts for all; they ask together."""
        number = agreed(self.number)[0]
        self.number = number or self.number  # one may have come meanwhile, and is for the next time
        return bool(number)

    def note(self, number: int) -> None:
        """A signal has come."""
        self.number = number
        if self._interrupts:
            raise InterruptedBySignal


@contextmanager
def caught_signals() -> Iterator[Caught]:
    """SIGTERM, SIGHUP (a closed terminal) and Ctrl-C are noted, so that the step ends and a checkpoint is written.

    A second one kills. What is ignored when this begins, such as SIGHUP under nohup, stays so.
    """
    caught = Caught()

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(number, previous[number])
        log.warning("signal %d: ending this step, then writing a checkpoint; send it again to stop at once", number)
        caught.note(number)

    heard = [int(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    previous: dict[int, Any] = {number: signal.signal(number, note) for number in heard}
    try:
        yield caught
    except BaseException:
        if count() > 1:  # where another process is lost, torchrun's signal comes before this one has told so
            previous[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
