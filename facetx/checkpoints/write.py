"""Writing checkpoints: beside, synced, checked and renamed, in a thread of its own where memory allows."""

import os
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from facetx.checkpoints.format import (
    STATE,
    WEIGHTS,
    Checkpoint,
    point,
    prune,
    remove,
    sha256,
    sync,
)
from facetx.checkpoints.meta import META, FileFacts, Meta, write_meta
from facetx.checkpoints.weights import NotFiniteError, not_finite, tensors_in
from facetx.errors import CheckpointError, some


def save_checkpoint(
    folder: Path, meta: Meta, weights: Mapping[str, Tensor], state: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Writes ``folder/step_<step>`` and points ``LAST`` at it; what is there appears whole, or not at all.

    Args:
        folder: Of a run's checkpoints.
        meta: The description; the facts of the files are filled in.
        weights: What the task publishes.
        state: What else a resume needs, a tree of dictionaries of tensors and plain values; None for weights alone.

    Raises ``NotFiniteError`` for NaN or infinite numbers in a tensor, and ``CheckpointError`` where the disk does not
    take it. What was there before is untouched then.
    """
    final = folder / f"step_{meta.step:08d}"
    if bad := not_finite({**weights, **(state or {})}):
        raise NotFiniteError(f"{final}: is not written, since there are NaN or infinite numbers in {some(bad)}")
    beside = folder / f".writing_{secrets.token_hex(6)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, beside / WEIGHTS)
        if state is not None:
            torch.save(dict(state), beside / STATE)
        files = {p.name: FileFacts(bytes=p.stat().st_size, sha256=sha256(p)) for p in sorted(beside.iterdir())}
        meta = meta.model_copy(update={"files": files})
        write_meta(beside, meta)
        for path in (*beside.iterdir(), beside):
            sync(path)
        if final.exists():
            remove([final])
        os.replace(beside, final)
        sync(folder)
        point(folder, "LAST", final.name)
    except (OSError, RuntimeError, MemoryError, SafetensorError, CheckpointError) as error:
        # torch and safetensors wrap a full disk each in its own
        shutil.rmtree(beside, ignore_errors=True)
        raise CheckpointError(
            f"{final}: could not be written ({error}); the checkpoints before it are untouched. "
            f"Free some space and resume with --resume auto"
        ) from error
    return Checkpoint(final, meta)


def record_evaluation(checkpoint: Checkpoint, metrics: Mapping[str, Any], best: bool) -> None:
    """Notes that the evaluation due at a checkpoint's step is done, and what came out; points ``BEST`` at the best.

    Raises ``CheckpointError`` where the disk does not take it.
    """
    update = {"metrics": {**checkpoint.meta.metrics, **metrics}, "evaluated": True}
    try:
        write_meta(checkpoint.path, Meta.make(**{**checkpoint.meta.as_dict(), **update}))
        sync(checkpoint.path / META)
        sync(checkpoint.path)
        if best:
            point(checkpoint.path.parent, "BEST", checkpoint.path.name)
    except OSError as error:
        raise CheckpointError(f"{checkpoint.path}: its evaluation could not be noted ({error})") from error


class Writer:
    """Writes the checkpoints of a run one after the other, while training goes on.

    The tensors are copied to the CPU first; a thread does the rest. Where less than twice the memory of the copy is
    free, there is no copy, and the writing is waited for. What comes out is the same.

    Args:
        folder: Of the run's checkpoints.
        keep: How many of the latest stay.
    """

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Checkpoint] | None = None

    def save(self, meta: Meta, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Begins to write a checkpoint, once the one before it is written. Raises what ``finished`` raises."""
        self.finished()
        size = sum(t.numel() * t.element_size() for _, t in tensors_in({"weights": weights, "state": state}))
        if free_memory() >= 2 * size:
            self._pending = self._thread.submit(self._write, meta, on_cpu(weights), on_cpu(state))
        else:
            self._pending = Future()
            try:
                self._pending.set_result(self._write(meta, weights, state))
            except CheckpointError as error:
                self._pending.set_exception(error)

    @property
    def idle(self) -> bool:
        """Whether nothing is being written just now."""
        return self._pending is None or self._pending.done()

    def finished(self) -> Checkpoint | None:
        """Waits for what is being written, and returns it; None where there is nothing.

        Raises ``CheckpointError`` where it could not be written, once.
        """
        pending, self._pending = self._pending, None
        return pending.result() if pending else None

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()

    def _write(self, meta: Meta, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> Checkpoint:
        checkpoint = save_checkpoint(self.folder, meta, weights, state)
        prune(self.folder, self.keep)
        return checkpoint


def on_cpu(values: Any) -> Any:
    """A copy, on the CPU, of a tree of dictionaries, lists and tensors."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", copy=True)
    if isinstance(values, Mapping):
        return {key: on_cpu(value) for key, value in values.items()}
    return [on_cpu(value) for value in values] if isinstance(values, list | tuple) else values


def free_memory() -> int:
    """Bytes of memory that this process may still take, as far as the system says; 0 where it does not."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    except (OSError, ValueError, StopIteration):
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return 0
    try:  # a container may have less than its machine
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # none, or "max"
        return free
