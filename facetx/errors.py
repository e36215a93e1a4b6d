"""The errors that facetx raises for a user's mistake.

Each message says where, what, and what to do. Scripts print it without a traceback and exit with 2.
Broken invariants of our own are ``assert``s, and never one of these.
"""

import errno
import sys
from collections.abc import Iterable
from difflib import get_close_matches


class FacetxError(ValueError):
    """A mistake that the user can mend: a setting, a file, an argument."""


class ConfigError(FacetxError):
    """Settings that do not hold. The message lists every problem, one a line."""


class UnknownNameError(FacetxError):
    """A name that stands in no table. The message has the closest known names."""


class DataError(FacetxError):
    """Input files that are missing, unreadable, or not of the format that they should be."""


class CheckpointError(FacetxError):
    """A checkpoint that is missing, damaged, or of another model."""


def own_words(error: Exception) -> str:
    """An error's message without the traceback that a loader's worker puts before it."""
    return str(error).rpartition(f"{type(error).__name__}: ")[2]


def is_resource(error: BaseException) -> bool:
    """Whether the machine had no more of something: memory, open files. No file is to blame for that.

    Whoever takes any error of a reader for a damaged file lets these pass as they are.
    """
    torch = sys.modules.get("torch")  # where it is not loaded, the error is none of its own
    exhausted = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, exhausted) or (isinstance(error, OSError) and error.errno in _EXHAUSTED)


_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def printable(text: str) -> str:
    """Text for a terminal or a page: whatever is not to be seen (control characters, broken UTF-8) as its escape.

    Names come from other people's files, and a terminal obeys what stands in them. Line ends stay.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name: the closest known ones, else all of them.

    >>> did_you_mean("cosfase", ["arcface", "cosface"])
    "did you mean 'cosface'?"
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(known) if known else "none is known"


def some(items: Iterable[object], total: int | None = None, show: int = 5) -> str:
    """The first few of a long list, for a message.

    >>> some(range(9), show=3)
    '0, 1, 2 and 6 more'
    """
    items = list(items)
    total = len(items) if total is None else total
    text = ", ".join(str(i) for i in items[:show])
    return text if total <= show else f"{text} and {total - show} more"
