"""Kills trainings and preparations, gives the same command again until it is done, and compares what is left with what
an unbroken one leaves:

python tests/reliability/driver.py --kills 200

It exits with 1 where anything differs, a process outlives the one that made it by more than five seconds, or the same
command does not go on. Each attempt is a fork of this process, which has imported everything, in a session of its own.
"""

import argparse
import ctypes
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import differences
import matplotlib.pyplot  # noqa: F401  slow to import, so once and not in each fork
import torch
import torch.utils.tensorboard
from works import Work, preparations, training, write_faces

from facetx.checkpoints import write
from facetx.errors import FacetxError
from facetx.training import loop
from facetx.training import run as run_module

PATIENCE = 5.0
"""Seconds that a child may outlive the process that made it."""
LIMIT = 120.0
"""Seconds after which an attempt hangs."""
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")
_PR_SET_CHILD_SUBREAPER = 36
_tell = os.write


@dataclass(frozen=True)
class Kill:
    """When, how and whom.

    Attributes:
        how: "kill" the process, "kill all" of its session, "kill a worker" of it, "stop all" by SIGTERM.
        change: Right before this change of a file, from 1; None for a moment.
        phase: "step", "evaluation", "drawing" or "start", after whose ``number``-th beginning it comes,
        delay: after so many seconds.
    """

    how: str = "kill"
    change: int | None = None
    phase: str = "start"
    number: int = 1
    delay: float = 0.0


@dataclass
class Attempt:
    """How an attempt went.

    Attributes:
        code: Its exit code, negative for a signal.
        hit: Whether the kill came before it was done.
        left: Processes that outlived it.
        changes: Of files, that it came to.
        began: (phase, seconds since the start) of each phase.
        seconds: That it took.
        hung: Whether it had to be killed, since it did not come to an end.
        words: The end of what it has written to the terminal.
    """

    code: int = 0
    hit: bool = False
    left: int = 0
    changes: int = 0
    began: list[tuple[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    hung: bool = False
    words: str = ""


def attempt(work: Work, folder: Path, kill: Kill | None = None) -> Attempt:
    """Does ``work`` in ``folder`` in a process of its own, which is killed on the way."""
    found = Attempt()
    log = folder.with_suffix(".log")
    reader, writer = os.pipe()
    started = time.perf_counter()
    pid = os.fork()
    if not pid:
        os.close(reader)
        os._exit(_child(work, folder, log, writer, kill))
    os.close(writer)
    aim = None if kill is None or kill.change is not None else kill
    due = started + LIMIT
    text, shot = b"", False
    while True:
        ready = select.select([reader], [], [], max(0.0, due - time.perf_counter()))[0]
        if not ready:
            found.hung = aim is None
            shot = _shoot(pid, aim or Kill("kill all"))
            aim, due = None, time.perf_counter() + LIMIT
            continue
        more = os.read(reader, 4096)
        if not more:
            break
        text += more
        *lines, text = text.split(b"\n")
        for line in lines:
            word, _, number = line.decode().partition(" ")
            if word == "changes":
                found.changes = int(number)
                continue
            found.began.append((word, time.perf_counter() - started))
            if aim and word == aim.phase and [w for w, _ in found.began].count(word) == aim.number:
                due = time.perf_counter() + aim.delay
    os.close(reader)
    found.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found.seconds = time.perf_counter() - started
    by_itself = kill is not None and kill.change is not None and found.code == -signal.SIGKILL
    found.hit = by_itself or (shot and found.code != 0)
    found.left = _outlived()
    found.words = log.read_text(encoding="utf-8", errors="replace")[-1500:]
    return found


def _shoot(pid: int, kill: Kill) -> bool:
    """Returns whether there was someone to shoot at."""
    if kill.how == "kill a worker":
        try:
            children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
        except FileNotFoundError:  # it is done
            return False
        if not children:
            return False
        pid = random.choice(children)
    number = signal.SIGTERM if kill.how == "stop all" else signal.SIGKILL
    try:
        (os.killpg if kill.how.endswith("all") else os.kill)(pid, number)
    except ProcessLookupError:
        return False
    return True


def _children(task: Path) -> list[int]:
    """Of a thread, as its folder in /proc says."""
    return [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]


def _outlived() -> int:
    """Waits for all children of children, which this process inherits; those that are left after a while are killed."""
    until = time.perf_counter() + PATIENCE
    left = 0
    while True:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)
        except ChildProcessError:
            return left
        if time.perf_counter() > until:
            still = _children(Path(f"/proc/self/task/{os.getpid()}"))
            left += len(still)
            for pid in still:
                os.kill(pid, signal.SIGKILL)
            until += PATIENCE


def _child(work: Work, folder: Path, log: Path, writer: int, kill: Kill | None) -> int:
    os.setsid()
    os.register_at_fork(after_in_child=lambda: os.close(writer))  # it ends with this process, not with its children
    terminal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    changes = _count_changes(str(folder), kill.change if kill else None)
    for module, name, phase in (
        (loop, "training_step", "step"),
        (loop, "evaluate", "evaluation"),
        (run_module, "write_pictures", "drawing"),
    ):
        _announce(module, name, lambda phase=phase: _tell(writer, f"{phase}\n".encode()))
    _tell(writer, b"start\n")
    try:
        code = work()
    except FacetxError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 2
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        code = 1
    _tell(writer, f"changes {changes()}\n".encode())
    return code


def _announce(module: ModuleType, name: str, say: Callable[[], Any]) -> None:
    own = getattr(module, name)

    def said(*args: Any, **kwargs: Any) -> Any:
        say()
        return own(*args, **kwargs)

    setattr(module, name, said)


def _count_changes(folder: str, last: int | None) -> Callable[[], int]:
    """Counts the changes of files in ``folder`` by this process, which is killed right before number ``last``.

    Python tells of each that it is about to make; of bytes that are written, and what other libraries write, it does
    not, so these are counted where they are called.
    """
    count, pid = 0, os.getpid()

    def change() -> None:
        nonlocal count
        if os.getpid() == pid:  # and no loader worker
            count += 1
            if count == last:
                os.kill(pid, signal.SIGKILL)

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = flags & (os.O_WRONLY | os.O_RDWR) or (mode and set(mode) & set("wxa+"))
        else:
            path, writes = (args[0], True) if event in _CHANGES else (None, False)
        if writes and not isinstance(path, int):
            text = os.fsdecode(path)
            if not text.startswith("/") or text.startswith(folder):
                change()

    for module, name in ((os, "write"), (os, "pwrite"), (os, "fsync"), (torch, "save"), (write, "save_file")):
        _announce(module, name, change)
    sys.addaudithook(hear)
    return lambda: count


class Story:
    """One work, killed several times and compared with the unbroken one."""

    def __init__(self, name: str, work: Work, root: Path, kind: str, compare: Callable[..., Iterator[str]]):
        self.name, self.work, self.root, self.kind, self.compare = name, work, root, kind, compare
        root.mkdir()
        self.unbroken = root / "unbroken"
        self.first = attempt(work, self.unbroken)
        if self.first.code or self.first.left:
            raise SystemExit(f"{name}: the unbroken one fails ({self.first.code}): {self.first.words}")

    def some_kill(self, rng: random.Random, phase: str) -> Kill:
        """Right before a change of a file, or at a moment of a phase, of any where this work has no such phase."""
        if phase == "change":
            return Kill(change=rng.randint(1, self.first.changes))
        phases = Counter(name for name, _ in self.first.began)
        phase = phase if phase in phases else rng.choice(sorted(phases))
        number = rng.randint(1, phases[phase])
        at = [i for i, (name, _) in enumerate(self.first.began) if name == phase][number - 1]
        ends = [seconds for _, seconds in self.first.began[at + 1 : at + 2]]
        length = (ends[0] if ends else self.first.seconds) - self.first.began[at][1]
        how = rng.choice(
            ["kill", "kill", *(["kill all", "kill a worker", "stop all"] if self.kind == "training" else [])]
        )
        return Kill(how, None, phase, number, rng.uniform(0, length))

    def tell(self, rng: random.Random, kills: int, phase: str) -> tuple[Counter[str], list[str]]:
        """Returns the kills that hit, by how and when, and what differs, in words."""
        folder = self.root / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        hits: Counter[str] = Counter()
        problems: list[str] = []
        history = []
        stopped = False
        for number in range(kills + 1):
            kill = self.some_kill(rng, phase) if number < kills else None
            found = attempt(self.work, folder, kill)
            if kill is not None:
                history.append(kill)
            if found.hit and kill is not None:
                hits[f"{kill.how}, {'change of a file' if kill.change else kill.phase}"] += 1
                stopped |= kill.how in ("stop all", "kill a worker")
            if found.hung:
                problems.append(f"it hangs: {found.words}")
            if found.left:
                problems.append(f"{found.left} processes are left")
            expected = {0}
            if kill is not None and found.hit:
                expected |= {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}
                expected |= {2} if kill.how == "kill a worker" and "was killed by the system" in found.words else set()
            if found.code not in expected:
                problems.append(f"exit code {found.code}: {found.words}")
                break
        if not problems:
            extra = {"stopped": True} if stopped else {}
            problems += self.compare(self.unbroken, folder, **extra)
        return hits, [f"{self.name} after {history}: {problem}" for problem in problems]


def main(args: argparse.Namespace) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    torch.set_num_threads(1)  # a process of one thread can fork
    weight = torch.nn.Parameter(torch.ones(1))
    weight.sum().backward()
    torch.optim.AdamW([weight])  # imports torch's compiler
    rng = random.Random(args.seed)
    random.seed(args.seed)
    hits: Counter[str] = Counter()
    problems: list[str] = []
    runs, began = 0, time.perf_counter()
    with _place(args.keep) as root:
        write_faces(root / "faces")
        kinds = [cycle(stories) for stories in _stories(root, args.only)]
        phases = ["change"] * 4 + ["start", "step", "evaluation", "drawing"]
        while sum(hits.values()) < args.kills:
            story = next(kinds[runs % len(kinds)])
            phase = rng.choice(phases)
            found, differing = story.tell(rng, min(rng.choice([1, 1, 2, 3]), args.kills - sum(hits.values())), phase)
            for problem in differing:
                print(f"DIFFERENCE: {problem}", flush=True)
            hits.update({f"{story.name}: {when}": number for when, number in found.items()})
            problems += differing
            runs += 1
            if differing and args.keep:
                shutil.copytree(story.root / "killed", story.root / f"differs_{runs}", symlinks=True)
    for when, number in sorted(hits.items()):
        print(f"{number:5d}  {when}")
    print(
        f"{sum(hits.values())} kills in {runs} works, {len(problems)} differences, {time.perf_counter() - began:.0f} s"
    )
    return 1 if problems else 0


@contextmanager
def _place(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        Path(keep).mkdir(parents=True)
        yield Path(keep).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


def _stories(root: Path, only: str | None) -> Iterator[list[Story]]:
    """Those of trainings, then those of preparations."""
    trainings = {f"training, {workers} workers": training(root / "faces", workers) for workers in (0, 1, 2)}
    for works, kind, compare in (
        (trainings, "training", differences.of_trainings),
        (preparations(root / "faces"), "preparation", differences.of_preparations),
    ):
        if only in (None, kind):
            yield [Story(name, work, root / name.replace(" ", "_"), kind, compare) for name, work in works.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--only", choices=["training", "preparation"], help="what is killed (default: both)")
    parser.add_argument("--keep", metavar="DIR", help="a new folder, to look at what differs afterwards")
    sys.exit(main(parser.parse_args()))
