"""The training loop, from top to bottom."""

import logging
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from facetx.checkpoints.format import Checkpoint
from facetx.config import Settings, to_yaml
from facetx.data.loader import Batch, batches_of, training_loader
from facetx.errors import ConfigError, DataError, FacetxError, some
from facetx.evaluators import Evaluator, How, Result
from facetx.files import write_file
from facetx.optim import MovingAverage, averaged
from facetx.training.build import Run, build
from facetx.training.describe import describe_run
from facetx.training.probes import open_data
from facetx.training.signals import caught_signals
from facetx.training.sinks import JsonLines, Row, Sink, TensorBoard, Terminal
from facetx.training.state import Progress, restore, save
from facetx.training.step import training_step

log = logging.getLogger("facetx")
SETTINGS = "settings.yaml"


class DivergedError(FacetxError):
    """Too many steps in a row had a loss or a gradient that is not finite."""


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps done.
        total_steps: Steps that the settings ask for.
        run: What was built for it.
        signal: The signal that stopped it, or 0.
        results: The last result of each, by its name.
        seconds: Of all steps since the start or the resume, with evaluations and checkpoints.
        evaluating: How many of these went to evaluations.
    """

    step: int
    total_steps: int
    run: Run = field(repr=False)
    signal: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    evaluating: float = 0.0


def train(settings: Settings, folder: Path, start_from: Checkpoint | None = None) -> Outcome:
    """Trains in ``folder`` until the last step, a signal, or an error.

    Args:
        settings: Of the run.
        folder: Takes ``settings.yaml``, ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``, once all is built and
            restored, and only where a step is left.
        start_from: Where to go on. With the same settings the run then ends with the weights of an unbroken one,
            bit for bit on CPU.

    Raises ``FacetxError`` for what the user can mend, ``DivergedError`` where training fell apart.
    """
    torch.set_float32_matmul_precision("high")
    run = build(settings, start_from)
    log.info("the run:\n%s", describe_run(run))
    ema = MovingAverage(run.task.published(), settings.optim.ema) if settings.optim.ema else None
    progress = Progress()
    start = restore(run, ema, progress, start_from) if start_from else 0
    if start >= run.total_steps:
        return Outcome(start, run.total_steps, run)
    open_data(run)
    if settings.train.compile:
        run.backbone.compile()
    sampler = run.sampler(start)
    loader = training_loader(run.items, sampler, settings.data.workers, pin_memory=run.device.type == "cuda")
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / SETTINGS, to_yaml(settings))
    sinks: list[Sink] = [
        JsonLines(folder / "metrics.jsonl", start),
        TensorBoard(folder / "tensorboard", start),
        Terminal(run.total_steps, start),
    ]
    outcome = Outcome(start, run.total_steps, run)
    unreadable: dict[int, str] = {}
    started = row_began = time.perf_counter()
    began = start
    run.task.train()
    with caught_signals() as caught, closing(batches_of(loader)) as batches:
        try:
            for step, batch in enumerate(batches, start):
                note_unreadable(run, batch, unreadable)
                scalars, finite = training_step(run, batch, step)
                progress.add(scalars, finite)
                if ema:
                    ema.update(run.task.published(), step, finite)

                done = outcome.step = step + 1
                last = done == run.total_steps
                rows: list[Row] = []
                if last or done % settings.train.log_every == 0:
                    seconds = time.perf_counter() - row_began
                    rows.append(training_row(run, progress, done, seconds / (done - began)))
                    stop_if_diverged(run, progress, done)
                if due := evaluators_due(run, done):
                    before = time.perf_counter()
                    results = evaluate(run, due, ema)
                    seconds = time.perf_counter() - before
                    outcome.evaluating += seconds
                    outcome.results |= results
                    row = evaluation_row(results, done, progress, settings.select)
                    rows.append({**row, "time/evaluation": seconds})
                for row in rows:
                    for sink in sinks:
                        sink.write(row)
                if rows:
                    row_began, began = time.perf_counter(), done
                best = any(row.get("best") for row in rows)
                if last or caught or best or done % settings.train.checkpoint_every == 0:
                    save(run, ema, progress, folder, done, rows, must=bool(last or caught))
                if caught:
                    outcome.signal = caught[0]
                    break
        finally:
            for sink in sinks:
                sink.close()
    outcome.seconds = time.perf_counter() - started
    if outcome.evaluating:
        share = outcome.evaluating / outcome.seconds
        log.info("%.0f s, of which evaluations took %.0f s (%.1f %%)", outcome.seconds, outcome.evaluating, 100 * share)
    return outcome


def training_row(run: Run, progress: Progress, done: int, seconds_a_step: float) -> Row:
    """The row of the steps since the last one."""
    return {
        "step": done,
        "epoch": done / run.steps_per_epoch,
        "images": done * run.settings.train.batch_size,
        **progress.row(),
        "train/lr": run.optimizer.param_groups[0]["lr"],
        "time/images_per_second": run.settings.train.batch_size / seconds_a_step,
        "time/left": seconds_a_step * (run.total_steps - done),
    }


def evaluators_due(run: Run, done: int) -> list[Evaluator]:
    """Those whose period ends at this step; all of them at the last."""
    periods = [e.every for e in run.settings.evaluators]
    return [e for e, n in zip(run.evaluators, periods) if done == run.total_steps or (n and done % n == 0)]


def evaluate(run: Run, evaluators: list[Evaluator], ema: MovingAverage | None) -> dict[str, Result]:
    """Each evaluator's result, on the weights that would be published.

    One that asks the whole task gets weights that belong together: the averaged ones where all are averaged, else, such
    as where the head is not published, the trained ones.
    """
    how = How(run.device, run.settings.train.batch_size, run.settings.data.workers, amp=run.precision == "bf16")
    published = run.task.published()
    results: dict[str, Result] = {}
    with averaged(published, ema):
        of_average = [e for e in evaluators if not e.whole_task or published is run.task]
        results |= {e.name: e.result(run.task, how) for e in of_average}
    return results | {e.name: e.result(run.task, how) for e in evaluators if e.name not in results}


def evaluation_row(results: dict[str, Any], done: int, progress: Progress, select: str | None) -> Row:
    """The results as a row, and whether they are the best so far."""
    row: Row = {"step": done}
    for name, result in results.items():
        row |= {f"{name}/{key}": value for key, value in result.summary().items()}
    if select is not None and select.split("/")[0] in results:
        if select not in row:
            raise ConfigError(
                f"select: {select!r} is not measured; there are {', '.join(k for k in row if k != 'step')}"
            )
        row["best"] = row[select] > progress.best
        progress.best = max(progress.best, row[select])
    return row


def note_unreadable(run: Run, batch: Batch, known: dict[int, str]) -> None:
    """Logs each unreadable image once. Raises ``DataError`` where there are more than ``data.skip_limit``."""
    for index, problem in batch.pop("unreadable").items():
        if index not in known:
            known[index] = problem
            log.warning("skipped %s", problem)
    limit = run.settings.data.skip_limit
    if len(known) > limit:
        raise DataError(
            f"{run.dataset.name}: more than data.skip_limit = {limit} images are unreadable: "
            f"{some(known.values(), show=3)}; mend or delete them, or raise the limit"
        )


def stop_if_diverged(run: Run, progress: Progress, done: int) -> None:
    """Raises ``DivergedError`` after too many bad steps in a row."""
    bad = int(progress.bad_in_a_row)
    if bad >= run.settings.train.stop_after_bad_steps:
        raise DivergedError(
            f"steps {done - bad + 1} to {done}: loss or gradient not finite, {bad} in a row, all skipped. The last "
            f"checkpoint is from before. Try a lower optim.lr, more schedule.warmup_steps, a smaller optim.clip_norm, "
            f"task.args.margin_warmup_steps, or look at the data"
        )
