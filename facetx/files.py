"""Files and folders that appear whole or not at all: written beside and renamed at the end; locks, so that no two
processes write the same; and reading a file with a plain error."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from facetx.errors import DataError, is_resource, printable


@contextmanager
def draft_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes ``path`` at the end of the block; where the block fails, nothing is left.

    Its name is random, so that nobody can lay a link there. Of a process that was killed it stays, hidden, until
    ``path`` is locked, or the draft folder that it lies in is gone on with.
    """
    path = Path(path)
    draft = path.with_name(f"{_draft_prefix(path)}{secrets.token_hex(6)}.part")
    try:
        with open(draft, "xb") as file:
            yield file
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(draft)):  # such as of a full disk
            error.filename = str(path)
        raise
    draft.replace(path)


DRAFTS = ".*.part"
"""The names of the drafts of files, as a shell pattern."""


def _draft_prefix(path: Path) -> str:
    """Of the drafts of one file; short, since the file's own name may be as long as a name can be."""
    return f".{path.name[:32]}.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}."


def drafts_of(path: Path) -> list[Path]:
    """The drafts of a file that are being written, or that killed processes have left."""
    try:
        names = os.listdir(path.parent)
    except FileNotFoundError:
        return []
    return [path.with_name(n) for n in names if n.startswith(_draft_prefix(path)) and n.endswith(".part")]


def write_file(path: str | Path, content: bytes | str) -> None:
    """Writes bytes, or text in UTF-8; the file appears whole or not at all.

    Names of files that are not UTF-8, as Python has them in text (``os.fsdecode``), are written as their bytes.
    """
    with draft_file(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Writes plain, finite values; the file appears whole or not at all, its folder is made where it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def draft_place(out: Path) -> Path:
    """Where a folder is written that will become ``out``: beside it, under one name, to be found again by the next try.

    A link that lies there is taken away, and never followed.
    """
    draft = out.with_name(out.name + ".part")
    if draft.is_symlink():
        draft.unlink()
    return draft


def draft_folder(out: Path, of: str) -> Path:
    """The folder beside ``out`` to write into: an earlier one of the same words ``of``, to go on with, or a new one."""
    draft = draft_place(out)
    marker = draft / ".source"
    if draft.exists() and (not marker.is_file() or marker.read_text("utf-8", "surrogateescape") != of):
        shutil.rmtree(draft)
    draft.mkdir(exist_ok=True)
    for left in draft.rglob(DRAFTS):  # files that were being written when an earlier try was killed
        left.unlink()
    write_file(marker, of)
    return draft


def finish_folder(draft: Path, out: Path, *notes: Path) -> None:
    """The draft becomes ``out``, without the ``notes`` that its writer has kept in it.

    The marker goes first: a draft that has lost notes to a kill is not gone on with.
    """
    (draft / ".source").unlink()
    for note in notes:
        note.unlink(missing_ok=True)
    draft.rename(out)


_held: set[int] = set()
"""File descriptors of the locks that this process holds."""


def _leave_locks_to_the_parent() -> None:
    """A forked child has copies of them, and would go on holding the locks when its parent is dead."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


@contextmanager
def lock(path: str | Path, *beside: Path) -> Iterator[None]:
    """Keeps other processes from writing ``path`` while the block runs, by a lock of the file ``<path>.lock``.

    The system lets the lock go with the process, however that ends. Drafts of ``path``, and of the files ``beside`` it
    or in it that are written with it, are taken away where a dead process left them behind.

    Raises ``DataError`` that names the process which holds the lock.
    """
    path = Path(path)
    sidecar = path.with_name(path.name + ".lock")
    descriptor = _locked(path, sidecar)
    _held.add(descriptor)
    try:
        words = f"process {os.getpid()} on {socket.gethostname()} ({' '.join(sys.argv)[:200]})"
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{words} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode("utf-8", "replace"), 0)
        for draft in (draft for file in (path, *beside) for draft in drafts_of(file)):
            draft.unlink(missing_ok=True)
        yield
    finally:
        sidecar.unlink(missing_ok=True)  # while the lock is held: see _locked
        _held.discard(descriptor)
        os.close(descriptor)


def _locked(path: Path, sidecar: Path) -> int:
    """The descriptor of ``sidecar``, locked."""
    while True:
        descriptor = os.open(sidecar, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = printable(os.pread(descriptor, 500, 0).decode("utf-8", "replace")).replace("\n", " ")
            os.close(descriptor)
            raise DataError(
                f"{path}: is being written by {holder or 'another process'}; wait for it, or stop it"
            ) from None
        if sidecar.exists() and os.stat(sidecar).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)  # its last holder deleted the file meanwhile, so the lock is of no file that others see


def open_file(path: str | Path) -> BufferedReader:
    """A regular file, to be read. A pipe or a device, which may never give a byte, is not waited for.

    Raises ``DataError`` that begins with its path. Where too many files are open the error is that of ``open``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return open(descriptor, "rb")
        os.close(descriptor)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        if is_resource(error):
            raise
        if error.errno != errno.ENXIO:  # of a socket
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        mode = stat.S_IFSOCK
    raise DataError(f"{path}: is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}")


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file. Raises ``DataError`` that begins with its path."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            if is_resource(error):
                raise
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def user_cache(name: str) -> Path:
    """The user's folder for what can be made again: ``~/.cache/facetx/<name>``, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "facetx", name)
