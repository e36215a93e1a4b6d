"""What the scripts share: errors without a traceback, exit codes, and options that several have.

0 done; 2 a mistake, or a disk, that the user can mend; 128 + n stopped by signal n.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from facetx.errors import FacetxError, is_resource, own_words, printable

if TYPE_CHECKING:
    import torch

    from facetx.evaluators import How


class Parser(argparse.ArgumentParser):
    """A script's command line; the script's own text is its help, laid out as it stands there."""

    def __init__(self, **options: Any):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Ends the program; what was typed stands in the message."""
        super().exit(status, None if message is None else printable(message))


def run_script(parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace], int]) -> int:
    """Parses the command line, runs ``main``, and returns the exit code."""
    from facetx.logs import log_to_stderr
    from facetx.plugins import import_given, load_installed

    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--import",
        dest="plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of your own that registers parts: its dotted name, or its .py file; may be given several times",
    )
    try:
        args = parser.parse_intermixed_args()  # key=value may stand before, between and after the options
    except TypeError:
        args = parser.parse_args()  # a script with sub-commands
    log_to_stderr()
    sys.excepthook = _traceback
    try:
        load_installed()
        args.plugins = import_given(args.plugins)
        code = main(args)
        sys.stdout.flush()
        return code
    except FacetxError as error:
        if args.debug:
            raise
        say(f"{_which_process()}error: {own_words(error)}", sys.stderr)
        return 2
    except BrokenPipeError:  # such as a script's table in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does Python complain at its end
        return 128 + signal.SIGPIPE
    except (OSError, MemoryError, RuntimeError) as error:  # a full disk, a folder that may not be written
        resource = is_resource(error)
        if args.debug or not (resource or isinstance(error, OSError)):
            raise
        say(f"{_which_process()}error: {_words(error)}{EXHAUSTED if resource else ''}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _which_process() -> str:
    """Before an error of one of several processes that torchrun started; nothing of the first, or the only one."""
    number = os.environ.get("RANK", "0")
    return "" if number == "0" else f"process {number}: "


def _traceback(*error: Any) -> None:
    say("".join(traceback.format_exception(*error)).rstrip(), sys.stderr)


EXHAUSTED = (
    "; the machine has no more of it: lower the batch size or the workers (train.batch_size, data.workers, "
    "--batch-size, --workers), or raise the limit (ulimit -n for files)"
)


def _words(error: Exception) -> str:
    """What an error of the system says, and of which file."""
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or own_words(error)}"
    return f"out of memory ({own_words(error)})" if str(error) else "out of memory"


def say(text: str, file: TextIO | None = None) -> None:
    """Prints text (on stdout, unless given) in which names may stand that are other people's."""
    print(printable(text), file=file)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """For argparse: a whole number of at least ``low``, and at most ``high``."""

    def parse(text: str) -> int:
        if text.lstrip("-").isdecimal() and low <= int(text) and (high is None or int(text) <= high):
            return int(text)
        wanted = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise argparse.ArgumentTypeError(f"expected a whole number {wanted}, got {text!r}")

    return parse


def embedding_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a script that embeds a set of images by a checkpoint; ``embedding_options`` are their values."""
    parser.add_argument("--cache", metavar="DIR", help="keep embeddings there, and take them from there the next time")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch-size", type=whole(1), default=128)
    parser.add_argument("--workers", type=whole(0), default=2, help="processes that read images")


def embedding_options(args: argparse.Namespace, device: "torch.device") -> "How":
    """How a model on ``device`` is run."""
    from facetx.benchmarks.embedding_cache import EmbeddingCache
    from facetx.evaluators import How

    embed = EmbeddingCache(args.cache) if args.cache else None
    return How(device, args.batch_size, args.workers, embed=embed)
