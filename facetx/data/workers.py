"""Child processes: they leave signals to the process that made them, and die with it. What goes wrong with those that
read, and with the memory that they share, is told in words."""

import ast
import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from facetx.errors import DataError, FacetxError

I = TypeVar("I")
T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They ask a run to end. The terminal, a scheduler and a container send them to every process of it."""
SHARED_MEMORY = Path("/dev/shm")
"""Where processes share batches, and a cache; 64 MiB in a container that is given no more."""
LOOK = 5
"""Seconds between two looks whether the workers live, while a batch is waited for."""
SILENCE = 600
"""Seconds without a batch after which nobody waits any longer."""
_PR_SET_PDEATHSIG = 1


class WorkerError(FacetxError):
    """A process that reads was killed from outside, lacks memory, or is silent."""


def reading_process(worker: int = 0) -> None:
    """First in each process that reads, forked or spawned: the trainer needs it after a signal too, to end its step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()


def die_with_parent() -> None:
    """Has the system kill this process when the one that made it is dead, however that came (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it died before this was asked for
        os._exit(1)


def read_by(workers: int, ahead: int, batch_bytes: int) -> dict[str, Any]:
    """The arguments of a ``DataLoader`` that say who reads its batches; they are then to be had by ``batches_of``.

    Args:
        workers: Processes; 0 for this one.
        ahead: Batches that each has ready, or in its hands.
        batch_bytes: Of a batch, about.

    Raises ``DataError`` where the memory that processes share has no room for these batches.
    """
    if not workers:
        return {}
    check_shared_memory(
        workers * ahead * batch_bytes,
        f"the batches of {workers} workers take",
        "set data.workers: 0 (--workers 0), or lower the batch size",
    )
    return {
        "num_workers": workers,
        "prefetch_factor": ahead,
        "multiprocessing_context": "fork",
        "worker_init_fn": reading_process,
        "timeout": LOOK,
    }


class Shared(Generic[I]):
    """Makes a batch of items, in the memory that processes share where a worker makes it.

    PyTorch would put it there later, in a thread whose errors reach nobody, so a lack of it would be a wait for ever.

    Args:
        collate: Items -> fields of a batch.

    Raises ``WorkerError`` where there is no room.
    """

    def __init__(self, collate: Callable[[list[I]], Mapping[str, Any]]):
        self.collate = collate

    def __call__(self, items: list[I]) -> Mapping[str, Any]:
        batch = self.collate(items)
        if get_worker_info() is None:
            return batch
        try:
            for value in batch.values():
                if isinstance(value, Tensor):
                    value.share_memory_()
        except RuntimeError as error:
            raise WorkerError(
                f"the memory that processes share, /dev/shm, has no room for another batch ({error}); give a container "
                "more (--shm-size), lower data.workers or train.batch_size, or set data.workers: 0"
            ) from error
        return batch


def check_shared_memory(needed: int, what: str, instead: str) -> None:
    """Raises ``DataError`` before a write beyond the end of the shared memory kills a process, or hangs it.

    Args:
        needed: Bytes.
        what: Takes them, with its verb.
        instead: What else can be done than making more room.
    """
    if not SHARED_MEMORY.is_dir():
        return
    room = os.statvfs(SHARED_MEMORY)
    free = room.f_bavail * room.f_frsize
    if needed > free:
        raise DataError(
            f"{what} {needed / 2**20:,.0f} MiB, and {SHARED_MEMORY} has {free / 2**20:,.0f} MiB left for what "
            f"processes share; {instead}, or give a container more (--shm-size)"
        )


def batches_of(loader: DataLoader[T]) -> Generator[T, None, None]:
    """The loader's batches; its workers end with the iteration, also where an error or a ``close`` ends it.

    Raises ``WorkerError``, between two batches and never elsewhere, where a worker has been killed.
    """
    before = signal.getsignal(signal.SIGCHLD)
    if getattr(before, "__module__", None) == signal_handling.__name__:  # of a loader that is not read here
        before = signal.SIG_DFL
    iterator = iter(loader)
    if loader.num_workers and threading.current_thread() is threading.main_thread():
        # PyTorch would raise as soon as one dies, even in the middle of an optimizer step. It looks at each batch, too.
        signal.signal(signal.SIGCHLD, before)
    try:
        yield from _awaited(iterator)
    except GeneratorExit:
        raise
    except BaseException as error:
        lost = isinstance(error, RuntimeError | OSError | EOFError)  # as what PyTorch was just about when one died
        words = _killed(iterator) if lost else ""
        for process in _processes(iterator):  # one may be stuck in a read
            process.kill()
        if words:
            raise WorkerError(words) from error
        if isinstance(error, OSError) and error.errno is None and (whole := system_error(str(error))) is not None:
            raise whole from error
        raise
    finally:
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            # Else they live until the error that names the culprit is collected, and die noisily at exit.
            iterator._shutdown_workers()
            for process in _processes(iterator):
                if process.is_alive():  # one that is stuck in a read, and ignores that it is asked to end
                    process.kill()
                    process.join()


def system_error(text: str) -> OSError | None:
    """The system's error in what PyTorch says of one in a worker: its number, words and file; None where it has none.

    PyTorch raises it again with its traceback for a message, and without its number, which says what to do.
    """
    found = re.search(r"\[Errno (\d+)\] (.+?)(?:: ('.*'|\".*\"))?$", text.rstrip())
    if found is None:
        return None
    number, words, name = found.groups()
    return OSError(int(number), words, *([] if name is None else [ast.literal_eval(name)]))


def _awaited(iterator: Iterator[T]) -> Iterator[T]:
    """Each batch as it comes, whose loader gives word every ``LOOK`` seconds."""
    since = time.monotonic()
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out"):
                raise
            if time.monotonic() - since > SILENCE:
                raise WorkerError(
                    f"no batch came for {SILENCE} seconds, though the workers live; the disk, or a transform, hangs or "
                    f"is very slow: with data.workers: 0 (--workers 0) the place shows"
                ) from error
            continue
        yield batch
        since = time.monotonic()


def _processes(iterator: Any) -> Sequence[BaseProcess]:
    return iterator._workers if isinstance(iterator, _MultiProcessingDataLoaderIter) else []


def _killed(iterator: Any) -> str:
    """What happened to the first worker that is dead, and what helps; nothing where none is."""
    ended = wait([process.sentinel for process in _processes(iterator)], timeout=1)
    for process in _processes(iterator):
        if process.sentinel in ended:  # what it held is closed, and its exit code follows
            process.join(timeout=1)
    codes = [process.exitcode for process in _processes(iterator) if process.exitcode]
    if not codes:
        return ""
    end = "lower data.workers, or free some memory"
    if codes[0] == -signal.SIGKILL:
        return f"a loader worker was killed by the system, probably out of memory; {end}"
    if codes[0] == -signal.SIGBUS:
        return (
            "a loader worker read where nothing is: the memory that processes share is full (/dev/shm; give a "
            f"container more by --shm-size, or set data.workers: 0), or a file was cut while it was read; {end}"
        )
    how = f"signal {-codes[0]}" if codes[0] < 0 else f"exit code {codes[0]}"
    return f"a loader worker ended unasked, by {how}; with data.workers: 0 the reason shows"
