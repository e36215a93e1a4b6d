"""One folder an identity: which folders are people and which files are their images, by one rule for all readers."""

import logging
import os
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from pathlib import Path

from facetx.errors import DataError, is_resource, printable, some

log = logging.getLogger("facetx")

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".pbm", ".pgm", ".ppm", ".tif", ".tiff"})
JUNK = frozenset({"@eadir", "__macosx", "thumbs.db", "desktop.ini"})
"""What systems leave beside pictures, in lower case; so are all names that begin with a dot."""

BESIDE = ("landmarks.csv", "pairs.txt")
"""What is written beside the identities' folders."""


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name was made by a system and not by whoever gathered the pictures."""
    return name.startswith(".") or name.lower() in JUNK


def is_image(name: str) -> bool:
    """Whether a file of that name counts as an image."""
    return not is_junk(name) and os.path.splitext(name)[1].lower() in EXTENSIONS


@dataclass
class Listing:
    """What a folder of identities holds.

    Attributes:
        images: Identity -> names of its files, both sorted.
        left_out: What lies there and is no image of an identity, junk apart -> why.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def warn(self, root: str | Path) -> None:
        """Logs a line of what is left out, if anything is; once, however many data sets are made of a folder."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            by_reason.setdefault(why, []).append(name)
        reasons = [f"{len(names)} {why} ({some(names, show=3)})" for why, names in by_reason.items()]
        if reasons:
            say_once(f"{root}: left out: {printable('; '.join(reasons))}")


@cache
def say_once(words: str) -> None:
    """Logs a warning, unless this process has logged it already."""
    log.warning("%s", words)


def list_identities(root: str | Path) -> Listing:
    """Looks through ``root/<identity>/<image>``. Raises ``DataError`` where it cannot be read."""
    found = Listing()
    for name, kind in _entries(root):
        if kind is Kind.FOLDER:
            if files := _files(root, name, found.left_out):
                found.images[name] = files
            else:
                found.left_out[name] = "without an image"
        elif is_image(name):
            found.left_out[name] = "in no identity's folder"
        elif name not in BESIDE:
            found.left_out[name] = "not a folder of an identity"
    return found


def _files(root: str | Path, identity: str, left_out: dict[str, str]) -> list[str]:
    """Names of the image files of an identity, sorted."""
    files = []
    for name, kind in _entries(Path(root) / identity):
        if kind is Kind.FOLDER:
            left_out[f"{identity}/{name}"] = "a folder inside an identity's"
        elif kind is Kind.OTHER:
            left_out[f"{identity}/{name}"] = "no regular file"
        elif is_image(name):
            files.append(name)
        else:
            left_out[f"{identity}/{name}"] = f"not one of {', '.join(sorted(EXTENSIONS))}"
    return files


class Kind(IntEnum):
    """What lies in a folder; a link to a file counts as one, whatever it leads to."""

    FOLDER = 0
    FILE = 1
    OTHER = 2
    """A pipe, a device, a socket."""

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> "Kind":
        """Asks the system again for links only."""
        if entry.is_dir():
            return cls.FOLDER
        return cls.FILE if entry.is_file(follow_symlinks=False) or entry.is_symlink() else cls.OTHER


def _entries(folder: str | Path) -> list[tuple[str, Kind]]:
    """(name, kind) of all that lies in a folder, sorted, junk apart."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, Kind.of(entry)) for entry in entries if not is_junk(entry.name))
    except OSError as error:
        if is_resource(error):
            raise
        raise DataError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from None
