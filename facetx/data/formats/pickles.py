"""Reads the few kinds of pickles that hold data alone, and executes nothing.

A pickle is a program for a small stack machine (Python's ``pickletools.py`` documents every instruction). This reader
knows the instructions that build lists, tuples, numbers, text and bytes. Of the functions that a pickle can name it
knows four, and none is called: NumPy's array and dtype, and Python 2's text to bytes, become descriptions of what they
would build. All else is refused. Bytes stay in the file until they are asked for, and the number of instructions is
held to a share of the file's size, so that memory and time are too.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from facetx.data.formats.mapped import MappedFile
from facetx.errors import DataError

FREE_STEPS = 20_000
BYTES_PER_STEP = 16
"""A file may have so many instructions, and one more for so many bytes. A face of 112x112 has thousands of bytes and
takes at most 30 instructions; one instruction takes at most about 150 bytes of memory."""

ESCAPES = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
NAMED = {
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "\\": b"\\",
    "'": b"'",
    '"': b'"',
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "v": b"\v",
}


@dataclass(frozen=True)
class Span:
    """Bytes of the file, or the escaped form of bytes that stands there.

    Attributes:
        start, stop: Where.
        form: "raw"; "repr", Python 2's text with backslashes; "latin1" and "escape", characters U+0000 to U+00FF, one
            for each byte, in UTF-8 and in Python's raw-unicode-escape.
    """

    start: int
    stop: int
    form: str = "raw"

    def read(self, file: MappedFile) -> bytes:
        """Raises ``DataError`` if the escaped form is wrong."""
        data: bytes = file.bytes[self.start : self.stop]
        where = f"{file.path}, byte {self.start}"
        if self.form == "repr":
            return ESCAPES.sub(lambda m: _unescape(m[1], where), data)
        if self.form == "raw":
            return data
        try:
            return data.decode("utf-8" if self.form == "latin1" else "raw-unicode-escape").encode("latin-1")
        except UnicodeError:
            raise DataError(f"{where}: expected characters that stand for bytes, found others") from None


@dataclass
class Array:
    """A NumPy array: ``span`` holds its elements. The shape is as announced."""

    dtype: str = ""
    shape: Any = None
    span: Span | None = None


@dataclass
class Name:
    """A function or class that the pickle names, ``module.name``."""

    name: str


@dataclass
class Dtype:
    """A NumPy dtype, by its short name."""

    name: str


class _Mark:
    """Where a tuple's or list's items begin on the stack."""


MARK = _Mark()
ARRAY, RECONSTRUCT, DTYPE, ENCODE, FROM_BUFFER = "ndarray", "_reconstruct", "dtype", "encode", "_frombuffer"
ALLOWED = {
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): DTYPE,
    **{(f"{core}.multiarray", "_reconstruct"): RECONSTRUCT for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.numeric", "_frombuffer"): FROM_BUFFER for core in ("numpy.core", "numpy._core")},
    ("_codecs", "encode"): ENCODE,
}


def read_pickle(file: MappedFile) -> Any:
    """What the pickle holds: lists, tuples, bool, int, None, ``Span`` for bytes and text, and ``Array``.

    Raises ``DataError`` for a file that is damaged or cut off, and for one that names any other object.
    """
    return _Machine(file).run()


@dataclass
class _Machine:
    file: MappedFile
    at: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        for _ in range(FREE_STEPS + self.file.size // BYTES_PER_STEP):
            begin = self.at
            opcode = self.take(1)
            if opcode == b".":
                return self.pop()
            if (step := STEPS.get(opcode)) is None:
                raise self.error(begin, f"the instruction {opcode!r} has no place in such a file")
            step(self)
        raise self.error(self.at, "has far more instructions than images")

    def error(self, at: int, what: str) -> DataError:
        return DataError(
            f"{self.file.path}, byte {at}: {what}; it is damaged, or not a file of data alone. Nothing of it was run"
        )

    def take(self, count: int) -> bytes:
        data: bytes = self.file.bytes[self.at : self.skip(count)]
        return data

    def skip(self, count: int) -> int:
        """Where the next ``count`` bytes end, having gone there."""
        if count > self.file.size - self.at:
            raise self.error(self.at, f"ends before the {count} bytes that it announces")
        self.at += count
        return self.at

    def line(self, form: str = "raw") -> Span:
        stop = self.file.bytes.find(b"\n", self.at)
        if stop < 0:
            raise self.error(self.at, "ends inside a line")
        span = Span(self.at, stop, form)
        self.at = stop + 1
        return span

    def number(self, form: str) -> int:
        (value,) = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return int(value)

    def decimal(self) -> int | bool:
        span = self.line()
        text = self.file.bytes[span.start : min(span.stop, span.start + 24)]
        if text in (b"00", b"01"):
            return text == b"01"
        if not re.fullmatch(rb"-?[0-9]{1,20}L?", text):
            raise self.error(span.start, f"expected a whole number, found {text!r}")
        return int(text.rstrip(b"L"))

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise self.error(self.at, "takes a value from where there is none")
        return self.stack.pop()

    def items(self) -> list[Any]:
        """The values above the last mark, which go."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise self.error(self.at, "closes a list that was not opened")

    def append(self, items: list[Any]) -> None:
        target = self.pop()
        if not isinstance(target, list):
            raise self.error(self.at, f"appends to a {type(target).__name__}")
        target.extend(items)
        self.stack.append(target)

    def push_span(self, count: int) -> None:
        start = self.at
        self.stack.append(Span(start, self.skip(count)))

    def push_quoted(self) -> None:
        span = self.line()
        quote = self.file.bytes[span.start : span.start + 1]
        if (
            span.stop - span.start < 2
            or quote not in (b"'", b'"')
            or self.file.bytes[span.stop - 1 : span.stop] != quote
        ):
            raise self.error(span.start, "expected text in quotation marks")
        self.stack.append(Span(span.start + 1, span.stop - 1, "repr"))

    def put(self, key: int) -> None:
        value = self.pop()
        self.memo[key] = value
        self.stack.append(value)

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise self.error(self.at, "refers to a value that was not kept")
        self.stack.append(self.memo[key])

    def text(self, value: Any, most: int = 64) -> str:
        """A short text of the file."""
        if not isinstance(value, Span) or value.stop - value.start > most:
            raise self.error(self.at, f"expected a name, found {type(value).__name__}")
        return value.read(self.file).decode("ascii", "replace")

    def name(self, module: Any, name: Any) -> None:
        names = self.text(module), self.text(name)
        if names not in ALLOWED:
            raise self.error(self.at, f"names {'.'.join(names)}, which such a file has no use for")
        self.stack.append(Name(ALLOWED[names]))

    def call(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise self.error(self.at, "calls what is no function")
        match function.name, args:
            case "_reconstruct", (Name(name="ndarray"), tuple(), Span()):
                self.stack.append(Array())
            case "dtype", (Span() as kind, *_):
                self.stack.append(Dtype(self.text(kind)))
            case "encode", (Span(form="raw" | "escape") as data, Span() as codec) if self.text(codec) == "latin1":
                self.stack.append(Span(data.start, data.stop, "latin1" if data.form == "raw" else "escape"))
            case "_frombuffer", (Span() as data, Dtype() as dtype, tuple() as shape, Span()):
                self.stack.append(Array(dtype.name, shape, data))
            case _:
                raise self.error(self.at, f"calls {function.name} with unusual arguments")

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        match target, state:
            case Array(), (int(), tuple() as shape, Dtype() as dtype, int(), Span() as data):
                target.shape, target.dtype, target.span = shape, dtype.name, data
            case Dtype(), tuple():
                pass  # byte order and alignment, which one-byte elements have none of
            case _:
                raise self.error(self.at, f"sets the state of a {type(target).__name__}")
        self.stack.append(target)


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        m.stack.append(tuple([m.pop() for _ in range(count)][::-1]))

    return step


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value)


def _unescape(code: bytes, where: str) -> bytes:
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    try:
        return NAMED[code.decode("latin-1")]
    except KeyError:
        raise DataError(f"{where}: the text holds an unknown escape") from None


STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME: a hint for reading ahead
    b"(": _push(MARK),
    b"0": lambda m: m.pop(),
    b"]": lambda m: m.stack.append([]),
    b"l": lambda m: m.stack.append(m.items()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.items()),
    b")": _push(()),
    b"t": lambda m: m.stack.append(tuple(m.items())),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"I": lambda m: m.stack.append(m.decimal()),
    b"L": lambda m: m.stack.append(m.decimal()),
    b"J": lambda m: m.stack.append(m.number("i")),
    b"K": lambda m: m.stack.append(m.number("B")),
    b"M": lambda m: m.stack.append(m.number("H")),
    b"\x8a": lambda m: m.stack.append(int.from_bytes(m.take(m.number("B")), "little", signed=True)),  # LONG1
    b"S": lambda m: m.push_quoted(),
    b"T": lambda m: m.push_span(m.number("I")),
    b"U": lambda m: m.push_span(m.number("B")),
    b"B": lambda m: m.push_span(m.number("I")),
    b"C": lambda m: m.push_span(m.number("B")),
    b"\x8e": lambda m: m.push_span(m.number("Q")),  # BINBYTES8
    b"\x96": lambda m: m.push_span(m.number("Q")),  # BYTEARRAY8
    b"V": lambda m: m.stack.append(m.line("escape")),
    b"X": lambda m: m.push_span(m.number("I")),
    b"\x8c": lambda m: m.push_span(m.number("B")),  # SHORT_BINUNICODE
    b"\x8d": lambda m: m.push_span(m.number("Q")),  # BINUNICODE8
    b"p": lambda m: m.put(int(m.decimal())),
    b"q": lambda m: m.put(m.number("B")),
    b"r": lambda m: m.put(m.number("I")),
    b"\x94": lambda m: m.put(len(m.memo)),  # MEMOIZE
    b"g": lambda m: m.get(int(m.decimal())),
    b"h": lambda m: m.get(m.number("B")),
    b"j": lambda m: m.get(m.number("I")),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": lambda m: m.name(*[m.pop(), m.pop()][::-1]),  # STACK_GLOBAL
    b"R": lambda m: m.call(),
    b"b": lambda m: m.build(),
}
