"""A file mapped into memory, for data sets that workers share: it opens in each process at its first use."""

import mmap
from pathlib import Path
from typing import Any

from facetx.errors import DataError, is_resource
from facetx.files import open_file


class MappedFile:
    """The bytes of a file, read as they are asked for; a pickle or a fork of it carries no open file.

    Attributes:
        path: The file.
        size: Of the file, in bytes, when it was opened first.

    Raises ``DataError`` if the file is missing, unreadable, or empty.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._map: mmap.mmap | None = None
        self.size = len(self.bytes)

    @property
    def bytes(self) -> mmap.mmap:
        """The whole file; slices of it are ``bytes``."""
        if self._map is None:
            try:
                with open_file(self.path) as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                if is_resource(error):
                    raise
                raise DataError(f"{self.path}: cannot be opened: {error.strerror or error}") from None
            except DataError:
                raise
            except ValueError:
                raise DataError(f"{self.path}: the file is empty") from None
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}
