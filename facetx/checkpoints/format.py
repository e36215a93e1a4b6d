"""Checkpoints: folders that are whole or not there.

``step_00000500/`` holds ``model.safetensors``, the weights that one publishes; ``state.pt``, what else an exact resume
needs (tensors and plain values only); and ``meta.json``, their description, with the length and SHA-256 of both and of
itself. Nothing is stored twice. The text files ``LAST`` and ``BEST`` beside the folders name one of them each. So a
damaged checkpoint is recognized, and the one before it is used. ``facetx.checkpoints.write`` writes them.

Format 1, which is read too, has ``train.pt`` in place of ``state.pt``, with the published weights once more.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from facetx.checkpoints import format_1
from facetx.checkpoints.meta import META, DamagedError, Meta, read_meta
from facetx.checkpoints.weights import read_safetensors, read_torch
from facetx.errors import CheckpointError, DataError
from facetx.files import DRAFTS, drafts_of, open_file

WEIGHTS, STATE = "model.safetensors", "state.pt"
_STEP = re.compile(r"step_(\d{8,18})")
log = logging.getLogger("facetx")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk, whose files are there. What is read of them is compared with its hash, once.

    Attributes:
        path: Its folder.
        meta: Its description.
    """

    path: Path
    meta: Meta
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.meta.step

    def weights(self) -> dict[str, Tensor]:
        """What the task published, a state dict on the CPU. Raises ``DamagedError``."""
        self.verify(WEIGHTS)
        return read_safetensors(self.path / WEIGHTS)

    def state(self) -> dict[str, Any]:
        """The training state, on the CPU, as ``facetx.training.state`` has put it there.

        Raises ``CheckpointError`` where only the weights were kept, and ``DamagedError``.
        """
        name = self.state_file()
        self.verify(name)
        state = read_torch(self.path / name)
        if not isinstance(state, dict):
            raise CheckpointError(f"{self.path}: {name} holds a {type(state).__name__} and no training state")
        return state if self.meta.format > 1 else format_1.as_format_2(state, str(self.path))

    def state_file(self) -> str:
        """The name of the file with the training state. Raises ``CheckpointError`` where only weights were kept."""
        name = STATE if self.meta.format > 1 else format_1.STATE
        if name not in self.meta.files:
            raise CheckpointError(
                f"{self.path}: has weights and no training state; it can be evaluated, or started from "
                "by model.init_from, not resumed"
            )
        return name

    def verify(self, name: str) -> None:
        """Raises ``DamagedError`` unless a file has the hash that it was written with."""
        if name not in self._verified:
            if sha256(self.path / name) != self.meta.files[name].sha256:
                raise DamagedError(f"{self.path}: {name} is missing or damaged")
            self._verified.add(name)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder ``path``, whose files are there and of the right length.

    Raises ``DamagedError`` naming what is missing or damaged, and ``CheckpointError`` for another format.
    """
    meta = read_meta(path)
    if WEIGHTS not in meta.files:
        raise DamagedError(f"{path}: {META} is damaged (it names no {WEIGHTS})")
    for name, facts in meta.files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != facts.bytes:
            raise DamagedError(f"{path}: {name} is missing or damaged")
    return Checkpoint(path, meta)


def find_checkpoint(path: str | Path, pointer: str = "LAST", state: bool = False) -> Checkpoint:
    """The checkpoint that is meant by a run's folder, its ``checkpoints`` folder, or a checkpoint's own folder.

    In a run it is the one that ``pointer`` names ("LAST" or "BEST"). Where that one is damaged the latest whole one is
    taken, and a warning says so.

    Args:
        path: The folder.
        pointer: Which of a run's.
        state: Whether its training state will be read, so that this must be whole too.

    Raises ``CheckpointError`` where there is none.
    """
    path = Path(path)
    if (path / META).exists():
        return _whole(path, state)
    folder = folder_of(path)
    found = _in_order(folder, pointer)
    if not found:
        raise CheckpointError(
            f"{path}: no checkpoint here; expected a run's folder, or a folder with {META} and {WEIGHTS}"
        )
    problems = []
    for candidate in found:
        try:
            checkpoint = _whole(candidate, state)
        except DamagedError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            log.warning("%s; using %s instead", problem, candidate.name)
        return checkpoint
    raise DamagedError(f"{path}: no whole checkpoint is left:\n" + "\n".join(problems))


def folder_of(path: Path) -> Path:
    """The folder of the checkpoints of a run, given it or the run's."""
    return path / "checkpoints" if (path / "checkpoints").is_dir() else path


def steps_in(folder: Path) -> list[Path]:
    """The checkpoints' folders, the latest first."""
    found = [(int(match[1]), p) for p in folder.glob("step_*") if (match := _STEP.fullmatch(p.name)) and p.is_dir()]
    return [p for _, p in sorted(found, reverse=True)]


def pointed(folder: Path, pointer: str) -> Path | None:
    """The folder that the text file ``pointer`` names, None where there is no such file.

    It names a checkpoint beside it and nothing else; where it does not, a warning says so, and None is given.
    """
    if not (folder / pointer).is_file():
        return None
    try:
        with (folder / pointer).open("rb") as file:
            name = file.read(100).decode("ascii", "replace").strip()
    except OSError as error:
        raise CheckpointError(f"{folder / pointer}: cannot be read: {error.strerror or error}") from error
    if not _STEP.fullmatch(name):
        log.warning("%s: is damaged, it names no checkpoint of this run", folder / pointer)
        return None
    return folder / name


def point(folder: Path, pointer: str, target: str) -> None:
    """Makes the text file ``pointer`` name ``target``, in one step."""
    beside = folder / f".writing_{secrets.token_hex(6)}"
    with beside.open("x", encoding="utf-8") as file:
        file.write(target + "\n")
    sync(beside)
    os.replace(beside, folder / pointer)
    sync(folder)


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the ``keep`` latest checkpoints and those that a pointer names."""
    named = {pointed(folder, pointer) for pointer in ("LAST", "BEST")}
    remove(p for p in steps_in(folder)[keep:] if p not in named)


def tidy(folder: Path, step: int, keep: int) -> None:
    """Makes order where a run was ended in the midst of something, before it goes on from ``step`` (0: anew).

    Half-written folders go, and damaged checkpoints later than ``step``; ``BEST`` names what was the best until then.
    """
    if not folder.is_dir():
        return
    for left in (*folder.glob(".writing_*"), *folder.glob(f"step_*/{DRAFTS}")):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    steps = steps_in(folder)
    for draft in (draft for path in steps for draft in drafts_of(path / META)):
        draft.unlink(missing_ok=True)
    remove(p for p in steps if _step_of(p) > step or not step)
    best = _flagged_best(steps_in(folder))
    if best is not None:
        if pointed(folder, "BEST") != best:
            point(folder, "BEST", best.name)
    elif (named := pointed(folder, "BEST")) is None or not named.is_dir():
        (folder / "BEST").unlink(missing_ok=True)
    last = folder / f"step_{step:08d}"
    if not step:
        (folder / "LAST").unlink(missing_ok=True)
    elif pointed(folder, "LAST") != last:
        point(folder, "LAST", last.name)
    prune(folder, keep)


def remove(folders: Iterable[Path]) -> None:
    """Deletes checkpoints, each of which is whole until it is not there."""
    for folder in folders:
        hidden = folder.with_name(f".writing_{secrets.token_hex(6)}")
        try:
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            log.warning("%s: could not be deleted (%s)", folder, error)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises ``CheckpointError`` where it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Waits until a file, or the list of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(path: Path, state: bool) -> Checkpoint:
    checkpoint = read_checkpoint(path)
    checkpoint.verify(WEIGHTS)
    if state:
        checkpoint.verify(checkpoint.state_file())
    return checkpoint


def _in_order(folder: Path, pointer: str) -> list[Path]:
    """The checkpoints in the order in which they are tried: the one that is meant, then the latest."""
    steps = steps_in(folder)
    named = pointed(folder, pointer)
    if pointer == "BEST":  # a run that was killed right after it knew a better one had no time to move the pointer
        best = _flagged_best(steps)
        named = best if best is not None and (named is None or _step_of(best) > _step_of(named)) else named
    return steps if named is None else [named, *(p for p in steps if p != named)]


def _flagged_best(steps: Iterable[Path]) -> Path | None:
    """The first of these checkpoints that was the best when it was written."""
    for path in steps:
        try:
            if read_meta(path).metrics.get("best") is True:
                return path
        except CheckpointError:
            continue
    return None


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
