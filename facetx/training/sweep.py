"""Several variants in turn on the same data, budget and seed, each an ordinary run in a process of its own."""

import json
import logging
import os
import resource
import signal
import statistics
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from facetx.config import Settings, check_settings, differences, load_settings
from facetx.data.formats.arrays import read_npz
from facetx.data.workers import SIGNALS, die_with_parent
from facetx.errors import ConfigError, FacetxError, some
from facetx.evaluators.verification import VerificationResult
from facetx.files import lock, write_file
from facetx.logs import log_to_stderr
from facetx.nn.profile import parameter_count
from facetx.plots.figures import COMPARED, plot_comparison, plot_distributions
from facetx.tables import Table
from facetx.training.build import build
from facetx.training.describe import describe_run
from facetx.training.loop import SETTINGS, evaluate
from facetx.training.records import DivergedError
from facetx.training.run import start_run
from facetx.training.sinks import METRICS, read_rows

log = logging.getLogger("facetx")
FACTS, SCORES = "variant.json", "scores.npz"


@dataclass
class Sweep:
    """What has been measured so far.

    Attributes:
        variants: Name -> its facts: "results" (evaluator -> its numbers), "parameters" of the backbone, "images" seen
            in training, "images_per_second" of training (the median of the log rows), "peak_memory" in bytes (of the
            process; on CUDA, of its tensors), "device", and "diverged", why training fell apart, or None.
        signal: The signal that stopped it, or 0.
    """

    variants: dict[str, dict[str, Any]]
    signal: int = 0

    def table(self) -> str:
        """A Markdown table that reads well in a terminal too, one line a variant."""
        measured = [f"{e}/{k}" for v in self.variants.values() for e, r in v["results"].items() for k in r]
        kinds = list(COMPARED)
        keys = [key for key in dict.fromkeys(measured) if key.split("/")[1] in kinds]
        keys.sort(key=lambda key: kinds.index(key.split("/")[1]))
        titles = ["{} {} (%)".format(key.split("/")[0], COMPARED[key.split("/")[1]]) for key in keys]
        head = ("variant", *titles, "parameters (M)", "images/s", "peak memory (MiB)")
        rows = []
        for name, facts in self.variants.items():
            cells = [_percent(facts["results"], *key.split("/")) for key in keys]
            machine = (facts["parameters"] / 1e6, facts["images_per_second"], facts["peak_memory"] / 2**20)
            rows.append((name, *cells, f"{machine[0]:.2f}", f"{machine[1]:.0f}", f"{machine[2]:.0f}"))
        notes = [f"\n{name}: {v['diverged']}" for name, v in self.variants.items() if v["diverged"]]
        return "\n".join([Table(head, rows).markdown(), *notes])


def _percent(results: Mapping[str, Mapping[str, float]], evaluator: str, key: str) -> str:
    numbers = results.get(evaluator, {})
    if key not in numbers:
        return "–"
    spread = f" ± {100 * numbers['accuracy_std']:.2f}" if key == "accuracy" else ""
    return f"{100 * numbers[key]:.2f}{spread}"


def describe_variants(variants: Mapping[str, Settings]) -> str:
    """What each variant will train. Builds all of them, so a mistake in any shows before the first one trains.

    Raises ``ConfigError`` naming the variant.
    """
    lines = []
    for name, settings in variants.items():
        try:
            lines.append(f"{name}: {describe_run(build(settings))}")
        except ValueError as error:  # a FacetxError, or a builder's own about its arguments
            raise ConfigError(f"variant {name}: {error}") from error
    return "\n\n".join(lines)


def run_variants(variants: Mapping[str, Settings], folder: Path, resume: str = "auto") -> Sweep:
    """Trains what is left to train and writes ``comparison.json``, ``comparison.md`` and the pictures.

    Args:
        variants: By name, of ``facetx.config.variants.load_variants``.
        folder: Of the comparison: ``<variant>/`` is a run's folder with ``variant.json`` once it is done.
        resume: "auto" goes on where a comparison was stopped: variants that are done are not trained again, one that
            is half done goes on from its last checkpoint. "never" wants an empty folder.

    One process at a time can do so. Raises ``FacetxError`` for what the user can mend; a variant that diverges is
    noted, and the next one begins.
    """
    folder.resolve().parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.resolve()):
        _check_folder(folder, variants, resume)
        done = Sweep({})
        for number, (name, settings) in enumerate(variants.items(), start=1):
            if not (folder / name / FACTS).exists():
                log.info("variant %s, %d of %d", name, number, len(variants))
                done.signal = _in_a_process(settings, folder / name)
                if done.signal:
                    return done
            done.variants[name] = json.loads((folder / name / FACTS).read_text(encoding="utf-8"))
        _write(done, variants, folder)
    return done


def _check_folder(folder: Path, variants: Mapping[str, Settings], resume: str) -> None:
    """Raises ``ConfigError`` where the folder holds something else than the beginning of this comparison."""
    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume {resume}: a comparison takes auto or never")
    if resume == "never" and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; go on with --resume auto, or choose another --run-dir")
    for name, settings in variants.items():
        written = folder / name / SETTINGS
        if written.exists():
            begun, ours = (s.model_dump(mode="json") for s in (load_settings(written), settings))
            changed = [f"{k}: {a} -> {b}" for k, a, b in differences(begun, ours)]
            if changed:
                raise ConfigError(
                    f"{folder / name}: was begun with other settings ({some(changed)}); choose another --run-dir, or "
                    f"move this folder away"
                )


def _in_a_process(settings: Settings, folder: Path) -> int:
    """Trains a variant in a new process, so that its peak memory is its own; returns the signal that stopped it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        child = pool.submit(_begin).result()
        with _signals_to(child):
            try:
                return pool.submit(train_variant, settings.model_dump_json(), folder).result()
            except BrokenProcessPool as error:
                raise FacetxError(f"{folder}: its process was killed, for want of memory perhaps") from error


def _begin() -> int:
    """First in the new process: it leaves the terminal's group, so that Ctrl-C reaches it once, by way of us."""
    os.setsid()
    die_with_parent()
    log_to_stderr()
    return os.getpid()


@contextmanager
def _signals_to(child: int) -> Iterator[None]:
    """Passes SIGTERM, SIGHUP and Ctrl-C on, so that the variant ends its step and writes a checkpoint."""

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, forward) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train_variant(settings_json: str, folder: Path) -> int:
    """Trains one variant to its end and writes its facts; returns the signal that stopped it before, or 0."""
    settings = check_settings(json.loads(settings_json))
    results: dict[str, Any] = {}
    diverged = None
    try:
        outcome = start_run(settings, folder)
        if outcome.signal:
            return outcome.signal
        run, results = outcome.run, outcome.results
        if not results:  # it was killed after its last step, and before its facts were written
            results = evaluate(run, run.evaluators, outcome.ema)
    except DivergedError as error:
        run, diverged = build(settings), str(error)
    rows = [row for row in read_rows(folder / METRICS) if "images" in row]
    speeds = [row["time/images_per_second"] for row in rows]
    facts = {
        "results": {name: result.summary() for name, result in results.items()},
        "parameters": parameter_count(run.backbone),
        "images": rows[-1]["images"] if rows else 0,
        "images_per_second": statistics.median(speeds) if speeds else 0.0,
        "peak_memory": peak_memory(run.device),
        "device": torch.cuda.get_device_name()
        if run.device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "diverged": diverged,
    }
    scored = {n: r for n, r in results.items() if isinstance(r, VerificationResult)}
    arrays: dict[str, Any] = {f"{n}/scores": r.scores.astype(np.float32) for n, r in scored.items()}
    arrays |= {f"{n}/same": r.same for n, r in scored.items()}
    np.savez_compressed(folder / SCORES, **arrays)
    write_file(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    return 0


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of this process's tensors on CUDA, else of its resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":  # where getrusage counts the parent's memory in, as it was when this process began
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _write(done: Sweep, variants: Mapping[str, Settings], folder: Path) -> None:
    (folder / "comparison.json").write_text(json.dumps(done.variants, indent=1) + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(done.table() + "\n", encoding="utf-8")
    batch_size = next(iter(variants.values())).train.batch_size
    rows = {name: read_rows(folder / name / METRICS) for name in variants}
    plot_comparison(rows, batch_size, folder / "comparison.png")
    scores: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name in variants:
        arrays = read_npz(folder / name / SCORES)
        for key in (k for k in arrays if k.endswith("/scores")):
            evaluator = key.removesuffix("/scores")
            scores.setdefault(evaluator, {})[name] = (arrays[key], arrays[f"{evaluator}/same"])
    for evaluator, by_variant in scores.items():
        plot_distributions(by_variant, folder / f"distributions_{evaluator}.png")
