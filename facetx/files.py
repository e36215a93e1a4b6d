"""Files and folders that appear whole or not at all: written beside as ``<name>.part``, renamed at the end; and reading
a file with a plain error."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from facetx.errors import DataError


@contextmanager
def draft_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes ``path`` at the end of the block; where the block fails, nothing is left."""
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    try:
        with open(draft, "wb") as file:
            yield file
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # such as of a full disk
            error.filename = str(path)
        raise
    draft.replace(path)


def write_file(path: str | Path, content: bytes | str) -> None:
    """Writes bytes, or text in UTF-8; the file appears whole or not at all."""
    with draft_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Writes plain, finite values; the file appears whole or not at all, its folder is made where it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def draft_folder(out: Path, of: str) -> Path:
    """The folder beside ``out`` to write into: an earlier one of the same words ``of``, to go on with, or a new one."""
    draft = out.with_name(out.name + ".part")
    marker = draft / ".source"
    if draft.exists() and (not marker.exists() or marker.read_text(encoding="utf-8") != of):
        shutil.rmtree(draft)
    draft.mkdir(exist_ok=True)
    marker.write_text(of, encoding="utf-8")
    return draft


def finish_folder(draft: Path, out: Path) -> None:
    """The draft becomes ``out``."""
    (draft / ".source").unlink()
    draft.rename(out)


def read_file(path: str | Path) -> bytes:
    """The bytes of a file. Raises ``DataError`` that begins with its path."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
