"""Coverage-guided fuzzing of all that reads files (atheris, of the extra dev; Linux)::

    python tests/fuzz/parsers.py rec idx -max_total_time=300    # these formats, with any options of libFuzzer
    python tests/fuzz/parsers.py -runs=2000                     # every one

Each input must give a correct read or a ``FacetxError``. Another exception, a failed ``assert`` on what was read, a
hang (``-timeout``, 10 s), more than ``MEMORY`` bytes above what the valid files take, and any act that a reader has no
use for (an import, a process, a file opened for writing) end the run with 1, the traceback, and the input as
``crash-<hash>``, which ``python tests/fuzz/parsers.py <format> crash-<hash>`` reads again.
"""

import codecs
import importlib
import logging
import os
import resource
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris
from formats import FORMATS, INSTRUMENTED

from facetx.errors import FacetxError

MEMORY = 96 * 2**20
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pickle.", "marshal.", "exec", "compile", "import")
HARMLESS = ("os.listdir", "os.scandir", "os.walk")
CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "raw-unicode-escape")
STRANGERS = (b"", b"\xff", b"\xef\xbb\xbf1\n")


class Guard:
    """What is done while it is armed must be what a reader has use for."""

    def __init__(self) -> None:
        self.armed = False
        self.acts: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if self.armed and (writes or (event.startswith(FORBIDDEN) and event not in HARMLESS)):
            self.armed = False
            self.acts.append(f"{event}{args}")
            raise PermissionError(self.acts[-1])


def fuzz(name: str, folder: Path, options: list[str]) -> None:
    """Fuzzes one format below a folder of its own; ends the process."""
    kind = FORMATS[name]
    corpus, place = folder / "corpus", folder / "files"
    corpus.mkdir()
    place.mkdir()
    path = place / kind.file
    valid = kind.make(place)
    for i, content in enumerate(valid):
        (corpus / f"valid-{i}").write_bytes(content)
        path.write_bytes(content)
        kind.read(path)
    for codec in CODECS:  # what is imported at first use is imported here
        codecs.lookup(codec)
    for content in STRANGERS:
        path.write_bytes(content)
        with suppress(FacetxError):
            kind.read(path)
    (folder / "words").write_text("\n".join('"' + "".join(map("\\x{:02x}".format, w)) + '"' for w in kind.words))
    logging.disable()
    warnings.simplefilter("ignore")
    guard, most = Guard(), peak_memory() + MEMORY

    def one_input(data: bytes) -> None:
        path.write_bytes(kind.mend(data, valid[0]))
        guard.armed = True
        try:
            kind.read(path)
        except FacetxError:
            pass
        finally:
            guard.armed = False
        if guard.acts:
            raise PermissionError(f"while reading: {guard.acts}")
        if peak_memory() > most:
            raise MemoryError(f"more than {MEMORY} bytes for a file of {len(data)}")

    inputs = [] if any(not option.startswith("-") for option in options) else [str(corpus)]
    atheris.Setup(
        [sys.argv[0], f"-dict={folder / 'words'}", "-timeout=10", "-len_control=0", *options, *inputs], one_input
    )
    atheris.Fuzz()


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str]) -> int:
    """Fuzzes each format in a process of its own. Returns 1 where one has failed."""
    names = [a for a in arguments if a in FORMATS]
    options = [a for a in arguments if a not in FORMATS]
    failed = []
    with atheris.instrument_imports(include=INSTRUMENTED):
        for name in names or FORMATS:
            for module in FORMATS[name].modules:
                importlib.import_module(module)
    for name in names or FORMATS:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
            print(f"== {name}", flush=True)
            if (child := os.fork()) == 0:
                fuzz(name, Path(folder), options)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
                failed.append(name)
    print("failed: " + ", ".join(failed) if failed else "every read was correct or refused", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
