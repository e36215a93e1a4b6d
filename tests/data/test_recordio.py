"""RecordIO: InsightFace's layout by hand, lossless round trips, and damage of every kind named."""

import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import copied, shared
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from facetx.data import DATASETS
from facetx.data.formats.codec import encode_png
from facetx.data.formats.recordio import MAGIC, Record, RecordFile, RecordWriter
from facetx.data.sets.records import RecordFaces, write_faces
from facetx.errors import DataError

FUZZ = settings(max_examples=60, deadline=None, derandomize=True)


def png(value, size=4):
    return encode_png(np.full((size, size, 3), value, np.uint8))


def write(path, records):
    with RecordWriter(path) as out:
        for key, record in records:
            out.write(key, record)
    return path


def everything(path):
    """All that reading a file can give; ``DataError`` is the only way out."""
    file = RecordFile(path)
    return [(int(key), file[i].id, file[i].labels.tolist(), file[i].content) for i, key in enumerate(file.keys)]


@pytest.fixture
def faces_rec(tmp_path):
    """Images of four identities, one of a single image, in an order that is not theirs."""
    labels = np.array([2, 0, 1, 0, 3, 2, 2])
    images = [png(10 * i) for i in range(7)]
    path = tmp_path / "train.rec"
    write_faces(path, labels, [f"p{label}/{i}.png" for i, label in enumerate(labels)], images.__getitem__, (4, 4))
    return path


def test_bytes_by_hand(tmp_path):
    path = write(tmp_path / "a.rec", [(5, Record.of(b"abcde", 3, id=5))])
    payload = struct.pack("<IfQQ", 0, 3.0, 5, 0) + b"abcde"
    assert path.read_bytes() == bytes.fromhex("0a23d7ce") + struct.pack("<I", 29) + payload + b"\0\0\0"
    assert path.with_suffix(".idx").read_text() == "5\t0\n"


def test_a_magic_number_inside_is_cut_out_and_put_back(tmp_path):
    content = MAGIC * 2 + b"abcd" + MAGIC + b"x" + MAGIC + b"yz"  # the last one is at no multiple of 4
    path = write(tmp_path / "a.rec", [(0, Record.of(content, 1)), (1, Record.of(b"next", 2))])
    data = path.read_bytes()
    assert data.count(MAGIC) == 4 + 1 + 1  # four parts, one left inside, and the next record
    kinds = [struct.unpack_from("<I", data, at + 4)[0] >> 29 for at in range(0, len(data), 4) if data[at:][:4] == MAGIC]
    assert kinds == [1, 2, 2, 3, 0]
    file = RecordFile(path)
    assert file[0].content == content
    assert file[1].content == b"next"


def test_the_official_sample():
    """A real file of MXNet: 12 pictures with 9 labels each; with its .idx, and scanned."""
    path = shared("data/insightface/train.rec")
    file = RecordFile(path)
    assert len(file) == 12
    assert file[3].labels[:4].tolist() == [4, 5, 800, 538]
    assert all(file[i].content.startswith(b"\xff\xd8\xff") and file[i].id == i for i in range(12))
    assert RecordFaces(path)[1]["image"].shape == (533, 800, 3)


def test_the_official_sample_scanned(tmp_path):
    path = shared("data/insightface/train.rec")
    (tmp_path / "train.rec").symlink_to(path)
    scanned, indexed = RecordFile(tmp_path / "train.rec"), RecordFile(path)
    assert np.array_equal(scanned.offsets, indexed.offsets)
    assert np.array_equal(scanned.keys, indexed.keys)


def test_identity_ranges_of_insightface(faces_rec, caplog):
    file = RecordFile(faces_rec)
    head = file[file.find(0)]
    assert head.labels.tolist() == [8, 12]
    assert [file[file.find(k)].labels.tolist() for k in range(8, 12)] == [[1, 3], [3, 4], [4, 7], [7, 8]]
    data = DATASETS["recordio"](path=str(faces_rec.parent))
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert data.num_classes == 4
    assert [int(data[i]["image"][0, 0, 0]) for i in range(7)] == [10, 30, 20, 0, 50, 60, 40]
    assert data.size_stated == (4, 4)
    assert "record 1" in data.describe(0)
    assert not caplog.records


def test_without_idx_the_same(faces_rec):
    before = everything(faces_rec)
    faces_rec.with_suffix(".idx").unlink()
    assert everything(faces_rec) == before
    assert RecordFaces(faces_rec).labels.tolist() == [0, 0, 1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    "ranges",
    [[(1, 2), (3, 4)], [(1, 3)], [(1, 3), (2, 4)], [(1, 2.5), (2.5, 4)]],
    ids=["gap", "short", "overlap", "halves"],
)
def test_labels_are_read_from_the_images_where_ranges_do_not_cover_them(tmp_path, ranges):
    images = [(k, Record.of(png(k), [label, 1], k)) for k, label in ((1, 0), (2, 0), (3, 1))]  # with vector labels
    identities = [(4 + i, Record.of(b"", r)) for i, r in enumerate(ranges)]
    head = (0, Record.of(b"", [4, 4 + len(ranges)]))
    data = RecordFaces(write(tmp_path / "a.rec", [head, *images, *identities]))
    assert data.labels.tolist() == [0, 0, 1]


def test_keys_above_the_exact_float32(tmp_path):
    """The header's 2^24 + 3 is rounded to 2^24 + 4; the images are known by their content."""
    first = 2**24 + 3
    records = [(0, Record.of(b"", [first, first + 1])), *((k, Record.of(png(0), 0)) for k in range(first - 3, first))]
    file_head = records[0][1].labels[0]
    assert int(file_head) != first
    path = write(tmp_path / "a.rec", [*records, (first, Record.of(b"", [first - 3, first]))])
    assert len(RecordFaces(path)) == 3


def test_labels_that_float32_does_not_hold_are_told(tmp_path, caplog):
    def warned(*people):
        caplog.clear()
        records = [(i, Record.of(png(i), who, i)) for i, who in enumerate(people)]
        classes = RecordFaces(str(write(tmp_path / "a.rec", records))).num_classes
        return classes, "RecordIO keeps them as float32, in which those from 16777216 on are rounded" in caplog.text

    assert warned(0, 2**24 - 2, 2**24 - 1) == (3, False)
    assert warned(0, 2**24, 2**24 + 1) == (2, True)  # which are one number in the file
    assert warned(0, 2**24 + 2, 2**24 + 4) == (3, True)


def test_gaps_in_the_labels_are_closed_and_said(tmp_path, caplog):
    path = write(tmp_path / "a.rec", [(i, Record.of(png(0), label)) for i, label in enumerate([7, 3, 7])])
    (tmp_path / "property").write_text("3,4,4\n")
    data = RecordFaces(path)
    assert data.labels.tolist() == [1, 0, 1]
    assert data.stored.tolist() == [3, 7]
    assert "labels from 3 to 7; they are numbered anew, 0 to 1" in caplog.text
    assert "has 2 identities, and property says 3" in caplog.text


def test_pickled_and_read_by_workers(faces_rec):
    data = RecordFaces(faces_rec)
    expected = [int(data[i]["image"][0, 0, 0]) for i in range(7)]
    assert b"\x89PNG" not in pickle.dumps(data)
    assert int(copied(data)[2]["image"][0, 0, 0]) == expected[2]
    loader = DataLoader(data, batch_size=1, num_workers=2, multiprocessing_context="fork")
    assert [int(batch["image"][0, 0, 0, 0]) for batch in loader] == expected


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def records():
        yield 0, Record.of(b"a", 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.rec", records())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    """The last bytes may fail to be written only at the end of the block."""

    def write_to(full):
        with RecordWriter(tmp_path / "a.rec") as out:
            out.write(0, Record.of(b"a", 0))
            os.dup2(full.fileno(), out._files[0].fileno())

    with open("/dev/full", "wb") as full, pytest.raises(OSError, match="No space left on device: '.*a.rec'"):
        write_to(full)
    assert not list(tmp_path.iterdir())


def test_another_set_of_the_folder_keeps_its_property(faces_rec, caplog):
    write_faces(faces_rec.with_name("val.rec"), np.zeros(1, int), ["a/0.png"], lambda i: png(0), (9, 9))
    assert faces_rec.with_name("property").read_text() == "4,4,4\n"
    assert RecordFaces(faces_rec).size_stated == (4, 4)
    assert RecordFaces(faces_rec.with_name("val.rec")).size_stated is None
    assert not caplog.records


def test_the_rec_appears_last(tmp_path, monkeypatch):
    renamed = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (renamed.append(to.name), replace(path, to)))
    write_faces(tmp_path / "train.rec", np.zeros(1, int), ["a/0.png"], lambda i: png(0), (2, 2))
    assert renamed == ["train.lst", "property", "train.idx", "train.rec"]


@pytest.mark.parametrize("with_index", [True, False])
def test_truncation_at_every_byte(tmp_path, with_index):
    content = [b"abc" + MAGIC, b"\0" + MAGIC + b"de", b""]
    path = write(tmp_path / "a.rec", [(i, Record.of(c, [i, 2] if i else i, i)) for i, c in enumerate(content)])
    whole, index = path.read_bytes(), path.with_suffix(".idx")
    expected, starts = everything(path), RecordFile(path).offsets.tolist()
    if not with_index:
        index.unlink()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        if not with_index and cut in starts[1:]:  # the end of a record is a good end
            assert everything(path) == expected[: starts.index(cut)]
        else:
            with pytest.raises(DataError, match="a.rec: "):
                everything(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0\t0\n1\tx\n", r"a.idx: row 1: expected 'key<tab>offset', found b'1\\tx'"),
        ("0\t0\n1\n", "a.idx: row 1: expected 'key<tab>offset', found b'1'"),
        ("0\t0\n1.5\t32\n", r"a.idx: row 1: expected 'key<tab>offset', found b'1.5"),
        ("0\n1\n", "a.idx: row 0: expected"),
        ("0\t0\n1\t-32\n", "a.idx: row 1: expected"),
        ("0\t0\n\n1\t99999999999999999999", "a.idx: row 2: expected"),
        ("\n", "a.idx: names no record"),
        ("", "a.idx: names no record"),
        ("0\t0\n0\t32\n", "a.idx: a key stands twice"),
        ("0\t0\n1\t9999\n", "names a record at 9999; the .rec may be cut off"),
        ("0\t4\n", "no record begins at byte 4"),
    ],
)
def test_bad_index(tmp_path, line, words):
    path = write(tmp_path / "a.rec", [(0, Record.of(b"", 0)), (1, Record.of(b"", 0))])
    path.with_suffix(".idx").write_text(line)
    with pytest.raises(DataError, match=words):
        everything(path)


def test_records_that_overlap_are_refused(tmp_path):
    """So that all of them together are no more than the file."""
    inner = MAGIC + struct.pack("<I", 24) + bytes(24)
    path = write(tmp_path / "a.rec", [(0, Record.of(b"x" * 40, 0)), (1, Record.of(b"y", 1))])
    with open(path, "r+b") as file:  # into the first one's content, as no writer leaves it
        file.seek(32)
        file.write(inner)
    for line, words in (("1\t0\n", "byte 0 reaches into the one at byte 0"), ("1\t32\n", "into the one at byte 32")):
        path.with_suffix(".idx").write_text("0\t0\n" + line + "2\t72\n")
        with pytest.raises(DataError, match=words):
            everything(path)


def test_records_after_the_images_are_not_held_in_memory(tmp_path):
    """The header announces identities where images are: their labels are asked for, and not all images kept."""
    images = [(k, Record.of(b"x" * 10**6, 0)) for k in range(3, 13)]
    path = write(
        tmp_path / "a.rec",
        [(0, Record.of(b"", [2, 13])), (1, Record.of(b"x", 0)), (2, Record.of(b"", [1, 2])), *images],
    )
    tracemalloc.start()
    assert RecordFaces(path).labels.tolist() == [0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Record.of(b"x", float("nan")), "the label nan is no whole number"),
        (Record.of(b"x", 0.5), "the label 0.5 is no whole number"),
        (Record.of(b"x", 1e30), "is no whole number"),
    ],
)
def test_labels_that_are_none(tmp_path, record, words):
    with pytest.raises(DataError, match=words):
        RecordFaces(write(tmp_path / "a.rec", [(0, record)]))


def test_an_image_that_contradicts_its_identity(faces_rec):
    file = RecordFile(faces_rec)
    data = bytearray(faces_rec.read_bytes())
    struct.pack_into("<f", data, int(file.offsets[file.find(2)]) + 12, 3.0)  # the second image of identity 0
    faces_rec.write_bytes(data)
    with pytest.raises(DataError, match="record 2: its label is 3, and by its identity's record 0"):
        RecordFaces(faces_rec)[1]


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match=r"train\.rec: no such file"):
        RecordFaces(tmp_path)
    (tmp_path / "a.rec").write_bytes(b"no record, but some text")
    with pytest.raises(DataError, match="no record begins at byte 0"):
        RecordFile(tmp_path / "a.rec")


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([b"a", b"bcd", MAGIC, b"\0"]), max_size=6).map(b"".join),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_round_trip(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("rec") / "a.rec"
    write(path, [(i, Record.of(c, labels, i)) for i, (c, labels) in enumerate(contents)])
    expected = [(i, i, labels, c) for i, (c, labels) in enumerate(contents)]
    assert everything(path) == expected
    path.with_suffix(".idx").unlink()
    assert everything(path) == expected


@FUZZ
@given(st.data())
def test_damaged_bytes_give_a_data_error_or_a_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("rec") / "train.rec"
    images = [png(i, 2) for i in range(3)]
    write_faces(path, np.array([0, 1, 1]), ["a/0", "b/1", "b/2"], images.__getitem__, (2, 2))
    broken = data.draw(st.sampled_from([path, path.with_suffix(".idx"), path.with_name("property")]))
    content = bytearray(broken.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from([0, 1, 0x20, 0x31, 0x7F, 0xFF])
        )
    broken.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        faces = RecordFaces(path)
        for i in range(len(faces)):
            faces[i]
    except DataError:
        pass


def test_an_index_that_was_cut_at_the_end_of_a_line_is_told(faces_rec):
    index = faces_rec.with_suffix(".idx")
    lines = index.read_text().splitlines(keepends=True)
    by_offset = sorted(lines, key=lambda line: int(line.split()[1]))
    index.write_text("".join(by_offset[:-2]))
    left = faces_rec.stat().st_size - int(by_offset[-2].split()[1])
    words = f"{faces_rec.name}: {left} bytes follow the last record that {index.name} names, .*the .idx is cut off"
    with pytest.raises(DataError, match=words):
        RecordFaces(faces_rec)
    index.write_text("".join(lines))
    assert len(RecordFaces(faces_rec)) == len(lines) - 1 - RecordFaces(faces_rec).num_classes
