"""Where rows of metrics go: a JSONL file, TensorBoard, and the terminal.

A row is a flat dictionary with "step" (optimizer steps done). Keys that begin with "time/" measure the machine; all
others are a function of the settings, so a resumed run writes the very rows that a straight one would have.
"""

import json
import sys
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from facetx.files import write_file

Row = dict[str, Any]


class Sink(Protocol):
    """Takes rows as they come."""

    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file; a last line that a kill cut short is left out."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


class JsonLines:
    """One row a line in ``path``, from ``start`` on: what a killed run wrote after its last checkpoint is dropped."""

    def __init__(self, path: Path, start: int):
        kept = [row for row in read_rows(path) if row["step"] <= start]
        write_file(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Row) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard in ``folder``, from step ``start`` on."""

    def __init__(self, folder: Path, start: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def write(self, row: Row) -> None:
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, row["step"])

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
