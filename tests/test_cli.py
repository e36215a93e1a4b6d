"""What the scripts share: errors in words, and nothing of other people's that a terminal obeys."""

import argparse
import logging
import sys

import pytest
import torch

from facetx.cli import Parser, run_script, say
from facetx.errors import DataError, is_resource
from facetx.files import read_file
from facetx.logs import log_to_stderr

CLEAR = "\x1b[2J"


@pytest.fixture(autouse=True)
def _level():
    level = logging.getLogger("facetx").level
    yield
    logging.getLogger("facetx").setLevel(level)


def ended(monkeypatch, main):
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's, in whose place a script sets up its own
    monkeypatch.setattr("sys.argv", ["script"])
    monkeypatch.setattr("sys.excepthook", sys.excepthook)  # a script's own comes in its place
    return run_script(argparse.ArgumentParser(), main)


def test_names_of_files_do_not_reach_the_terminal_as_they_are(tmp_path, monkeypatch, capsys):
    def main(args):
        logging.getLogger("facetx").info("reading %s", tmp_path / CLEAR)
        say(f"done: {CLEAR}")
        read_file(tmp_path / CLEAR)

    assert ended(monkeypatch, main) == 2
    out, err = capsys.readouterr()
    assert out == "done: \\x1b[2J\n"
    assert err.splitlines() == [
        f"INFO: reading {tmp_path}/\\x1b[2J",
        f"error: {tmp_path}/\\x1b[2J: no such file",
    ]


def test_nor_do_those_of_the_systems_errors(tmp_path, monkeypatch, capsys):
    assert ended(monkeypatch, lambda args: (tmp_path / CLEAR).read_bytes()) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/\\x1b[2J: No such file or directory\n"


def test_nor_does_what_was_typed(capsys):
    parser = Parser(prog="x")
    parser.add_subparsers().add_parser("sub").add_argument("--size", type=int)
    for typed in (["\x1b[2J"], ["sub", "--size", "\x1b[2J"]):
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(typed)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert "\x1b" not in said
        assert r"\x1b[2J" in said


def test_nor_do_tracebacks_in_the_log(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    log_to_stderr()
    try:
        raise DataError(CLEAR)
    except DataError:
        logging.getLogger("facetx").exception("failed")
    err = capsys.readouterr().err
    assert "DataError: \\x1b[2J" in err
    assert CLEAR not in err


def test_nor_do_tracebacks_of_scripts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys, "argv", ["script", "--debug"])
    with pytest.raises(DataError) as caught:
        run_script(argparse.ArgumentParser(), raising(DataError(CLEAR)))
    sys.excepthook(caught.type, caught.value, caught.tb)  # as Python does at the end of a script
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith("DataError: \\x1b[2J\n")


def raising(error):
    def main(args):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory; the machine has no more of it: lower the batch size"),
        (torch.OutOfMemoryError("CUDA is full"), "out of memory (CUDA is full); the machine has no more of it"),
        (OSError(24, "Too many open files", "a.png"), "a.png: Too many open files; the machine has no more of it"),
    ],
    ids=["memory", "gpu", "files"],
)
def test_what_the_machine_has_no_more_of_is_told_in_words(monkeypatch, capsys, error, words):
    assert is_resource(error)
    assert ended(monkeypatch, raising(error)) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_other_errors_are_none_of_the_machine(monkeypatch):
    for error in (RuntimeError("x"), DataError("x"), OSError(2, "No such file or directory")):
        assert not is_resource(error)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        ended(monkeypatch, raising(RuntimeError("a fault of ours")))
