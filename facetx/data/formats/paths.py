"""Many names in one array of bytes: a million ``Path``s take 283 MiB, in each loader worker anew, and these some 30."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class Names(Sequence[str]):
    """Names of files or of anything else, in UTF-8 or, as Python has other bytes in text (``os.fsdecode``), not."""

    def __init__(self, names: Iterable[str]):
        text, ends = bytearray(), array("q", [0])
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        self._bytes, self._ends = np.array(text, np.uint8), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]].tobytes())

    def digest(self) -> str:
        """SHA-256 of all of them, in their order."""
        sha = hashlib.sha256(self._ends.astype("<i8").tobytes())
        sha.update(self._bytes.tobytes())
        return sha.hexdigest()


class Paths(Sequence[Path]):
    """Paths below one folder.

    Args:
        root: The folder.
        names: Of the files, as paths below it.
    """

    def __init__(self, root: str | Path, names: Iterable[str]):
        self.root = Path(root)
        self.names = Names(names)

    @classmethod
    def of(cls, paths: Iterable[str | Path]) -> "Paths":
        """Of whole paths."""
        return cls("", (os.fspath(path) for path in paths))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self.root / name for name in self.names[index]]
        return self.root / self.names[index]
