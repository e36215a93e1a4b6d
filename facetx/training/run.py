"""A run and its folder: settings, log, checkpoints, metrics, pictures."""

import logging
import os
import shutil
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path

from facetx.checkpoints.format import Checkpoint, find_checkpoint, folder_of, steps_in
from facetx.checkpoints.meta import DamagedError
from facetx.config import Settings
from facetx.errors import CheckpointError, ConfigError, FacetxError
from facetx.files import DRAFTS, draft_place, lock
from facetx.plots.pictures import write_pictures
from facetx.processes import agreed, all_alike, count, is_first, joined, rank
from facetx.training.loop import SETTINGS, Outcome, evaluate, train
from facetx.training.sinks import METRICS, read_rows

log = logging.getLogger("facetx")


def start_run(settings: Settings, folder: str | Path, resume: str = "auto", with_changes: bool = False) -> Outcome:
    """Trains in ``folder``, new or taken up again, and draws its pictures. One training at a time can do so; under
    ``torchrun`` several processes are one training, and the first of them writes.

    Args:
        settings: Of the run.
        folder: Holds ``settings.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and ``pictures/``. It
            stays as it is where no step is left to train, or none can begin.
        resume: "auto" goes on where the folder's run stopped, or begins it; "never" wants an empty folder; anything
            else is the path of a checkpoint, or of another run, to go on from in an empty folder.
        with_changes: Go on with settings, or data, that make it another run, which is an error otherwise.

    Raises ``FacetxError`` for what the user can mend.
    """
    folder = Path(folder)
    whole = folder.resolve()
    whole.parent.mkdir(parents=True, exist_ok=True)
    with joined(settings.device), lock(whole, whole / SETTINGS, whole / METRICS) if is_first() else nullcontext():
        agreed()  # the others look into the folder once the first has it, and nobody writes before all have looked
        checkpoint = find_start(folder, resume)
        agree_on_start(checkpoint)
        if checkpoint:
            log.info("going on from %s, step %d", checkpoint.path, checkpoint.step)
        outcome = train(settings, folder, checkpoint, with_changes)
        if agreed(is_first() and _older(folder / "pictures", folder / METRICS))[0]:
            draw(folder, outcome)
    return outcome


def agree_on_start(checkpoint: Checkpoint | None) -> None:
    """Raises ``CheckpointError`` where not all processes have found the same place to begin."""
    if not all_alike(str(checkpoint.step if checkpoint else None)):
        raise CheckpointError(
            f"process {rank()} of {count()} would go on from {checkpoint.path if checkpoint else 'no checkpoint'}, and "
            "another process from another one; --run-dir must be a folder that all machines share"
        )


def _older(pictures: Path, rows: Path) -> bool:
    """Whether pictures are missing, or older than the rows that they show."""
    return rows.exists() and (not pictures.exists() or pictures.stat().st_mtime_ns < rows.stat().st_mtime_ns)


def draw(folder: Path, outcome: Outcome) -> None:
    """The pictures of a run, all of them or none.

    A disk that takes them not, or an evaluator that fails, is told in the log, and costs the pictures alone.
    """
    pictures = folder / "pictures"
    draft = draft_place(pictures)
    try:
        if is_first():
            shutil.rmtree(draft, ignore_errors=True)
        run = outcome.run
        if not outcome.results and not outcome.signal and outcome.step == outcome.total_steps:
            outcome.results = evaluate(run, run.evaluators, outcome.ema)
        if not is_first():
            return
        write_pictures(draft, read_rows(folder / METRICS), outcome.results, run.evaluators)
        if draft.exists():
            shutil.rmtree(pictures, ignore_errors=True)
            draft.rename(pictures)
            os.utime(pictures)
    except (OSError, FacetxError) as error:
        log.warning("%s: could not be drawn (%s); the same command tries again", pictures, error)
        if is_first():
            shutil.rmtree(draft, ignore_errors=True)


def find_start(folder: Path, resume: str) -> Checkpoint | None:
    """Where a run in ``folder`` begins: a checkpoint, or None for the beginning. See ``start_run``."""
    content = [p for p in folder.iterdir() if not fnmatch(p.name, DRAFTS)] if folder.is_dir() else []
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; a run needs a folder")
    if resume == "auto":
        if content and not (folder / SETTINGS).exists():
            raise ConfigError(f"{folder}: is not empty and no run of facetx; choose another --run-dir")
        return _last_of(folder) if content else None
    if content:
        raise ConfigError(
            f"{folder}: is not empty; go on with --resume auto, choose another --run-dir, or move the folder away"
        )
    return None if resume == "never" else find_checkpoint(resume, state=True)


def _last_of(folder: Path) -> Checkpoint | None:
    """The last whole checkpoint of a run; None, which the log says, where it was ended before its first one."""
    problem = "it has none yet"
    if steps_in(folder_of(folder)):
        try:
            return find_checkpoint(folder, state=True)
        except DamagedError as error:
            problem = str(error)
    log.warning("%s: begins anew, since there is no whole checkpoint to go on from: %s", folder, problem)
    return None
