"""Checkpoints: folders that are whole or not there.

``step_00000500/`` holds ``model.safetensors`` (what one publishes: the backbone's weights), ``train.pt`` (all that an
exact resume needs; tensors and plain values only) and ``meta.json``. The folder is written beside, synced and renamed;
then the text file ``LAST`` is pointed at it. ``meta.json`` has the length and SHA-256 of its neighbors, so a damaged
checkpoint is recognized, and the one before it is used.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from facetx.errors import CheckpointError
from facetx.nn.backbone import Backbone

FORMAT = 1
WEIGHTS, STATE, META = "model.safetensors", "train.pt", "meta.json"
log = logging.getLogger("facetx")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk, whose files were found whole.

    Attributes:
        path: Its folder.
        meta: Format version, step, settings, input contract, metrics.
    """

    path: Path
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.meta["step"]

    def weights(self) -> dict[str, Tensor]:
        """The backbone's state dict, on the CPU."""
        return load_file(self.path / WEIGHTS)

    def state(self) -> dict[str, Any]:
        """The training state, on the CPU. Raises ``CheckpointError`` where only the weights were kept."""
        if STATE not in self.meta["files"]:
            raise CheckpointError(
                f"{self.path}: has weights and no training state; it can be evaluated, or started from "
                "by model.init_from, not resumed"
            )
        return torch.load(self.path / STATE, map_location="cpu", weights_only=True)


def save_checkpoint(
    folder: Path, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any] | None, meta: Mapping[str, Any]
) -> Checkpoint:
    """Writes ``folder/step_<step>`` and points ``LAST`` at it.

    Raises ``CheckpointError`` where the disk does not take it; what was there before is untouched then.
    """
    final = folder / f"step_{step:08d}"
    beside = folder / f".writing_{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, beside / WEIGHTS)
        if state is not None:
            torch.save(dict(state), beside / STATE)
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(beside.iterdir())}
        full = {"format": FORMAT, "step": step, **meta, "files": files}
        (beside / META).write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
        for path in (*beside.iterdir(), beside):
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(beside, final)
        point(folder, "LAST", final.name)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap a full disk each in its own
        shutil.rmtree(beside, ignore_errors=True)
        raise CheckpointError(
            f"{final}: could not be written ({error}); the checkpoints before it are untouched. "
            f"Free some space and resume with --resume auto"
        ) from error
    return Checkpoint(final, full)


def point(folder: Path, pointer: str, target: str) -> None:
    """Makes the text file ``pointer`` name ``target``, in one step."""
    beside = folder / f".writing_{pointer}"
    beside.write_text(target + "\n", encoding="utf-8")
    _sync(beside)
    os.replace(beside, folder / pointer)
    _sync(folder)


def prune(folder: Path, keep: int) -> None:
    """Deletes all but the ``keep`` latest checkpoints and those that a pointer names."""
    named = {(folder / p).read_text(encoding="utf-8").strip() for p in ("LAST", "BEST") if (folder / p).exists()}
    for old in sorted(folder.glob("step_*"))[:-keep]:
        if old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder ``path``. Raises ``CheckpointError`` naming what is missing or damaged."""
    try:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        files = meta["files"]
        version = meta["format"]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no checkpoint, {META} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {META} is damaged ({error})") from error
    if version != FORMAT:
        raise CheckpointError(f"{path}: written in format {version}, this facetx reads format {FORMAT}")
    for name, expected in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{path}: {name} is missing or damaged")
    return Checkpoint(path, meta)


def find_checkpoint(path: str | Path, pointer: str = "LAST") -> Checkpoint:
    """The checkpoint that is meant by a run's folder, its ``checkpoints`` folder, or a checkpoint's own folder.

    In a run it is the one that ``pointer`` names ("LAST" or "BEST"). Where that one is damaged the latest whole one is
    taken, and a warning says so. Raises ``CheckpointError`` where there is none.
    """
    path = Path(path)
    if (path / META).exists():
        return read_checkpoint(path)
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = sorted(folder.glob("step_*"), reverse=True)
    if not found:
        raise CheckpointError(
            f"{path}: no checkpoint here; expected a run's folder, or a folder with {META} and {WEIGHTS}"
        )
    if (folder / pointer).exists():
        named = folder / (folder / pointer).read_text(encoding="utf-8").strip()
        found = [named, *(p for p in found if p != named)]
    problems = []
    for candidate in found:
        try:
            checkpoint = read_checkpoint(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            log.warning("%s; using %s instead", problem, candidate.name)
        return checkpoint
    raise CheckpointError(f"{path}: no whole checkpoint is left:\n" + "\n".join(problems))


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads a state dict. Raises ``CheckpointError`` that lists missing, unexpected and misshaped keys apart."""
    if isinstance(module, Backbone):
        weights = module.current_names(weights)
    own = module.state_dict()
    missing = [k for k in own if k not in weights]
    unexpected = [k for k in weights if k not in own]
    misshaped = [
        f"{k} {tuple(weights[k].shape)} for {tuple(v.shape)}"
        for k, v in own.items()
        if k in weights and weights[k].shape != v.shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            f"{where}: of another model than the settings build\n"
            f"  missing ({len(missing)}): {', '.join(missing[:5])}\n"
            f"  unexpected ({len(unexpected)}): {', '.join(unexpected[:5])}\n"
            f"  misshaped ({len(misshaped)}): {', '.join(misshaped[:5])}"
        )
    own.update(weights)  # it says what version each module's names are of, as MNASNet wants to know
    module.load_state_dict(own)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
