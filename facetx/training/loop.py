"""The training loop, from top to bottom."""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from facetx.checkpoints.format import Checkpoint
from facetx.config import Settings, to_yaml
from facetx.data.loader import Batch, training_loader
from facetx.data.workers import batches_of
from facetx.errors import ConfigError, DataError, FacetxError, own_words, some
from facetx.evaluators import Evaluator, How, Result
from facetx.files import write_file
from facetx.logs import log_in_notebook
from facetx.nn.device import only_deterministic
from facetx.optim import MovingAverage, averaged
from facetx.processes import EVERY_PROCESS, ProcessError, agreed, all_alike, count, is_first, rank
from facetx.training.build import Run, build
from facetx.training.changes import check_changes, check_data
from facetx.training.describe import describe_run
from facetx.training.probes import open_data
from facetx.training.records import DivergedError, Records, put_in_order
from facetx.training.signals import Caught, InterruptedBySignal, caught_signals
from facetx.training.sinks import Row
from facetx.training.state import Progress, restore
from facetx.training.step import training_step

log = logging.getLogger("facetx")
SETTINGS = "settings.yaml"


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps done.
        total_steps: Steps that the settings ask for.
        run: What was built for it.
        ema: The moving average of what it publishes, where it has one.
        signal: The signal that stopped it, or 0.
        results: The last result of each, by its name.
        seconds: Of all steps since the start or the resume, with evaluations and checkpoints.
        evaluating: How many of these went to evaluations.
    """

    step: int
    total_steps: int
    run: Run = field(repr=False)
    ema: MovingAverage | None = field(default=None, repr=False)
    signal: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    evaluating: float = 0.0


def train(
    settings: Settings, folder: Path, start_from: Checkpoint | None = None, with_changes: bool = False
) -> Outcome:
    """Trains in ``folder`` until the last step, a signal, or an error.

    Args:
        settings: Of the run.
        folder: Takes ``settings.yaml``, ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``, once all is built and
            restored, and only where a step or an evaluation is left. Checkpoints later than ``start_from`` go.
        start_from: Where to go on. With the same settings the run then ends with the weights of an unbroken one,
            bit for bit on CPU.
        with_changes: Go on even with settings, or data, that make it another run.

    Raises ``FacetxError`` for what the user can mend, ``DivergedError`` where training fell apart.
    """
    log_in_notebook()
    if start_from:
        check_changes(start_from, settings, with_changes)
    torch.set_float32_matmul_precision("high")
    only_deterministic(settings.train.deterministic)
    run = build(settings, start_from)
    agree_on_run(run)
    log.info("the run:\n%s", describe_run(run))
    ema = MovingAverage(run.task.published(), settings.optim.ema) if settings.optim.ema else None
    progress = Progress()
    start, unanswered = 0, list[Evaluator]()
    if start_from:
        check_data(start_from, run.digest, with_changes)
        restore(run, ema, progress, start_from)
        start = start_from.step
        unanswered = [] if start_from.meta.evaluated else evaluators_due(run, start)
    if is_first():
        put_in_order(folder, start_from, settings.train.keep)
    outcome = Outcome(start, run.total_steps, run, ema)
    if start >= run.total_steps and not unanswered:
        log.warning("all %d steps are done already", run.total_steps)
        return outcome
    open_data(run)
    run.task.compile_network(settings.train.compile)
    loader = training_loader(run.items, run.sampler(start), settings.data.workers, pin_memory=run.device.type == "cuda")
    if is_first():
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / SETTINGS, to_yaml(settings))
    unreadable: dict[int, str] = {}
    run.task.train()
    with (
        caught_signals() as caught,
        Records(run, ema, progress, folder, start_from) as records,
        closing(batches_of(loader)) as batches,
    ):
        started = row_began = time.perf_counter()
        began, waited = start, 0.0
        stop = bool(unanswered) and not ask(unanswered, outcome, progress, records, caught)
        while outcome.step < run.total_steps and not stop:
            problem: BaseException | None = None
            try:
                with caught.interrupting():
                    asked = time.perf_counter()
                    batch = next(batches)
                    waited += time.perf_counter() - asked
                note_unreadable(run, batch, unreadable)
            except (Exception, InterruptedBySignal) as error:
                problem = error
            if agreed(problem is not None)[0]:  # here or in another process
                stop = caught.by_all()
                if outcome.step and not records.saved(outcome.step):
                    records.save(outcome.step, evaluated=True, must=stop)
                if stop:
                    break
                raise problem or ProcessError("training ends by an error of another process, which tells it")
            scalars, finite = training_step(run, batch, outcome.step)
            progress.add(scalars, finite)
            progress.images += len(batch["label"]) * count()
            if ema:
                ema.update(run.task.published(), outcome.step, finite)

            done = outcome.step = outcome.step + 1
            records.look()
            last = done == run.total_steps
            if last or done % settings.train.log_every == 0:
                seconds = time.perf_counter() - row_began
                row = training_row(run, progress, done, seconds / (done - began), waited / seconds)
                stop_if_diverged(run, progress, done)
                records.write(row)
                row_began, began, waited = time.perf_counter(), done, 0.0
            due, stop = evaluators_due(run, done), caught.by_all()
            if last or due or stop or done % settings.train.checkpoint_every == 0:
                records.save(done, evaluated=not due, must=last or stop)
            if due and not stop:
                stop = not ask(due, outcome, progress, records, caught)
                row_began, began, waited = time.perf_counter(), done, 0.0
    outcome.signal = caught.number
    outcome.seconds = time.perf_counter() - started
    if outcome.evaluating:
        share = outcome.evaluating / outcome.seconds
        log.info("%.0f s, of which evaluations took %.0f s (%.1f %%)", outcome.seconds, outcome.evaluating, 100 * share)
    return outcome


def agree_on_run(run: Run) -> None:
    """Raises ``ConfigError`` where the processes of a training have other settings, or other data, than each other."""
    if count() == 1:
        return
    for what, text in (("settings", run.settings.model_dump_json()), ("data", json.dumps(run.digest, sort_keys=True))):
        if not all_alike(text):
            raise ConfigError(
                f"process {rank()} of {count()}: not all processes have the same {what}; start them with one YAML and "
                "one set of options, and let all machines see the same files"
            )


def ask(due: list[Evaluator], outcome: Outcome, progress: Progress, records: Records, caught: Caught) -> bool:
    """Asks the evaluators that are due at ``outcome.step``, whose checkpoint is being written, and notes the answers.

    Returns False where a signal left them unanswered. So does an evaluator's error, which is raised: a resume asks
    again.
    """
    run, step = outcome.run, outcome.step
    before = time.perf_counter()
    try:
        with caught.interrupting() if count() == 1 else nullcontext():  # several ask together, and none leaves alone
            results = evaluate(run, due, outcome.ema)
    except InterruptedBySignal:
        return False
    except Exception:
        log.error("the evaluation after step %d failed; the same command asks again, and goes on from there", step)
        raise
    seconds = time.perf_counter() - before
    outcome.evaluating += seconds
    outcome.results |= results
    row = evaluation_row(results, step, progress, run.settings.select, records.saved(step))
    records.evaluated(step, {**row, "time/evaluation": seconds})
    return True


def training_row(run: Run, progress: Progress, done: int, seconds_a_step: float, data_wait: float = 0.0) -> Row:
    """The row of the steps since the last one, in which the loop waited for data this share of the time."""
    return {
        "step": done,
        "epoch": done / run.steps_per_epoch,
        "images": progress.images,
        **progress.row(),
        "train/lr": run.optimizer.param_groups[0]["lr"],
        "time/images_per_second": run.settings.train.batch_size / seconds_a_step,
        "time/data_wait": data_wait,
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
    size = run.settings.train.batch_size // count()
    how = How(run.device, size, run.settings.data.workers, amp=run.precision == "bf16")
    published = run.task.published()
    with averaged(published, ema):
        results = answers(run, (e for e in evaluators if not e.whole_task or published is run.task), how)
    return results | answers(run, (e for e in evaluators if e.name not in results), how)


def answers(run: Run, evaluators: Iterable[Evaluator], how: How) -> dict[str, Result]:
    """Each evaluator's result, on the weights as they are; an error begins with its name."""
    results = {}
    for evaluator in evaluators:
        try:
            results[evaluator.name] = evaluator.result(run.task, how)
        except FacetxError as error:
            raise type(error)(f"evaluator {evaluator.name}: {own_words(error)}") from error
    return results


def evaluation_row(
    results: Mapping[str, Result], done: int, progress: Progress, select: str | None, saved: bool = True
) -> Row:
    """The results as a row, and whether they are the best so far, which only what is ``saved`` can be."""
    row: Row = {"step": done}
    for name, result in results.items():
        row |= {f"{name}/{key}": value for key, value in result.summary().items()}
    if select is not None and select.split("/")[0] in results:
        if select not in row:
            raise ConfigError(
                f"select: {select!r} is not measured; there are {', '.join(k for k in row if k != 'step')}"
            )
        row["best"] = saved and row[select] > progress.best
        progress.best = row[select] if row["best"] else progress.best
    return row


def note_unreadable(run: Run, batch: Batch, known: dict[int, str]) -> None:
    """Logs each unreadable image once. Raises ``DataError`` where there are more than ``data.skip_limit``."""
    for index, problem in batch.pop("unreadable").items():
        if index not in known:
            known[index] = problem
            EVERY_PROCESS.warning("skipped %s", problem)
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
