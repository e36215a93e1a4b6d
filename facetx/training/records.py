"""What a run leaves behind as it goes on: rows of metrics, and checkpoints, each before what could lose it."""

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from facetx.checkpoints.format import Checkpoint, prune, tidy
from facetx.checkpoints.meta import Meta
from facetx.checkpoints.weights import NotFiniteError
from facetx.checkpoints.write import Writer, record_evaluation
from facetx.errors import CheckpointError, FacetxError
from facetx.files import DRAFTS
from facetx.optim import MovingAverage
from facetx.processes import agreed, is_first
from facetx.training.build import Run
from facetx.training.parallel import share_statistics
from facetx.training.sinks import METRICS, JsonLines, Row, Sink, TensorBoard, Terminal, read_rows
from facetx.training.state import Progress, weights_and_state

log = logging.getLogger("facetx")


class DivergedError(FacetxError):
    """Too many steps in a row had a loss or a gradient that is not finite, or the weights are not."""


def put_in_order(folder: Path, start_from: Checkpoint | None, keep: int) -> None:
    """Takes away what an earlier process left half done in a run's folder, and what is later than ``start_from``."""
    if folder.is_dir():
        for draft in folder.glob(DRAFTS):
            draft.unlink()
        here = start_from is not None and is_of(start_from, folder)
        tidy(folder / "checkpoints", start_from.step if start_from and here else 0, keep)


def is_of(checkpoint: Checkpoint, folder: Path) -> bool:
    """Whether a checkpoint is one of the run in ``folder``."""
    return checkpoint.path.parent.resolve() == (folder / "checkpoints").resolve()


class Records:
    """Rows and checkpoints of a run in ``folder``; a context, at whose end all is written.

    Where a disk takes a row or a checkpoint not, that is told and costs no more, unless the checkpoint must be written.
    Of several processes the first one writes; ``save`` and ``saved`` must be called by all.

    Args:
        run: Whose.
        ema: Its moving average.
        progress: Its progress.
        folder: Of the run.
        start_from: The checkpoint that it goes on from.
    """

    def __init__(
        self, run: Run, ema: MovingAverage | None, progress: Progress, folder: Path, start_from: Checkpoint | None
    ):
        self.run, self.ema, self.progress = run, ema, progress
        start = start_from.step if start_from else 0
        here = start_from is not None and is_of(start_from, folder)
        self._writer = Writer(folder / "checkpoints", run.settings.train.keep)
        self._must = False
        self._written: Checkpoint | None = start_from if here else None
        self._last_row: Row = {}
        self._sinks: list[Sink] = self._open_sinks(folder, start_from) if is_first() else []
        self._silent: set[int] = set()
        if start_from is not None and not here:  # from now on this folder stands for itself
            self.save(start, evaluated=start_from.meta.evaluated)

    def _open_sinks(self, folder: Path, start_from: Checkpoint | None) -> list[Sink]:
        start = start_from.step if start_from else 0
        rows = read_rows(folder / METRICS)
        if start_from and not start_from.meta.evaluated:  # what is asked again is written again
            rows = [row for row in rows if row["step"] < start or "epoch" in row]
        rows = [row for row in rows if row["step"] <= start]
        return [
            JsonLines(folder / METRICS, rows),
            TensorBoard(folder / "tensorboard", start, [row for row in rows if row["step"] == start]),
            Terminal(self.run.total_steps, start),
        ]

    def write(self, row: Row) -> None:
        """Takes a row of the log."""
        self._last_row = row
        for number, sink in enumerate(self._sinks):
            try:
                sink.write(row)
            except OSError as error:
                self._warn(number, error)

    def save(self, step: int, evaluated: bool, must: bool = False) -> None:
        """Begins to write a checkpoint of the state after ``step`` steps.

        Args:
            step: Steps done.
            evaluated: Whether no evaluation is due at this step.
            must: Whether the run fails where it cannot be written.
        """
        self.settle()
        self._must = must
        share_statistics(self.run.task, self.ema)
        whole = weights_and_state(self.run, self.ema, self.progress)
        if not is_first():
            return
        s = self.run.settings
        metrics = self._last_row if self._last_row.get("step") == step else {}
        meta = Meta.make(
            step=step,
            settings=s.model_dump(mode="json"),
            input=self.run.backbone.contract,
            data=self.run.dataset.description(),
            digest=self.run.digest,
            metrics=metrics,
            evaluated=evaluated,
            torch=torch.__version__,
        )
        self._writer.save(meta, *whole)

    def saved(self, step: int) -> bool:
        """Whether the checkpoint of this step has been written, once it is."""
        self.settle()
        return bool(agreed(int(self._written is not None and self._written.step == step))[0])

    def evaluated(self, step: int, row: Row) -> None:
        """Takes the row of the evaluation of a step, and notes it in the step's checkpoint."""
        self.write(row)
        if self.saved(step) and is_first():
            assert self._written is not None
            try:
                record_evaluation(self._written, row, best=row.get("best") is True)
                prune(self._written.path.parent, self.run.settings.train.keep)
            except CheckpointError as error:
                log.warning("%s; it will be asked again on a resume", error)

    def look(self) -> None:
        """Tells how the writing of a checkpoint has ended, if it has, without waiting for it."""
        if self._writer.idle:
            self.settle()

    def settle(self) -> None:
        """Waits for what is being written.

        Raises ``DivergedError`` where the weights are not finite, ``CheckpointError`` where a checkpoint that must be
        written could not be.
        """
        try:
            self._written = self._writer.finished() or self._written
        except NotFiniteError as error:
            raise DivergedError(
                f"{error}. The last checkpoint is from before; try a lower optim.lr, or a smaller optim.clip_norm"
            ) from error
        except CheckpointError as error:
            if self._must:
                raise
            log.warning("%s", error)

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        for number, sink in enumerate(self._sinks):
            try:
                sink.close()
            except OSError as problem:
                self._warn(number, problem)
        try:
            self.settle()
        except FacetxError as problem:
            if kind is None:
                raise
            log.error("%s", problem)  # beside the error that ends the run

    def _warn(self, number: int, error: Any) -> None:
        if number not in self._silent:
            self._silent.add(number)
            log.warning(
                "%s: a row of metrics is not written (%s); training goes on", type(self._sinks[number]).__name__, error
            )
