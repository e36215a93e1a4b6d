"""The log on stderr, of a script or a notebook."""

import logging
import sys

from facetx.errors import printable


class PrintableFormatter(logging.Formatter):
    """Lines in which no name of a file, member or key says anything to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_to_stderr() -> None:
    """Shows this package's log from INFO on, and that of others from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("facetx").setLevel(logging.INFO)


def log_in_notebook() -> None:
    """Shows the log of a long work in a notebook, where nobody has said what is to become of logs."""
    if "ipykernel" in sys.modules and not logging.getLogger("facetx").hasHandlers():
        log_to_stderr()
