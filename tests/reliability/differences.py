"""What two folders that should be equal differ in, in words: those of an unbroken work and of one that was killed."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facetx.checkpoints.format import find_checkpoint, read_checkpoint
from facetx.training.sinks import read_rows


def of_preparations(unbroken: Path, killed: Path) -> Iterator[str]:
    """Byte by byte."""
    yield from _listing(unbroken, killed)
    for file in sorted(_files(unbroken) & _files(killed)):
        if (unbroken / file).is_file() and (unbroken / file).read_bytes() != (killed / file).read_bytes():
            yield f"{file}: other bytes"


def of_trainings(unbroken: Path, killed: Path, stopped: bool = False) -> Iterator[str]:
    """All but times: files, pointers, weights and training states bit by bit, rows of metrics, in TensorBoard too.

    Args:
        unbroken, killed: Folders that hold ``run`` and nothing else.
        stopped: Whether a run was asked to stop meanwhile. It then wrote a checkpoint that the unbroken run has not, in
            whose place an earlier one of those that are kept may have gone.
    """
    if not stopped:
        yield from _listing(unbroken, killed)
    a, b = unbroken / "run", killed / "run"
    if sorted(p.name for p in (a / "pictures").iterdir()) != sorted(p.name for p in (b / "pictures").iterdir()):
        yield "other pictures"
    for pointer in ("LAST", "BEST"):
        if _text(a / "checkpoints" / pointer) != _text(b / "checkpoints" / pointer):
            yield f"{pointer} names {_text(b / 'checkpoints' / pointer)}, not {_text(a / 'checkpoints' / pointer)}"
        elif find_checkpoint(b, pointer).path.name != _text(b / "checkpoints" / pointer):
            yield f"{pointer} is not what is found by it"
    for path in sorted((a / "checkpoints").glob("step_*")):
        if (other := b / "checkpoints" / path.name).exists():
            yield from (f"{path.name}: {words}" for words in _of_checkpoints(path, other))
    rows = [[_without_times(row) for row in read_rows(folder / "metrics.jsonl")] for folder in (a, b)]
    if rows[0] != rows[1]:
        yield f"other rows: {_first_difference(*rows)}"
    curves = [_curves(folder / "tensorboard") for folder in (a, b)]
    if curves[0] != curves[1]:
        yield f"other curves in TensorBoard: {_first_difference(*(sorted(c.items()) for c in curves))}"


def _of_checkpoints(a: Path, b: Path) -> Iterator[str]:
    first, second = read_checkpoint(a), read_checkpoint(b)
    if not _equal(first.weights(), second.weights()):
        yield "other weights"
    if not _equal(first.state(), second.state()):
        yield "another training state"
    metas = []
    for checkpoint in (first, second):
        meta = checkpoint.meta.as_dict()
        meta["metrics"] = _without_times(meta["metrics"])
        meta["settings"]["data"]["workers"] = None
        metas.append({key: value for key, value in meta.items() if key != "files"})
    for key in metas[0]:
        if metas[0][key] != metas[1][key]:
            yield f"meta.json, {key}: {json.dumps(metas[1][key])[:300]}, not {json.dumps(metas[0][key])[:300]}"


def _listing(unbroken: Path, killed: Path) -> Iterator[str]:
    """Drafts and locks, hidden ones too, are differences."""
    a, b = _files(unbroken), _files(killed)
    yield from (f"{file}: is missing" for file in sorted(a - b))
    yield from (f"{file}: is left over" for file in sorted(b - a))


def _files(folder: Path) -> set[str]:
    """Paths of all files, folders and links; each start of a run has an own file of events."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*")}
    return {file for file in found if "tfevents" not in file}


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("time/")}


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard shows them, which takes the files by the second of their beginning: here two begin in one."""
    with tempfile.TemporaryDirectory() as place:
        for number, file in enumerate(sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)):
            (Path(place) / f"{number:03d}.tfevents").symlink_to(file.resolve())
        events = EventAccumulator(place).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def _first_difference(a: list[Any], b: list[Any]) -> str:
    for one, other in zip(a, b):
        if one != other:
            return f"{other}, not {one}"[:600]
    return f"{len(b)}, not {len(a)}"


def _equal(a: Any, b: Any) -> bool:
    """Of trees of dictionaries, lists, tensors and plain values; tensors bit for bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)
