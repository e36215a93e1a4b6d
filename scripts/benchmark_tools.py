"""What the parts of ``scripts/benchmark.py`` share."""

import csv
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

COLUMNS = ("date", "table", "setting", "row", "quantity", "value", "device", "threads", "torch", "facetx")
WHERE = "FACETX_BENCHMARK_CSV"
"""Names the file that ``note`` adds to; unset, it does nothing."""


def note(row: str, setting: str, device: str, **numbers: float) -> None:
    """Adds what was measured to the record, a line a number; a quantity's name ends in its unit.

    Args:
        row: Of the table.
        setting: All that decides the number beside the machine, in words.
        device: "cpu" or "cuda".
        numbers: By quantity, such as ``step_ms=1.5``.
    """
    if not (where := os.environ.get(WHERE)):
        return
    import torch

    from facetx import __version__

    path, table = where.rsplit(":", 1)
    new = not Path(path).exists()
    threads = torch.get_num_threads() if device == "cpu" else ""
    with open(path, "a", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        if new:
            lines.writerow(COLUMNS)
        for quantity, value in numbers.items():
            lines.writerow((date.today(), table, setting, row, quantity, f"{value:.6g}", processor(device), threads,
                            torch.__version__, __version__))  # fmt: skip


def processor(device: str) -> str:
    """The card's or the CPU's own name."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def markdown(path: str | Path) -> str:
    """A record as tables, one a table, setting and machine: rows by quantities."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    groups: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for line in lines:  # a number that was measured again takes the place of the earlier one
        key = tuple(line[name] for name in ("table", "setting", "device", "threads", "torch"))
        groups.setdefault(key, {}).setdefault(line["row"], {})[line["quantity"]] = line["value"]
    out = []
    for (table, setting, device, threads, version), rows in groups.items():
        quantities = list(dict.fromkeys(q for numbers in rows.values() for q in numbers))
        machine_words = device + (f", {threads} threads" if threads else "") + f", torch {version}"
        out += [f"### {table}: {setting}", "", machine_words, ""]
        out.append("| | " + " | ".join(q.replace("_", " ") for q in quantities) + " |")
        out.append("|---" * (len(quantities) + 1) + "|")
        out += [f"| {row} | " + " | ".join(n.get(q, "") for q in quantities) + " |" for row, n in rows.items()]
        out.append("")
    return "\n".join(out)


class OutOfTime(Exception):
    """Something takes longer than it may."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises ``OutOfTime`` where what is inside takes longer, and has come back from C by then."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_bytes(device: str) -> int:
    import torch

    from facetx.training.sweep import peak_memory

    return peak_memory(torch.device(device))


def timed(step: Callable[[], Any], device: str) -> float:
    import torch

    # On one CPU thread its own time counts: what other programs take of the core is left out.
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def machine(device: str) -> str:
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"
