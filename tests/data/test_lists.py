"""List files, CelebA's annotations and the benchmarks' own protocol files: read right, or named wrong."""

import os
from contextlib import suppress

import numpy as np
import pytest
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facetx.data import DATASETS
from facetx.data.lists.image_lists import read_attributes, read_list, read_names, write_list
from facetx.data.lists.landmarks import read_landmarks, write_landmarks
from facetx.data.lists.pairs import Pairs, find_images, read_pairs, write_key_pairs
from facetx.data.lists.protocols import read_agedb, read_calfw, read_cfp, read_sllfw
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.records import write_faces
from facetx.errors import DataError


@pytest.fixture
def file(tmp_path):
    def write(text, name="list.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_list_with_tabs_spaces_and_blanks(file):
    path = file("\ufeffa/1.jpg\t5\r\n\na b/2.jpg 7\nc.jpg   5")
    assert read_list(path) == (["a/1.jpg", "a b/2.jpg", "c.jpg"], [5, 7, 5])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 1\nb\n", "list.txt:2: expected 'path<tab or space>label', found 'b'"),
        ("a 1\nb -1\n", "list.txt:2: expected"),
        ("a 1.5\n", "list.txt:1: expected"),
        ("\n", "the file is empty"),
        (b"\xff\xfea\0", "is a text in UTF-16; save it in UTF-8"),
        ("0\t3.5\ta.jpg\n", "list.txt:1: expected 'number<tab>label<tab>path'"),
        ("0\t3\ta.jpg\n1\ta.jpg\n", "list.txt:2: expected 'number<tab>label<tab>path'"),
        ("1\ta.jpg\t-1\n", "list.txt:1: expected 'aligned<tab>path<tab>label'"),
    ],
)
def test_bad_lists(file, text, words):
    with pytest.raises(DataError, match=words):
        read_list(file(text))


def test_list_as_a_data_set(faces, tmp_path):
    files = sorted(faces.rglob("*.png"))[:10]
    write_list(tmp_path / "l.txt", [str(p.relative_to(faces)) for p in files], [9] * 5 + [4] * 5)
    data = DATASETS["image_list"](path=str(tmp_path / "l.txt"), root=str(faces))
    assert data.labels.tolist() == [1] * 5 + [0] * 5
    assert data.stored.tolist() == [4, 9]
    assert data.identities == ["4", "9"]
    assert np.array_equal(data[3]["image"], np.array(Image.open(files[3])))


FORMS = {
    "own": "id 0/a.jpg\t7\nb.jpg\t2\n",
    "insightface": "1\tid 0/a.jpg\t7\n1\tb.jpg\t2\n",
    "insightface with boxes": "0\tid 0/a.jpg\t7\t1\t2\t3\t4\n0\tb.jpg\t2\t1\t2\t3\t4\n",
    "mxnet": "12\t7.000000\tid 0/a.jpg\n3\t2.000000\tb.jpg\n",
    "mxnet with several labels": "12\t7\t0.25\t1\tid 0/a.jpg\n3\t2\t0.5\t1\tb.jpg\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_every_form(file, form):
    path = file(FORMS[form], "train.lst")
    assert read_list(path) == (["id 0/a.jpg", "b.jpg"], [7, 2])
    for name, color in (("id 0/a.jpg", 10), ("b.jpg", 200)):
        (path.parent / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (color, color, color)).save(path.parent / name)
    data = DATASETS["image_list"](path=str(path))
    assert data.labels.tolist() == [1, 0]
    assert [item["image"].mean().round(-1) for item in (data[0], data[1])] == [10, 200]


def test_the_list_beside_our_own_records_is_read(file, tmp_path):
    names = ["ann/a.png", "ann/b.png", "bob/c.png"]
    write_faces(tmp_path / "train.rec", np.array([0, 0, 1]), names, lambda i: b"x", (8, 8))
    assert read_list(tmp_path / "train.lst") == (names, [0, 0, 1])


STRANGE = [os.fsdecode(b"Jos\xe9.png"), " spaces .png", "line\u2028end\x85.png", "\U0001f600.png", "x" * 246 + ".png"]


def test_strange_names_are_listed_read_and_found_again(tmp_path):
    """Names that are not UTF-8, hold what Python takes for ends of lines, or are as long as a name can be."""
    for person, color in (("ann", 10), (os.fsdecode(b"b\xf6b"), 200)):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for name in [*STRANGE, "two\nlines.png"]:
            Image.new("RGB", (8, 8), (color, color, color)).save(tmp_path / "faces" / person / name)
    data = ImageFolder(str(tmp_path / "faces"))
    assert (len(data), data.num_classes) == (12, 2)
    assert [data[i]["image"].mean() for i in range(12)] == [10] * 6 + [200] * 6
    assert data.digest()["people"]

    names = [data.key(i) for i in range(12)]
    listed = [name for name in names if "\n" not in name]
    write_list(tmp_path / "l.txt", [f"faces/{name}" for name in listed], [0] * 5 + [1] * 5)
    again = DATASETS["image_list"](path=str(tmp_path / "l.txt"))
    assert [again.key(i) for i in range(10)] == listed
    assert [again[i]["image"].mean() for i in range(10)] == [10] * 5 + [200] * 5
    with pytest.raises(DataError, match=r"two\\nlines.png' holds a tab or an end of a line, which a list file cannot"):
        write_list(tmp_path / "l.txt", names, [0] * 12)

    points = np.arange(120, dtype=np.float32).reshape(12, 5, 2)
    write_landmarks(tmp_path / "landmarks.csv", names, points)
    found = read_landmarks(tmp_path / "landmarks.csv")
    assert list(found) == names
    assert np.array_equal(np.stack(list(found.values())), points)

    keys = [name.removesuffix(".png") for name in listed if not name.endswith(" .png")]
    pairs = Pairs(keys[::2], keys[1::2], np.array([True, False, False, True]), np.zeros(4, np.int64))
    write_key_pairs(tmp_path / "pairs.txt", pairs)
    assert read_pairs(tmp_path / "pairs.txt").first == pairs.first
    assert set(find_images(tmp_path / "faces", keys)) == set(keys)
    with pytest.raises(DataError, match=r"'a\\nb' holds a tab, an end of a line"):
        write_key_pairs(tmp_path / "pairs.txt", Pairs(["a\nb"], ["c"], np.array([True]), np.zeros(1, np.int64)))


def test_names_of_insightface_and_mxnet_lists(file):
    assert read_names(file("1\t/raid/x/id0/a.jpg\t0\n1\tid1\\b.jpg\t1\n"), 2) == ["id0/a.jpg", "id1/b.jpg"]
    assert read_names(file("0\t3.000000\tid0/a.jpg\n1\t3\t0.5\tid0/b.jpg\n"), 2) == ["id0/a.jpg", "id0/b.jpg"]
    assert read_names(file("0\t3\ta.jpg\n"), 2) is None


def write_celeba(root, rows=("a.jpg -1  1", "b.jpg  1 -1", "c.jpg  1  1")):
    (root / "list_attr_celeba.txt").write_text("3\nSmiling Young \n" + "\n".join(rows) + "\n")
    (root / "identity_CelebA.txt").write_text("a.jpg 20\nb.jpg 10\nc.jpg 20\n")
    (root / "list_eval_partition.txt").write_text("a.jpg 0\nb.jpg 0\nc.jpg 2\n")


def test_celeba(tmp_path):
    write_celeba(tmp_path)
    (tmp_path / "img_align_celeba").mkdir()
    for name in "abc":
        Image.new("RGB", (3, 4)).save(tmp_path / f"img_align_celeba/{name}.jpg")
    data = DATASETS["celeba"](root=str(tmp_path), part="train")
    assert data.labels.tolist() == [1, 0]
    assert data.attribute_names == ("Smiling", "Young")
    assert data[0]["attributes"].tolist() == [0, 1]
    assert data[1]["image"].shape == (4, 3, 3)
    assert len(DATASETS["celeba"](root=str(tmp_path))) == 3
    (tmp_path / "img_align_celeba/b.jpg").unlink()
    with pytest.raises(DataError, match="1 of the 2 images of 'train' are not there: b.jpg; unpack all of them"):
        DATASETS["celeba"](root=str(tmp_path), part="train")
    with pytest.raises(DataError, match="puts no image into 'val'"):
        DATASETS["celeba"](root=str(tmp_path), part="val")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a.jpg 1 1", "b.jpg 1"], "list_attr_celeba.txt:4: expected an image and 2 times -1 or 1"),
        (["a.jpg 1 0"], "list_attr_celeba.txt:3: expected"),
        (["a.jpg 1 1"], "1 images, and the first line says 3; it may be cut off"),
        (["a.jpg 1 1", "b.jpg 1 1", "x.jpg 1 1"], "x.jpg has attributes and no identity"),
    ],
)
def test_bad_celeba(tmp_path, rows, words):
    write_celeba(tmp_path, rows)
    with pytest.raises(DataError, match=words):
        DATASETS["celeba"](root=str(tmp_path))


def test_celeba_as_it_is():
    root = shared("data/celeba_attributes")
    data = DATASETS["celeba"](root=str(root), images="images", part="val")
    assert len(data) == 600
    assert len(data.attribute_names) == 40
    assert data.attribute_names[20] == "Male"
    names, rows = read_attributes(root / "list_attr_celeba.txt")
    assert len(rows) == 8000
    assert rows["000001.jpg"][names.index("Attractive")] == 1
    item = data[5]
    assert item["image"].shape == (109, 89, 3)
    assert item["attributes"].shape == (40,)


CALFW = "".join(f"P{i}_0001.jpg {i % 10 + 1}\nP{i}_0002.jpg {i % 10 + 1}\n" for i in range(20)) + "".join(
    f"P{i}_0001.jpg 0\nP{i + 1}_0001.jpg 0\n" for i in range(20)
)


def test_calfw(file, tmp_path):
    pairs = read_calfw(file(CALFW))
    assert len(pairs) == 40
    assert pairs.same.tolist() == [True] * 20 + [False] * 20
    assert pairs.fold.tolist() == [i % 10 for i in range(20)] + [i // 2 for i in range(20)]
    assert (pairs.first[0], pairs.second[0], pairs.second[20]) == ("P0_0001", "P0_0002", "P1_0001")
    for key in pairs.images:
        (tmp_path / f"{key}.jpg").touch()
    assert find_images(tmp_path, pairs.images)["P3_0002"].name == "P3_0002.jpg"


def test_sllfw(file):
    text = "".join(f"A/A_000{i}.jpg\nA/A_000{i + 1}.jpg\nA/A_0001.jpg\nB{i}/B{i}_0001.jpg\n" for i in range(1, 7))
    pairs = read_sllfw(file(text))
    assert pairs.same.tolist() == [True, False] * 6
    assert pairs.first[2:4] == ["A/A_0002", "A/A_0001"]
    assert pairs.fold.tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_agedb(file):
    lines = [f"{i}_MariaCallas_35_f.jpg {i + 1}_MariaCallas_40_f.jpg {i % 2}" for i in range(10)]
    pairs = read_agedb(file("\n".join(lines)))
    assert pairs.same.tolist() == [False, True] * 5
    assert pairs.first[3] == "3_MariaCallas_35_f"
    assert pairs.folds == 10


def write_cfp(file):
    for kind, folder in (("F", "frontal"), ("P", "profile")):
        text = "".join(f"{i} ../Data/Images/{i:03d}/{folder}/01.jpg\n" for i in range(1, 5))
        protocol = file(text, f"Protocol/Pair_list_{kind}.txt").parent
    for kind in ("FF", "FP"):
        for fold in range(1, 11):
            file("1,1\n2,2\n", f"Protocol/Split/{kind}/{fold:02d}/same.txt")
            file("1,3\n2,4\n", f"Protocol/Split/{kind}/{fold:02d}/diff.txt")
    return protocol


def test_cfp(file):
    protocol = write_cfp(file)
    pairs = read_cfp(protocol, "FP")
    assert len(pairs) == 40
    assert pairs.same.tolist() == [True, True, False, False] * 10
    assert pairs.fold.tolist() == np.repeat(range(10), 4).tolist()
    assert (pairs.first[3], pairs.second[3]) == ("002/frontal/01", "004/profile/01")
    assert read_cfp(protocol, "FF").second[3] == "004/frontal/01"
    tabs = file(
        "".join(f"{i}\t../Data/Images/{i:03d}/profile/01.jpg\n" for i in range(1, 5)), "Protocol/Pair_list_P.txt"
    )
    assert read_cfp(tabs.parent, "FP").second == pairs.second
    file("1,9\n", "Protocol/Split/FP/04/diff.txt")
    with pytest.raises(DataError, match=r"04/diff.txt:1: expected 'i,j', numbers of the pair lists, found '1,9'"):
        read_cfp(protocol, "FP")


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (read_calfw, CALFW.partition("\n")[2], "pair 1 is marked 1 and 2; expected one fold"),
        (read_calfw, CALFW + "x.jpg 0\n", "81 images do not make pairs"),
        (read_calfw, "a.jpg 11\nb.jpg 11\n", "expected one fold, 0 to 10"),
        (read_calfw, "a.jpg 1\nb.jpg 1\n", "0 pairs do not make 10 folds; the file may be cut off"),
        (read_sllfw, "A/1.jpg\nA/2.jpg\n" * 10 + "../../etc/passwd\n../x\n", "is no path below a folder"),
        (read_agedb, "a b\n", "list.txt:1: expected 'image image 1'"),
        (read_agedb, "", "0 pairs do not make 10 folds"),
    ],
)
def test_bad_protocols(file, read, text, words):
    with pytest.raises(DataError, match=words):
        read(file(text))


GOOD = {
    "calfw": CALFW[:400],
    "sllfw": "A/A_0001.jpg\nA/A_0002.jpg\nB/B_0001.jpg\nC/C_0001.jpg\n" * 6,
    "agedb": "a/1.jpg b/2.jpg 1\nc.jpg\td.jpg\t0\n" * 6,
    "pairs": "2\t1\nAnn\t1\t2\nBob\t4\tCid\t1\nDan\t1\t2\nFay\t1\tAnn\t1\n",
    "list": "a/1.jpg\t0\nb/2.jpg 1\n",
    "attributes": "2\nA B\na.jpg -1 1\nb.jpg 1 1\n",
}
READERS = {
    "calfw": read_calfw,
    "sllfw": read_sllfw,
    "agedb": read_agedb,
    "pairs": read_pairs,
    "list": read_list,
    "attributes": read_attributes,
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_text_gives_a_data_error_or_a_read(tmp_path_factory, name, data):
    content = bytearray(GOOD[name].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"\n", b"\t", b" ", b"\0", b"-", b"9" * 30, b"/", b"..", b"\xff", "²".encode(), b"e"])
        )
    path = tmp_path_factory.mktemp("text") / "x.txt"
    path.write_bytes(content)
    with suppress(DataError):
        READERS[name](path)
