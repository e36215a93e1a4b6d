"""Lists of a mask's classes: those that are known by a name, and text files with a class a line."""

import re
from pathlib import Path

from facetx.data.lists.image_lists import read_lines
from facetx.data.mask_classes import CLASS_LISTS, Color, colors_of
from facetx.errors import DataError, did_you_mean

_LINE = re.compile(r"(\S+)(?:\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3}))?")
MOST = 255
"""Classes; the number 255 is kept for what is not labeled."""


def class_list(source: str | Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """Names and colors (M,) of the classes, by the name of a known list or of a file.

    Raises ``DataError`` where there is no such file, and with the line for one that is wrong.
    """
    if str(source) in CLASS_LISTS:
        names = CLASS_LISTS[str(source)]
        return names, colors_of(names)
    if not Path(source).is_file():
        raise DataError(
            f"{source}: no such list of classes; write a file with a class a line, from 0 on, or name a known list "
            f"({did_you_mean(str(source), CLASS_LISTS)})"
        )
    return read_classes(source)


def read_classes(path: str | Path) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """The classes of a file, in the order of its lines: a name, and red, green and blue (0 to 255) for its color.

    Where no line has a color, they are ``colors_of`` the names. Raises ``DataError`` with the line for one that is
    neither, for a name that comes twice, and where only some have colors, or two have the same.
    """
    names: list[str] = []
    colors: list[Color] = []
    for n, line in read_lines(path):
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise DataError(
                f"{path}:{n}: expected a class, or a class and its red, green and blue; found {line[:80]!r}"
            )
        name, color = match[1], tuple(int(c) for c in match.groups()[1:] if c is not None)
        if name in names or color in colors or max(color, default=0) > 255:
            why = f"{name} comes twice" if name in names else f"{name} has the color {color}"
            raise DataError(f"{path}:{n}: {why}; each class needs a name, and a color of 0 to 255, of its own")
        names.append(name)
        if len(color) == 3:
            colors.append(color)
    if len(names) < 2 or len(names) > MOST or len(colors) not in (0, len(names)):
        raise DataError(
            f"{path}: {len(names)} classes, {len(colors)} with a color; expected 2 to {MOST}, and a color for all or "
            "for none"
        )
    return tuple(names), tuple(colors) or colors_of(names)
