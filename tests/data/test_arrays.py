"""``.npz`` files of other programs: what NumPy writes is read, and nothing else is."""

import io
import zipfile

import numpy as np
import pytest

from facetx.data.formats.arrays import read_npz
from facetx.errors import DataError

ARRAYS = {
    "weight": np.arange(6, dtype="<f4").reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i2"),
    "steps": np.int64(7),
    "mask": np.array([True, False]),
    "nothing": np.zeros((0, 4), np.float16),
    "complex": np.array([1 + 2j]),
}


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def write(path, members, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        found[name][...] = 0  # it can be written to


def test_the_second_version_of_the_header(tmp_path):
    out = io.BytesIO()
    np.lib.format.write_array(out, ARRAYS["weight"], version=(2, 0))
    found = read_npz(write(tmp_path / "a.npz", {"a.npy": out.getvalue()}))
    np.testing.assert_array_equal(found["a"], ARRAYS["weight"])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.npy": npy(np.array(["x"]))}, r"a.npz, 'a.npy': is no array of numbers, or damaged; its header is b.*<U1"),
        ({"a.npy": npy(np.array([(1, 2)], "i4,i4"))}, "is no array of numbers"),
        ({"a.npy": b"\x93NUMPY\1\0"}, "is no array of numbers"),
        ({"a.npy": b""}, "is no array of numbers"),
        ({"a.npy": npy(np.zeros(9))[:-8]}, r"'a.npy': 64 bytes are no \(9,\) of float64; the file is damaged"),
        ({"a.npy": npy(np.zeros(9)).replace(b"(9,), }        ", b"(99999999,), } ")}, r"are no \(99999999,\) of"),
        ({"a.txt": b"x"}, "a.npz, 'a.txt': is no array that NumPy would write"),
        ({"\x1b[2J.txt": b"x"}, r"a.npz, '\\x1b\[2J.txt'"),
        ({"a.npy": npy(np.zeros(2**23))}, r"unpacks to 67108992 bytes; at most 1\d+ are read from a file of its size"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, members, words):
    with pytest.raises(DataError, match=words):
        read_npz(write(tmp_path / "a.npz", members))


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(DataError, match="is no array of numbers"):
        read_npz(tmp_path / "a.npz")


def test_other_ways_to_pack_and_doubles_are_refused(tmp_path):
    data = npy(np.zeros(3))
    with pytest.raises(DataError, match="is no array that NumPy would write"):
        read_npz(write(tmp_path / "a.npz", {"a.npy": data}, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("a.npy", data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.npy", data)
    with pytest.raises(DataError, match="or stands twice"):
        read_npz(tmp_path / "b.npz")
    with pytest.raises(DataError, match="nowhere.npz: no such file"):
        read_npz(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_bytes_give_a_data_error_or_a_read(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, a=ARRAYS["weight"], b=ARRAYS["steps"])
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                read_npz(path)
            except DataError as error:
                refused += str(error).startswith(str(path))
    assert refused > len(whole) / 3
