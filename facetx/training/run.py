"""A run and its folder: settings, log, checkpoints, metrics, pictures."""

import logging
from pathlib import Path

from facetx.checkpoints.format import Checkpoint, find_checkpoint
from facetx.config import Settings
from facetx.errors import ConfigError
from facetx.plots.pictures import write_pictures
from facetx.training.loop import SETTINGS, Outcome, train
from facetx.training.sinks import read_rows

log = logging.getLogger("facetx")


def start_run(settings: Settings, folder: str | Path, resume: str = "auto") -> Outcome:
    """Trains in ``folder``, new or taken up again, and draws its pictures.

    Args:
        settings: Of the run.
        folder: Holds ``settings.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and ``pictures/``. It
            stays as it is where no step is left to train, or none can begin.
        resume: "auto" goes on where the folder's run stopped, or begins it; "never" wants an empty folder; anything
            else is the path of a checkpoint, or of another run, to go on from in an empty folder.

    Raises ``FacetxError`` for what the user can mend.
    """
    folder = Path(folder)
    checkpoint = find_start(folder, resume)
    if checkpoint:
        log.info("going on from %s, step %d", checkpoint.path, checkpoint.step)
    outcome = train(settings, folder, checkpoint)
    pictures, metrics = folder / "pictures", folder / "metrics.jsonl"
    went_on = not checkpoint or outcome.step > checkpoint.step
    if went_on or (metrics.exists() and not pictures.exists()):  # or it was killed before it drew them
        rows = read_rows(metrics)
        write_pictures(pictures, rows, outcome.results, outcome.run.evaluators)
    return outcome


def find_start(folder: Path, resume: str) -> Checkpoint | None:
    """Where a run in ``folder`` begins: a checkpoint, or None for the beginning. See ``start_run``."""
    content = list(folder.iterdir()) if folder.is_dir() else []
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; a run needs a folder")
    if resume == "auto":
        if content and not (folder / SETTINGS).exists():
            raise ConfigError(f"{folder}: is not empty and no run of facetx; choose another --run-dir")
        return find_checkpoint(folder) if (folder / "checkpoints").is_dir() else None
    if content:
        raise ConfigError(
            f"{folder}: is not empty; go on with --resume auto, choose another --run-dir, or move the folder away"
        )
    return None if resume == "never" else find_checkpoint(resume)
