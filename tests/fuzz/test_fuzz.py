"""Every reader of files stands a short round of fuzzing, the same each time, and the harness finds what is planted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="needs atheris, which there is for Linux only")

HERE = Path(__file__).parent
PLANTED = """
import atheris, parsers
from formats import FORMATS, Format

def planted(act):
    def read(path):
        if path.read_bytes()[:2] == b"no":
            act(path)
    return Format("x", lambda folder: [b"yes"], read, (b"no",))

@atheris.instrument_func
def deep(data):
    if data[:1] == b"d":
        if data[1:2] == b"e":
            if data[2:3] == b"e":
                assert data[3:4] != b"p"

def loop(path):
    while True:
        pass

FORMATS.clear()
FORMATS["sound"] = planted(lambda path: None)
FORMATS["exception"] = planted(lambda path: {}[path])
FORMATS["writes"] = planted(lambda path: path.with_name("y").touch())
FORMATS["imports"] = planted(lambda path: __import__("this"))
FORMATS["starts"] = planted(lambda path: __import__("os").system("true"))
FORMATS["memory"] = planted(lambda path: bytearray(200 * 2**20))
FORMATS["hangs"] = planted(loop)
FORMATS["guided"] = Format("x", lambda folder: [b"1234"], lambda path: deep(path.read_bytes()))
parsers.main(["-runs=25000", "-seed=1", "-timeout=5"])
"""


def run(arguments, folder):
    """Fuzzes in ``folder``, where found inputs are left."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(HERE)}, capture_output=True, text=True)


def test_every_reader_of_files(tmp_path):
    out = run([HERE / "parsers.py", "-runs=250", "-seed=1"], tmp_path)
    assert out.returncode == 0, out.stdout + out.stderr[-10_000:]
    names = re.findall("^== (.*)", out.stdout, re.MULTILINE)
    assert {"rec", "idx", "bin", "pairs", "calfw", "tar", "image", "result"} <= set(names)
    assert out.stderr.count("Done 250 runs") == len(names)
    first = [int(n) for n in re.findall(r"INITED cov: (\d+)", out.stderr)]
    last = [int(n) for n in re.findall(r"DONE +cov: (\d+)", out.stderr)]
    assert len(first) == len(last) == len(names)  # every reader is instrumented
    assert sum(a < b for a, b in zip(first, last)) > len(names) / 2  # and new ways through them are found
    assert not list(tmp_path.iterdir())


def test_what_is_planted_is_found(tmp_path):
    out = run(["-c", PLANTED], tmp_path)
    assert "failed: exception, writes, imports, starts, memory, hangs, guided\n" in out.stdout, out.stderr[-10_000:]
    assert {path.read_bytes()[:4] for path in tmp_path.glob("crash-*")} >= {b"deep"}, out.stderr[-1500:]
