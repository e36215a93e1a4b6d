"""The lists of IJB: what is written is read, and a wrong line is named."""

import numpy as np
import pytest

from facetx.data.lists.ijb import read_media, read_points, read_subjects, read_template_pairs
from facetx.errors import DataError


@pytest.fixture
def write(tmp_path):
    def file(text):
        (tmp_path / "list.txt").write_text(text)
        return tmp_path / "list.txt"

    return file


def test_each_list_is_read(write):
    media = read_media(write("1.jpg 1 69544\n2.jpg 1 69544\n\n3.jpg 2 7\n"))
    assert media.images == ["1.jpg", "2.jpg", "3.jpg"]
    assert media.templates.tolist() == [1, 1, 2]
    assert media.media.tolist() == [69544, 69544, 7]

    images, points, scores = read_points(write("1.jpg " + " ".join(map(str, range(10))) + " 0.5\n"))
    assert images == ["1.jpg"]
    assert points[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert scores.tolist() == [0.5]

    first, second, same = read_template_pairs(write("1 11065 1\n1 11066 0\n"))
    assert (first.tolist(), second.tolist(), same.tolist()) == ([1, 1], [11065, 11066], [True, False])

    templates, subjects = read_subjects(write("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,3,a.png\n2,1,b.png\n9,3,c.png\n"))
    assert (templates.tolist(), subjects.tolist()) == ([2, 9], [1, 3])


def test_pairs_behind_a_byte_order_mark(write):
    first, second, same = read_template_pairs(write("\ufeff1 11065 1\n1 11066 0\n"))
    assert (first.tolist(), second.tolist(), same.tolist()) == ([1, 1], [11065, 11066], [True, False])


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_media, "1.jpg 1 2\n1.jpg 1\n", ":2: expected 'image template medium'"),
        (read_media, "1.jpg 1 x\n", ":1: expected whole numbers"),
        (read_media, "", "the file is empty"),
        (read_points, "1.jpg 1 2 3 4 5 6 7 8 9 10 x\n", ":1: expected eleven numbers"),
        (read_points, "1.jpg 1 2 3 4 5 6 7 8 9 10 nan\n", ":1: a number is not finite"),
        (read_points, "1.jpg 1 2 3 4 5 6 7 8 9 1e39 1\n", ":1: a number is not finite"),  # as a float32
        (read_template_pairs, "1 2 1\n1 2 2\n", ":2: expected 0 or 1"),
        (read_template_pairs, "1 2 1\n\n1 2 one\n", ":3: expected whole numbers"),
        (read_template_pairs, "1 2 1\n1 2\n", ":2: expected 'template template 0 or 1'"),
        (read_template_pairs, "1 2\n1 2\n", ":1: expected 'template template 0 or 1'"),
        (read_template_pairs, "1 -2 1\n", ":1: expected whole numbers"),
        (read_template_pairs, "1 2 1.5\n", ":1: expected whole numbers"),
        (read_template_pairs, "", "the file is empty"),
        (read_subjects, "T,S\n1\n", ":2: expected 'template,subject,...'"),
        (read_subjects, "T,S\n1,2\n1,3\n", ":3: template 1 is of subject 3, and of 2 above"),
        (read_subjects, "T,S\n", "holds no templates"),
        (read_subjects, "T,S\n1," + "2" * 140_000, r"cannot be read \(field larger than field limit"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_wrong_line_is_named(write, read, text, told):
    with pytest.raises(DataError, match="list.txt:? ?" + told):
        read(write(text))


@pytest.mark.parametrize("read", [read_media, read_points, read_template_pairs, read_subjects])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read(tmp_path / "none.txt")


def test_many_pairs_are_read_at_once(write):
    rows = np.random.default_rng(0).integers(1, 20_000, (50_000, 3))
    rows[:, 2] %= 2
    first, second, same = read_template_pairs(write("\n".join(f"{a} {b} {c}" for a, b, c in rows) + "\n"))
    np.testing.assert_array_equal(np.stack([first, second, same], axis=1), rows)
