"""Every kind of bad line is named with its file and number; good files come through a round trip unchanged."""

import re

import numpy as np
import pytest
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st

from facetx.data.lists.pairs import Pairs, find_images, read_pairs, write_key_pairs, write_pairs
from facetx.errors import DataError

GOOD = """\
2\t2
Ann\t1\t2
Ann\t1\t3
Bob\t4\tCid\t1
Ann\t2\tCid\t12
Dan\t1\t2
Eve_O'Hara\t1\t3
Dan\t1\tEve_O'Hara\t1
Fay\t1\tEve_O'Hara\t1
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "pairs.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_reads_the_official_form(file):
    pairs = read_pairs(file(GOOD))
    assert len(pairs) == 8
    assert pairs.folds == 2
    assert pairs.first[:3] == ["Ann/Ann_0001", "Ann/Ann_0001", "Bob/Bob_0004"]
    assert pairs.second[:4] == ["Ann/Ann_0002", "Ann/Ann_0003", "Cid/Cid_0001", "Cid/Cid_0012"]
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.fold.tolist() == [0] * 4 + [1] * 4
    images = pairs.images
    assert len(images) == len(set(images)) == 11
    first, second = pairs.indices()
    assert [images[i] for i in first] == pairs.first
    assert [images[i] for i in second] == pairs.second


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\t", "  "),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\n", "\n\n"),
        lambda t: t.rstrip("\n"),
        lambda t: t.partition("\n")[2],  # no header: folds begin where same follows different
    ],
)
def test_reads_what_editors_and_mirrors_make_of_it(file, change):
    a = read_pairs(file(GOOD))
    b = read_pairs(file(change(GOOD)))
    assert (a.first, a.second) == (b.first, b.second)
    np.testing.assert_array_equal(a.same, b.same)
    np.testing.assert_array_equal(a.fold, b.fold)


def test_a_single_number_is_one_fold(file):
    text = "".join(["2\n", *GOOD.splitlines(keepends=True)[1:5]])
    pairs = read_pairs(file(text))
    assert pairs.fold.tolist() == [0] * 4
    assert pairs.same.tolist() == [True, True, False, False]


def line(number, text):
    """GOOD with its line of that number (from 1) replaced."""
    lines = GOOD.splitlines()
    lines[number - 1] = text
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (line(1, "two\t2"), ":1", "expected a header of one or two numbers above 0"),
        (line(1, "0\t2"), ":1", "expected a header of one or two numbers above 0"),
        (line(3, "Ann"), ":3", "found 1 fields: 'Ann'"),
        (line(3, "Ann\t1\t2\t3\t4"), ":3", "found 5 fields"),
        (line(3, "Ann\t1\tx"), ":3", "expected an image number from 1 on, found 'x'"),
        (line(3, "Ann\t0\t2"), ":3", "expected an image number from 1 on, found '0'"),
        (line(3, "Ann\t-1\t2"), ":3", "expected an image number from 1 on, found '-1'"),
        (line(3, "Ann\t٣\t2"), ":3", "expected an image number from 1 on, found '٣'"),
        (line(3, "Ann\t1\t" + "9" * 5000), ":3", "expected an image number from 1 on"),
        (line(3, "Ann\t2\t2"), ":3", "an image is paired with itself"),
        (line(4, "Bob\t4\tBob\t1"), ":4", "expected two names in a different pair, found 'Bob' twice"),
        (line(3, "../Ann\t1\t2"), ":3", "a name that can be a folder, found '../Ann'"),
        (line(3, "..\t1\t2"), ":3", "a name that can be a folder"),
        (line(3, "An\0n\t1\t2"), ":3", "a name that can be a folder"),
        (line(4, "Bob\t4\t\t1"), ":4", "a name that can be a folder, found ''"),
        (line(4, "Bob\t1\t2"), ":4", "expected different pair 1 of 2 of fold 1, found a same pair"),
        (line(7, "Ann\t1\tBob\t1"), ":7", "expected same pair 2 of 2 of fold 2, found a different pair"),
        (GOOD + "Ann\t3\t4\n", ":10", "expected the end of the file after 8 pairs (2 folds of 2 + 2), found 1 more"),
        ("\n".join(GOOD.splitlines()[:6]), "", "ends after line 6 with 5 of 8 pairs"),
        ("2\t2\n", "", "ends with 0 of 8 pairs"),
        ("", "", "the file is empty"),
        (GOOD.partition("\n")[2] + "Ann\t3\t4\n", "", "put a first line"),
        (b"2\t2\nJos\xe9\t1\t2\n", "", "not a text file in UTF-8 (byte 7)"),
    ],
)
def test_a_bad_line_is_named(file, text, place, message):
    path = file(text)
    with pytest.raises(DataError, match=re.escape(f"{path}{place}: ") + ".*" + re.escape(message)):
        read_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a folder"):
        read_pairs(tmp_path)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(alphabet="\t\n 0123ABé/.\0", max_size=20))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, start, cut, inserted):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_text(GOOD[:start] + inserted + GOOD[start + cut :], encoding="utf-8", newline="")
    try:
        pairs = read_pairs(path)
    except DataError:
        return
    assert pairs.folds * 2 * pairs.same[pairs.fold == 0].sum() == len(pairs)
    assert (pairs.same == [a.split("/")[0] == b.split("/")[0] for a, b in zip(pairs.first, pairs.second)]).all()


def test_round_trip(file, tmp_path):
    for text in (GOOD, "".join(["2\n", *GOOD.splitlines(keepends=True)[1:5]])):
        out = tmp_path / "out.txt"
        write_pairs(out, read_pairs(file(text)))
        assert out.read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.txt", "pairs.txt"]


def test_what_the_format_cannot_hold_is_not_written(tmp_path):
    def pairs(first, second, same, fold):
        return Pairs(first, second, np.array(same), np.array(fold))

    path = tmp_path / "out.txt"
    for same, fold in (([True, True], [0, 0]), ([False, True], [0, 0]), ([True, False], [0, 1])):
        with pytest.raises(DataError, match="in another order or number"):
            write_pairs(path, pairs(["A/A_0001"] * 2, ["A/A_0002", "B/B_0001"], same, fold))
    with pytest.raises(DataError, match="'A/B_0002' is not of the form"):
        write_pairs(path, pairs(["A/A_0001"] * 2, ["A/B_0002", "B/B_0001"], [True, False], [0, 0]))
    with pytest.raises(DataError, match="cannot be a same pair by name"):
        write_pairs(path, pairs(["A/A_0001"] * 2, ["B/B_0002", "B/B_0001"], [True, False], [0, 0]))
    assert not path.exists()


def test_finds_images_of_any_suffix(tmp_path):
    for name in ("Ann/Ann_0001.jpg", "Ann/Ann_0002.PNG", "Ann/Ann_0002.txt", "Bob/Bob_0001.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    keys = ["Bob/Bob_0001", "Ann/Ann_0002", "Ann/Ann_0001"]
    found = find_images(tmp_path, keys)
    assert list(found) == keys
    assert [p.name for p in found.values()] == ["Bob_0001.webp", "Ann_0002.PNG", "Ann_0001.jpg"]

    with pytest.raises(
        DataError, match=r"3 of 4 images .* Ann/Ann_0003, Cid/Cid_0001, ann/Ann_0001.*Looked for .*Ann_0003"
    ):
        find_images(tmp_path, ["Ann/Ann_0001", "Ann/Ann_0003", "Cid/Cid_0001", "ann/Ann_0001"])
    (tmp_path / "Ann/Ann_0001.png").touch()
    with pytest.raises(DataError, match=r"Ann_0001\.jpg and Ann_0001\.png are both image Ann_0001"):
        find_images(tmp_path, keys)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_images(tmp_path / "nowhere", keys)


def test_the_official_list_and_its_images(tmp_path):
    path = shared("data/lfw/pairs.txt")
    pairs = read_pairs(path)
    assert (len(pairs), pairs.folds, len(pairs.images)) == (6000, 10, 7701)
    assert pairs.same.reshape(10, 2, 300).all(axis=2).tolist() == [[True, False]] * 10
    assert (pairs.first[0], pairs.second[-1]) == ("Abel_Pacheco/Abel_Pacheco_0001", "Zico/Zico_0003") or pairs.second[
        -1
    ]
    write_pairs(tmp_path / "again.txt", pairs)
    assert (tmp_path / "again.txt").read_bytes() == path.read_bytes()
    assert len(find_images(shared("data/lfw/images"), pairs.images)) == 7701


def test_any_pairs_in_the_second_form(tmp_path):
    pairs = Pairs(["a b/1", "a b/1", "c/x.y"], ["d/2", "a b/3", "d/2"], np.array([0, 1, 1], bool), np.array([1, 0, 1]))
    with pytest.raises(DataError, match="this format holds"):
        write_pairs(tmp_path / "pairs.txt", pairs)
    write_key_pairs(tmp_path / "pairs.txt", pairs)
    again = read_pairs(tmp_path / "pairs.txt")
    assert (again.first, again.second) == (pairs.first, pairs.second)
    assert again.same.tolist() == pairs.same.tolist()
    assert again.fold.tolist() == pairs.fold.tolist()


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", "the folds are not numbered 1, 2"),
        ("a/1\tb/1\t1\t2\n", "the folds are not numbered 1, 2"),
        ("a/1\tb/1\t1\t1\na/1\tb/1\t2\t1\n", ":3: expected two keys, 0 or 1, and a fold"),
        ("a/1\tb/1\t1\n", ":2: expected two keys"),
        ("a/1\tb/1\t1\tx\n", ":2: expected two keys"),
        ("a/1\t../b\t1\t1\n", r":2: '../b' is no path below"),
    ],
)
def test_faults_of_the_second_form(file, lines, problem):
    with pytest.raises(DataError, match=problem):
        read_pairs(file("first\tsecond\tsame\tfold\n" + lines))
