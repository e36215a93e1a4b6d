"""Files appear whole, drafts lead nowhere, and one process writes at a time."""

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from facetx.errors import DataError, printable
from facetx.files import draft_file, draft_folder, draft_place, finish_folder, lock, read_file, write_file

HOLDS = """
import os
import sys
import time

from facetx.files import draft_file, lock
with lock(sys.argv[1]), draft_file(sys.argv[1]) as file:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path / "set"``, and its forked child's number."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDS), tmp_path / "set"], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path, holder):
    target = tmp_path / "set"
    words = rf"set: is being written by process {holder.pid} on .* \(-c {target}\) since 20.*; wait for it, or stop it"
    with pytest.raises(DataError, match=words), lock(target):
        pass
    with lock(tmp_path / "other"):
        pass
    (draft,) = tmp_path.glob(".set.*.part")
    write_file(tmp_path / "setting", b"x")
    holder.kill()  # its child lives on
    holder.wait()
    with lock(target):
        assert not draft.exists()
        with pytest.raises(DataError, match=f"is being written by process {os.getpid()}"), lock(target):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["setting"]


def test_a_lock_that_was_opened_before_its_holder_left_is_taken_anew(tmp_path, monkeypatch):
    """Else two processes would hold locks of two files, only one of which is there."""
    import fcntl

    flock, calls = fcntl.flock, []

    def deleted_first(descriptor, how):
        if not calls:
            (tmp_path / "a.lock").unlink()
        calls.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", deleted_first)
    with lock(tmp_path / "a"):
        assert len(calls) == 2
        with pytest.raises(DataError, match="is being written"), lock(tmp_path / "a"):
            pass


def test_a_draft_has_a_random_name_and_never_follows_a_link(tmp_path):
    seen = set()
    for _ in range(2):
        with draft_file(tmp_path / ("n" * 250)) as file:
            seen.add(file.name)
    assert len(seen) == 2
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/precious").write_text("x")
    (tmp_path / "set.part").symlink_to(tmp_path / "victim")
    draft = draft_folder(tmp_path / "set", "words")
    assert draft == draft_place(tmp_path / "set")
    assert not draft.is_symlink()
    (tmp_path / "target").symlink_to(tmp_path / "victim/precious")
    write_file(tmp_path / "target", "other")
    assert (tmp_path / "victim/precious").read_text() == "x"
    assert (tmp_path / "target").read_text() == "other"


def test_a_draft_folder_is_gone_on_with_without_files_that_were_cut_short(tmp_path):
    draft = draft_folder(tmp_path / "set", "words")
    (draft / "a").mkdir()
    (draft / "a/1.png").write_text("whole")
    with draft_file(draft / "a/2.png") as file:
        os.link(file.name, draft / "a/.2.png.0.part")  # as a killed process leaves it
    draft = draft_folder(tmp_path / "set", "words")
    assert sorted(p.name for p in (draft / "a").iterdir()) == ["1.png", "2.png"]
    finish_folder(draft, tmp_path / "set")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["1.png", "2.png", "a", "set"]
    draft_folder(tmp_path / "other", "words")
    assert not list(draft_folder(tmp_path / "other", "other words").glob("[!.]*"))


def test_drafts_of_what_is_written_together_go_together(tmp_path):
    left = []
    for name in ("train.rec", "train.idx", "other.idx"):
        with draft_file(tmp_path / name) as file:
            left.append(file.name + ".part")
            os.link(file.name, left[-1])  # as a killed process leaves it
    with lock(tmp_path / "train.rec", tmp_path / "train.idx"):
        assert [os.path.exists(name) for name in left] == [False, False, True]


def test_a_name_cannot_speak_to_the_terminal():
    assert printable("a\x1b[2J\x9b\r\u202e\udcff b\nö") == "a\\x1b[2J\\x9b\\r\\u202e\\udcff b\nö"


def pipe(path):
    os.mkfifo(path)


def plug(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pipe, "is no regular file"),
        (plug, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no such file"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
    ],
    ids=["pipe", "socket", "device", "folder", "none", "loop"],
)
def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("it"))
    with pytest.raises(DataError, match=f"^it: {words}"):
        read_file("it")


def test_when_too_many_files_are_open_none_is_to_blame(tmp_path, monkeypatch):
    write_file(tmp_path / "it", b"x")

    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("facetx.files.os.open", full)
    with pytest.raises(OSError, match="Too many open files") as caught:
        read_file(tmp_path / "it")
    assert not isinstance(caught.value, DataError)
