"""Text of whole numbers, many lines of it, read at once and strictly: NumPy's own reader takes 1.5 for 1 in some
versions."""

import re

import numpy as np
from numpy.typing import NDArray


def whole_numbers(text: bytes, columns: int) -> tuple[NDArray[np.int64], int]:
    """The numbers (N, columns), from 0 on and of up to 18 digits each, and how many bytes of ``text`` are such lines.

    Numbers are apart by spaces or tabs. Blank lines do not count. Where a line is another, the numbers are none, and
    the line begins after these bytes.
    """
    whole = text if text.endswith(b"\n") else text + b"\n"
    number = rb"[0-9]{1,18}+"
    line = rb"[ \t]*+(" + rb"[ \t]++".join([number] * columns) + rb"[ \t]*+)?\r?\n"
    found = re.match(rb"(" + line + rb")*+", whole)
    assert found is not None  # it matches no line, too
    if found.end() < len(whole):
        return np.empty((0, columns), np.int64), found.end()
    numbers = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    return numbers.reshape(-1, columns), len(text)
