"""What may change between a run and its resume: what decides no weight; all else must be asked for by name."""

import json
import logging
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from pydantic import ValidationError

from facetx.checkpoints.format import Checkpoint
from facetx.config import Settings, differences
from facetx.data.digest import changes as data_changes
from facetx.errors import ConfigError, DataError

log = logging.getLogger("facetx")

FREE = (
    "name",
    "plugins",
    "device",
    "data.workers",
    "data.cache",
    "data.skip_limit",
    "train.steps",
    "train.epochs",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep",
    "train.parallel",
    "train.stop_after_bad_steps",
    "evaluators",
    "select",
)
"""Settings that may change: where and how long a run trains, how it is logged, and what is asked of it."""


def check_changes(checkpoint: Checkpoint, settings: Settings, allowed: bool = False) -> None:
    """Compares the settings with those that a checkpoint was trained with; free changes are told in the log.

    Args:
        checkpoint: Where to go on.
        settings: Of now.
        allowed: Whether others than ``FREE`` may change, too.

    Raises ``ConfigError`` that lists them where they may not.
    """
    changes = list(differences(_filled(checkpoint), settings.model_dump(mode="json")))
    binding = [c for c in changes if not any(fnmatch(c[0], pattern) for pattern in FREE)]
    if binding and not allowed:
        raise ConfigError(
            f"{checkpoint.path}: was trained with other settings than these, so to go on would be another run:\n"
            + "\n".join(f"  {_words(*change)}" for change in binding)
            + "\nChoose a new --run-dir (model.init_from takes the weights along), or, where it is meant, add "
            "--resume-with-changes"
        )
    if changes:
        log.warning("going on with other settings: %s", "; ".join(_words(*change) for change in changes))
        if any(key in ("train.steps", "train.epochs") for key, _, _ in changes):
            log.warning("the learning rate's schedule is now that of the new length")


def check_data(checkpoint: Checkpoint, digest: Mapping[str, Any], allowed: bool = False) -> None:
    """Compares the training set, by its digest, with the one that a checkpoint was trained on, where that is known.

    Raises ``DataError`` that says what has changed, unless that is ``allowed``.
    """
    changed = data_changes(checkpoint.meta.digest, digest) if checkpoint.meta.digest else []
    if changed and not allowed:
        raise DataError(
            f"{checkpoint.path}: was trained on other data ({'; '.join(changed)}), so to go on would be another run. "
            "Bring the data back, choose a new --run-dir (model.init_from takes the weights along), or, where it is "
            "meant, add --resume-with-changes"
        )
    if changed:
        log.warning("going on with other data: %s", "; ".join(changed))


def _filled(checkpoint: Checkpoint) -> Any:
    """The settings of a checkpoint; those that did not exist when it was written have their defaults."""
    kept = checkpoint.meta.settings.model_dump(mode="json")
    try:
        return Settings.model_validate_json(json.dumps(kept)).model_dump(mode="json")
    except ValidationError:  # there were others, which are differences
        return kept


def _words(key: str, old: Any, new: Any) -> str:
    return f"{key}: {json.dumps(old)} -> {json.dumps(new)}"
