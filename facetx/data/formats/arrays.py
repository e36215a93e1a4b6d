"""NumPy's ``.npz`` files, as other programs write them: a zip of ``.npy`` files, read within bounds."""

import os
import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError, is_resource
from facetx.files import open_file

FREE_BYTES = 2**24
"""Arrays of so many bytes together are read however short their file is."""
BYTES_PER_BYTE = 20
"""Above that, so many more for each byte of the file. Weights shrink to 0.9 of their size; a zip can hold 1,000 times
its own in zeros, and fill the memory."""
PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""As NumPy does; the other ways shrink without a bound."""

HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|]?[biufc][0-9]{1,2})', 'fortran_order': (?P<columns>True|False), "
    rb"'shape': \((?P<shape>([0-9]{1,15}, ?)*([0-9]{1,15})?)\), ?\} *\n"
)


def read_npz(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """Name -> array, of numbers and booleans only.

    Raises ``DataError`` that begins with the path for a file that is missing, damaged, out of bounds, or that holds
    anything else.
    """
    path = Path(path)
    try:
        with open_file(path) as packed, zipfile.ZipFile(packed) as file:
            members = file.infolist()
            most = FREE_BYTES + BYTES_PER_BYTE * os.fstat(packed.fileno()).st_size
            total = sum(member.file_size for member in members)
            if total > most:
                raise DataError(f"{path}: unpacks to {total} bytes; at most {most} are read from a file of its size")
            arrays: dict[str, NDArray[np.generic]] = {}
            for member in members:
                where = f"{path}, {member.filename[:80]!r}"
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in arrays or member.compress_type not in PACKED_BY:
                    raise DataError(f"{where}: is no array that NumPy would write, or stands twice")
                arrays[name] = _array(file.read(member), where)
            return arrays
    except DataError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, ... of damaged files
        if is_resource(error):
            raise
        raise DataError(f"{path}: no .npz file, or damaged ({error})") from error


def _array(data: bytes, where: str) -> NDArray[np.generic]:
    """The array of a whole ``.npy`` file. Its header is a dictionary in Python's form; nothing evaluates it."""
    length_bytes = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}.get(data[:8], 0)
    begin = 8 + length_bytes
    start = begin + int.from_bytes(data[8:begin], "little")
    head = HEADER.fullmatch(data[begin:start])
    if head is None:
        raise DataError(f"{where}: is no array of numbers, or damaged; its header is {data[begin:start][:80]!r}")
    dtype = np.dtype(head["dtype"].decode())
    shape = tuple(int(side) for side in head["shape"].split(b",") if side.strip())
    count = 1
    for side in shape:
        count *= side  # of Python's own numbers, which do not overflow
    if count * dtype.itemsize != len(data) - start:
        raise DataError(f"{where}: {len(data) - start} bytes are no {shape} of {dtype}; the file is damaged")
    flat = np.frombuffer(data, dtype, count, start)
    return flat.reshape(shape, order="F" if head["columns"] == b"True" else "C").copy()
