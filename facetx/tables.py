"""One table, read three ways: as text in a terminal, as Markdown, and as HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from facetx.errors import printable

Row = Sequence[str]
GAP = "  "
NUMBER = re.compile(r"[-+]?[0-9.,]*( %)?")
WIDEST = 80
"""Longer cells of Markdown are not padded to; a page of prose would be mostly blanks."""


@dataclass(frozen=True)
class Table:
    """Cells of plain text, each row as long as the head; whatever they hold, each form keeps the columns.

    ``print`` shows the text, and a notebook the HTML.

    Attributes:
        head: Names of the columns.
        rows: Below it.
        title: Above it.
    """

    head: Row
    rows: Sequence[Row]
    title: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"a table of {len(self.head)} columns cannot take a row of {len(row)} cells: {row}")

    def text(self) -> str:
        """Columns of one width each, for a terminal; those of numbers to the right."""
        lines = [[_one_line(cell) for cell in line] for line in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        lines.insert(1, ["-" * width for width in widths])
        table = [GAP.join(self._padded(line, widths)).rstrip() for line in lines]
        return "\n".join([_one_line(self.title), *table] if self.title else table)

    def markdown(self) -> str:
        """A table of GitHub's Markdown, padded for those who read the source; columns of numbers to the right."""
        lines = [[_markdown(cell) for cell in line] for line in (self.head, *self.rows)]
        widths = [max(2, *(len(cell) for cell in column if len(cell) <= WIDEST)) for column in zip(*lines)]
        rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, self._numbers)]
        lines.insert(1, rule)
        table = ["| " + " | ".join(self._padded(line, widths)) + " |" for line in lines]
        return "\n".join([f"**{_markdown(self.title)}**", "", *table] if self.title else table)

    @property
    def _numbers(self) -> list[bool]:
        """Of each column, whether all of its cells are numbers, or empty."""
        columns = zip(*self.rows) if self.rows else [()] * len(self.head)
        return [bool("".join(c).strip("- ")) and all(map(NUMBER.fullmatch, c)) for c in columns]

    def _padded(self, line: Row, widths: Sequence[int]) -> list[str]:
        return [
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, self._numbers)
        ]

    def html(self) -> str:
        """A ``<table>`` element."""
        title = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def _one_line(cell: str) -> str:
    return printable(" ".join(cell.splitlines()))


def _markdown(cell: str) -> str:
    """A cell in which nothing ends the cell, the row, or begins an HTML tag."""
    plain = re.sub(r"[\\|]", r"\\\g<0>", _one_line(cell))
    return re.sub(r"<(?=[A-Za-z/!?])", r"\\<", plain)
