"""The training loop, from top to bottom."""

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from facetx.config import Settings, differences
from facetx.data.loader import Batch, training_loader
from facetx.errors import CheckpointError, DataError, FacetxError, some
from facetx.optim import MovingAverage, gradient_norm, rate_at
from facetx.training.build import Run, build, with_cache
from facetx.training.checkpoint import Checkpoint, load_weights, point, prune, save_checkpoint
from facetx.training.sinks import JsonLines, Row, Sink, TensorBoard, Terminal

log = logging.getLogger("facetx")


class DivergedError(FacetxError):
    """Too many steps in a row had a loss or a gradient that is not finite."""


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps done.
        total_steps: Steps that the settings ask for.
        signal: The signal that stopped it, or 0.
        results: The last result of each evaluator.
    """

    step: int
    total_steps: int
    signal: int = 0
    results: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """What a resume needs beside weights and optimiser: the open row of metrics and the counts of bad steps."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: Tensor = field(default_factory=lambda: torch.zeros(()))
    skipped: Tensor = field(default_factory=lambda: torch.zeros(()))
    bad_in_a_row: Tensor = field(default_factory=lambda: torch.zeros(()))
    best: float = -math.inf

    def add(self, scalars: dict[str, Tensor], finite: Tensor) -> None:
        """Takes one step's scalars in, unless it was skipped. Nothing leaves the device."""
        for name, value in scalars.items():
            value = torch.where(finite, value.detach().float(), 0.0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted = self.counted.to(finite.device) + finite
        self.skipped = self.skipped.to(finite.device) + ~finite
        self.bad_in_a_row = torch.where(finite, 0.0, self.bad_in_a_row.to(finite.device) + 1)

    def row(self) -> Row:
        """The means since the last row, which they close."""
        count = max(float(self.counted), 1.0)
        row = {f"train/{name}": float(value) / count for name, value in self.sums.items()}
        self.sums, self.counted = {}, torch.zeros(())
        return {**row, "train/skipped": int(self.skipped)}


def train(settings: Settings, folder: Path, start_from: Checkpoint | None = None) -> Outcome:
    """Trains in ``folder`` until the last step, a signal, or an error.

    Args:
        settings: Of the run.
        folder: Takes ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``.
        start_from: Where to go on. With the same settings the run then ends with the weights of an unbroken one,
            bit for bit on CPU.

    Raises ``FacetxError`` for what the user can mend, ``DivergedError`` where training fell apart.
    """
    torch.set_float32_matmul_precision("high")
    run = build(settings)
    ema = MovingAverage(run.backbone, settings.optim.ema) if settings.optim.ema else None
    progress = Progress()
    start = restore(run, ema, progress, start_from) if start_from else 0
    with_cache(run)
    if settings.train.compile:
        run.backbone.compile()
    sampler = run.sampler(start)
    loader = training_loader(run.items, sampler, settings.data.workers, pin_memory=run.device.type == "cuda")
    sinks: list[Sink] = [
        JsonLines(folder / "metrics.jsonl", start),
        TensorBoard(folder / "tensorboard", start),
        Terminal(run.total_steps, start),
    ]
    outcome = Outcome(start, run.total_steps)
    unreadable: dict[int, str] = {}
    row_began, began = time.perf_counter(), start
    run.task.train()
    with caught_signals() as caught:
        try:
            for step, batch in enumerate(loader, start):
                note_unreadable(run, batch, unreadable)
                progress.add(*training_step(run, batch, step))
                if ema:
                    ema.update(run.backbone, step)

                done = outcome.step = step + 1
                last = done == run.total_steps
                rows: list[Row] = []
                if last or done % settings.train.log_every == 0:
                    seconds = time.perf_counter() - row_began
                    rows.append(training_row(run, progress, done, seconds / (done - began)))
                    stop_if_diverged(run, progress, done)
                if due := evaluators_due(run, done):
                    results = evaluate(run, due, ema)
                    outcome.results |= results
                    rows.append(evaluation_row(results, done, progress, settings.select))
                for row in rows:
                    for sink in sinks:
                        sink.write(row)
                if rows:
                    row_began, began = time.perf_counter(), done
                if last or caught or done % settings.train.checkpoint_every == 0:
                    save(run, ema, progress, folder, done, rows, must=bool(last or caught))
                if caught:
                    outcome.signal = caught[0]
                    break
        finally:
            for sink in sinks:
                sink.close()
    return outcome


def training_step(run: Run, batch: Batch, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """One optimiser step. Returns its scalars and whether it was finite; one that was not changes no weight."""
    s = run.settings
    # Dropout and the like are a function of (seed, step): nothing of the generators needs saving.
    torch.manual_seed(s.seed * 1_000_003 + step + 1)
    rate = rate_at(run.schedule, step, run.total_steps, s.schedule.warmup_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = s.optim.lr * rate
    run.task.at_step(step)  # type: ignore[operator]
    run.optimizer.zero_grad(set_to_none=True)

    scalars: dict[str, Tensor] = {}
    for part in split(batch, s.optim.accumulate, run.device):
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            out = run.task(part)
        (out["loss"] / s.optim.accumulate).backward()
        for name, value in out.items():
            mean = value.detach() / s.optim.accumulate
            scalars[name] = scalars[name] + mean if name in scalars else mean

    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    norm = gradient_norm(parameters)
    if s.optim.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, s.optim.clip_norm, norm)
    finite = torch.isfinite(scalars["loss"]) & torch.isfinite(norm)
    # The fused optimisers leave weights and moments alone where this is 1: no look at the device is needed.
    run.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    run.optimizer.step()
    return {**scalars, "grad_norm": norm}, finite


def split(batch: Batch, parts: int, device: torch.device) -> Iterator[Batch]:
    """The batch on the device, in ``parts`` equal pieces."""
    tensors = {k: v.to(device, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
    size = len(tensors["image"]) // parts
    for i in range(parts):
        yield {k: v[i * size : (i + 1) * size] for k, v in tensors.items()}


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


def evaluators_due(run: Run, done: int) -> list[Any]:
    """Those whose period ends at this step; all of them at the last."""
    periods = [e.every for e in run.settings.evaluators]
    return [e for e, n in zip(run.evaluators, periods) if done == run.total_steps or (n and done % n == 0)]


def evaluate(run: Run, evaluators: list[Any], ema: MovingAverage | None) -> dict[str, Any]:
    """Each evaluator's result, on the weights that would be published."""
    with averaged(run.backbone, ema):
        amp = run.precision == "bf16"
        return {e.name: e.result(run.backbone, device=run.device, amp=amp) for e in evaluators}


def evaluation_row(results: dict[str, Any], done: int, progress: Progress, select: str | None) -> Row:
    """The results as a row, and whether they are the best so far."""
    row: Row = {"step": done}
    for name, result in results.items():
        row |= {f"{name}/{key}": value for key, value in result.summary().items()}
    if select is not None and select.split("/")[0] in results:
        if select not in row:
            raise FacetxError(
                f"select: {select!r} is not measured; there are {', '.join(k for k in row if k != 'step')}"
            )
        row["best"] = row[select] > progress.best
        progress.best = max(progress.best, row[select])
    return row


def save(
    run: Run, ema: MovingAverage | None, progress: Progress, folder: Path, done: int, rows: list[Row], must: bool
) -> None:
    """Writes a checkpoint. A disk that is full for the moment does not stop a run, unless it ``must`` be written."""
    state = {
        "task": run.task.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "ema": ema.state if ema else None,
        "progress": vars(progress),
    }
    metrics = {k: v for row in rows for k, v in row.items()}
    meta = {
        "settings": run.settings.model_dump(mode="json"),
        "input": run.backbone.contract.as_dict(),
        "num_classes": run.dataset.num_classes,
        "metrics": metrics,
        "torch": torch.__version__,
    }
    weights = ema.state if ema else run.backbone.state_dict()
    checkpoints = folder / "checkpoints"
    try:
        checkpoint = save_checkpoint(checkpoints, done, weights, state, meta)
    except CheckpointError as error:
        if must:
            raise
        log.warning("%s", error)
        return
    if metrics.get("best"):
        point(checkpoints, "BEST", checkpoint.path.name)
    prune(checkpoints, run.settings.train.keep)


def restore(run: Run, ema: MovingAverage | None, progress: Progress, checkpoint: Checkpoint) -> int:
    """Takes everything up where the checkpoint left it, and returns its step."""
    ours = run.settings.model_dump(mode="json")
    changed = [f"{k}: {a} -> {b}" for k, a, b in differences(checkpoint.meta["settings"], ours)]
    if changed:
        log.warning(
            "settings differ from the checkpoint's, so this is not the run that it began: %s", "; ".join(changed)
        )
    if checkpoint.step >= run.total_steps:
        log.warning("%s has all %d steps already", checkpoint.path, run.total_steps)
    state = checkpoint.state()
    load_weights(run.task, state["task"], str(checkpoint.path))
    try:
        run.optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: its optimiser is another one ({error})") from error
    if ema:
        if state["ema"] is None:
            raise CheckpointError(f"{checkpoint.path}: has no moving average; set optim.ema: null to resume from it")
        for name, value in state["ema"].items():
            ema.state[name].copy_(value)
    vars(progress).update(state["progress"])
    progress.sums = {k: v.to(run.device) for k, v in progress.sums.items()}
    return checkpoint.step


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


@contextmanager
def averaged(backbone: nn.Module, ema: MovingAverage | None) -> Iterator[None]:
    """The averaged weights inside, the backbone's own again afterwards."""
    if ema is None:
        yield
        return
    own = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.load_state_dict(ema.state)
    try:
        yield
    finally:
        backbone.load_state_dict(own)


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C are noted, so that the step ends and a checkpoint is written; a second one kills."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        log.warning("signal %d: ending this step, then writing a checkpoint; send it again to stop at once", number)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
