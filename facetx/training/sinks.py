"""Where rows of metrics go: a JSONL file, TensorBoard, and the terminal.

A row is a flat dictionary with "step" (optimizer steps done). Keys that begin with "time/" measure the machine; all
others are a function of the settings, so a resumed run writes the very rows that a straight one would have.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from facetx.errors import printable
from facetx.files import write_file

Row = dict[str, Any]
METRICS = "metrics.jsonl"
log = logging.getLogger("facetx")


class Sink(Protocol):
    """Takes rows as they come. Its methods may raise ``OSError``, which costs rows and not the run."""

    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file. A line that is none is left out, and a warning says so, unless a kill cut it short."""
    rows: list[Row] = []
    if not path.exists():
        return rows
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("step")) is not int:
                raise ValueError("no row with a step")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            if line and number < len(lines):
                log.warning("%s:%d: left out, a damaged line (%s)", path, number, printable(str(error)))
    return rows


class JsonLines:
    """One row a line in ``path``. Where the disk takes none for a while, they are written once it does.

    Args:
        path: The file.
        kept: The rows that stay of what is there.
    """

    def __init__(self, path: Path, kept: Iterable[Row] = ()):
        write_file(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._waiting = b""

    def write(self, row: Row) -> None:
        self._waiting += json.dumps(row).encode() + b"\n"
        self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            os.close(self._file)

    def _flush(self) -> None:
        """Writes whole lines, or nothing."""
        size = os.fstat(self._file).st_size
        if self._waiting and os.write(self._file, self._waiting) < len(self._waiting):
            os.ftruncate(self._file, size)
            raise OSError("the disk took a part of a line only")
        self._waiting = b""


class TensorBoard:
    """Scalars for TensorBoard in ``folder``: ``rows`` again, in place of what it has from step ``start`` on."""

    def __init__(self, folder: Path, start: int, rows: Iterable[Row] = ()):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start)
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Terminal:
    """One progress bar with loss, images a second and the time left; plain lines where the output is no terminal."""

    def __init__(self, total: int, start: int):
        self._bar = tqdm(
            total=total,
            initial=start,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}, {elapsed}<{remaining}",
        )
        self._total = total

    def write(self, row: Row) -> None:
        if "train/loss" in row:
            text = f"loss {row['train/loss']:.3f}, {row['time/images_per_second']:.0f} images/s"
            text += f", {100 * row['time/data_wait']:.0f} % waiting for data" if "time/data_wait" in row else ""
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(row["step"] - self._bar.n)
            if self._bar.disable:
                left = row["time/left"]
                print(f"step {row['step']}/{self._total}  {text}, {left:.0f} s left", file=sys.stderr, flush=True)
        elif shown := {k: v for k, v in row.items() if k.endswith(("/accuracy", "/auc", "/top1"))}:
            self._bar.write(
                f"step {row['step']}: " + ", ".join(f"{k} {v:.4f}" for k, v in shown.items()), file=sys.stderr
            )

    def close(self) -> None:
        self._bar.close()
