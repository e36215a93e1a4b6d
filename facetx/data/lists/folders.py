"""One folder an identity: which folders are people and which files are their images, by one rule for all readers."""

import logging
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from facetx.errors import DataError, printable, some

log = logging.getLogger("facetx")

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".pbm", ".pgm", ".ppm", ".tif", ".tiff"})
JUNK = frozenset({"@eadir", "__macosx", "thumbs.db", "desktop.ini"})
"""What systems leave beside pictures, in lower case; so are all names that begin with a dot."""


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
        left_out: Reason -> what is not taken for it, junk apart.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def warn(self, root: str | Path) -> None:
        """Logs a line of what is left out, if anything is."""
        reasons = [f"{len(names)} {why} ({some(names, show=3)})" for why, names in self.left_out.items()]
        if reasons:
            _say(f"{root}: left out: {printable('; '.join(reasons))}")


@cache
def _say(words: str) -> None:
    """Once, however many data sets and evaluators read one folder."""
    log.warning("%s", words)


def list_identities(root: str | Path) -> Listing:
    """Looks through ``root/<identity>/<image>``. Raises ``DataError`` where it cannot be read."""
    found = Listing()
    try:
        with os.scandir(root) as entries:
            folders = sorted((entry for entry in entries if not is_junk(entry.name)), key=lambda entry: entry.name)
        for folder in folders:
            if not folder.is_dir():
                if is_image(folder.name):
                    found.left_out.setdefault("images beside the identities' folders", []).append(folder.name)
                continue
            files = []
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    place = f"{folder.name}/{entry.name}"
                    if is_junk(entry.name):
                        continue
                    if entry.is_dir():
                        found.left_out.setdefault("folders within an identity's", []).append(place)
                    elif is_image(entry.name):
                        files.append(entry.name)
                    else:
                        found.left_out.setdefault("files that are no images", []).append(place)
            if files:
                found.images[folder.name] = sorted(files)
            else:
                found.left_out.setdefault("identities without an image", []).append(folder.name)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror or error}") from None
    return found
