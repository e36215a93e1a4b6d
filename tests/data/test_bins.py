"""Verification files of every protocol are read, hostile ones are refused, and nothing of a file is ever run."""

import os
import pickle
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import torch
from conftest import copied, shared
from hypothesis import given, settings
from hypothesis import strategies as st

from facetx.backbones import BACKBONES
from facetx.data.formats.codec import encode_png
from facetx.data.lists.pairs import Pairs, write_pairs
from facetx.data.sets.bins import BinImages, write_bin
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS

FUZZ = settings(max_examples=80, deadline=None, derandomize=True)
CONTENT = [bytes(range(256)), b"a\n'\\ \"\\u1234\x00\x1a", "é".encode(), b"\xff\xd8"]


def read(path):
    data = BinImages(path)
    return [data.encoded(i) for i in range(len(data))], data.same.tolist()


@pytest.fixture
def bin_of(tmp_path):
    def make(data):
        path = tmp_path / "x.bin"
        path.write_bytes(data)
        return path

    return make


KINDS = {
    "bytes": bytes,
    "array": lambda b: np.frombuffer(b, np.uint8),
    "column": lambda b: np.frombuffer(b, np.uint8).copy().reshape(-1, 1),
    "bytearray": bytearray,
}


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [(kind, p) for kind in KINDS for p in range(6) if kind != "bytearray" or p == 5],  # it is data only from 5 on
)
def test_every_protocol_of_python_3(bin_of, kind, protocol):
    for top in (tuple, list):
        path = bin_of(pickle.dumps(top(([KINDS[kind](b) for b in CONTENT], [True, False])), protocol=protocol))
        assert read(path) == (CONTENT, [True, False])


def test_python_2(bin_of):
    """As Python 2.7 writes (['a\\n\\xff', "it's"], [True]): protocol 0 in text, 2 in bytes."""
    assert read(bin_of(b"((lp0\nS'a\\n\\xff'\np1\naS\"it's\"\np2\na(lp3\nI01\natp4\n.")) == (
        [b"a\n\xff", b"it's"],
        [True],
    )
    assert read(bin_of(b"\x80\x02]q\x00(U\x03a\n\xffq\x01U\x04it'sq\x02e]q\x03\x88a\x86q\x04.")) == (
        [b"a\n\xff", b"it's"],
        [True],
    )
    long = b"T" + struct.pack("<I", 300) + b"z" * 300
    assert read(bin_of(b"\x80\x02](" + long + long + b"e]\x89a\x86.")) == ([b"z" * 300] * 2, [False])


def test_the_official_sample():
    data = BinImages(shared("data/insightface/small_lfw.bin"))
    assert len(data) == 20
    assert data.same.all()
    assert data[19]["image"].shape == (112, 112, 3)
    with pytest.raises(DataError, match="10 pairs of one person and 0 of two"):
        EVALUATORS["bin_pairs"](path=str(data.file.path))


def test_a_pickle_of_it_is_small_and_reads(tmp_path):
    write_bin(tmp_path / "a.bin", [os.urandom(100_000), encode_png(np.full((2, 2, 3), 7, np.uint8))], [True])
    data = BinImages(tmp_path / "a.bin")
    assert len(pickle.dumps(data)) < 5000
    assert int(copied(data)[1]["image"][0, 0, 0]) == 7


class Runs:
    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["whole", "image", "flag"])
def test_hostile_pickles_run_nothing(bin_of, tmp_path, protocol, place):
    target = tmp_path / "pwned"
    for evil in (
        Runs(os.system, f"touch {target}"),
        Runs(eval, f"open({str(target)!r}, 'w')"),
        Runs(os.mkdir, str(target)),
        Runs(np.fromfile, "/dev/zero"),
        Runs(np.load, str(target)),
    ):
        content = {"whole": evil, "image": ([evil, b""], [True]), "flag": ([b"", b""], [evil])}[place]
        with pytest.raises(DataError, match="which such a file has no use for; .* Nothing of it was run"):
            read(bin_of(pickle.dumps(content, protocol=protocol)))
        assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n(I99999999999\ntR.",  # the class itself is not called
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I99999999999\ntc__builtin__\nbytes\ntR.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zipt\x85R.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
        b"(i__main__\nX\n.",
        b"]\x94}b.",
        b"P1\n.",
        b"\x82\x01.",
        b"]" * 10 + b"\x81.",
        b"\x8b\xff\xff\xff\x7f.",
    ],
)
def test_other_instructions_are_refused(bin_of, data):
    with pytest.raises(DataError, match="Nothing of it was run"):
        read(bin_of(data))


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x",
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"]Nr\xff\xff\xff\xff" * 1000,
        b"\x80\x04" + b"]\x94" * 30_000,
        b"(" * 50_000,
        b"\x80\x02)" + b"\x85" * 50_000 + b".",
        b"I" + b"9" * 50_000 + b"\n.",
    ],
    ids=["length", "memo key", "memo", "marks", "nesting", "digits"],
)
def test_bombs_take_little_memory(bin_of, bomb):
    path = bin_of(bomb)
    tracemalloc.start()
    with pytest.raises(DataError):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


def test_an_announced_shape_takes_no_memory(bin_of):
    """The array says 10^12 elements and holds two bytes; it is the two bytes that are the image's file."""
    array = np.frombuffer(b"ab", np.uint8)
    data = pickle.dumps(([array, b""], [True]), protocol=3)
    data = data.replace(b"(K\x01K\x02\x85", b"(K\x01\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85")
    assert b"\x8a\x06" in data
    assert read(bin_of(data))[0][0] == b"ab"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "expected a pair of lists"),
        (([], []), "0 images do not make 0 pairs"),
        (([b""], [True]), "1 images do not make 1 pairs"),
        (([b"", b""], [2]), "pair 1: expected true or false, found a int"),
        (([b"", b""], [None]), "pair 1: expected true or false, found a NoneType"),
        (([b"", None], [True]), r"image 2 \(pair 1\): expected bytes or an array of uint8, found NoneType"),
        (([b"", np.zeros(2)], [True]), r"image 2 \(pair 1\): expected bytes or an array of uint8, found Array"),
    ],
)
def test_other_content_is_named(bin_of, content, words):
    with pytest.raises(DataError, match=words):
        read(bin_of(pickle.dumps(content, protocol=4)))


def test_truncation_at_every_byte(tmp_path):
    arrays = [np.frombuffer(b, np.uint8) for b in CONTENT[1:3]]
    for data in (pickle.dumps((arrays, [True]), p) for p in (0, 2, 4, 5)):
        for cut in range(len(data)):
            (tmp_path / "a.bin").write_bytes(data[:cut])
            with pytest.raises(DataError, match="a.bin"):
                read(tmp_path / "a.bin")


@FUZZ
@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.booleans()), min_size=1, max_size=6))
def test_round_trip(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("bin") / "a.bin"
    images = [image for pair in pairs for image in pair[:2]]
    write_bin(path, images, [p[2] for p in pairs])
    assert read(path) == (images, [p[2] for p in pairs])
    with open(path, "rb") as file:
        assert pickle.load(file) == (images, [p[2] for p in pairs])  # as others read it


@FUZZ
@given(st.data())
def test_damaged_bytes_give_a_data_error_or_a_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bin") / "a.bin"
    kind = data.draw(st.sampled_from([bytes, lambda b: np.frombuffer(b, np.uint8)]))
    content = bytearray(pickle.dumps(([kind(b) for b in CONTENT], [True, False]), data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        faces = BinImages(path)
    except DataError:
        return
    for i in range(len(faces)):
        with pytest.raises(DataError):  # none of the content is an image
            faces[i]


@FUZZ
@given(
    st.lists(
        st.sampled_from([bytes([b]) for b in range(256)] + [b"\n", b"0", b"]", b"(", b"\x88", b"U\x01x"]), max_size=60
    )
)
def test_any_bytes_give_a_data_error_or_a_read(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("bin") / "a.bin"
    path.write_bytes(b"\x80\x04" + b"".join(pieces) + b".")
    with suppress(DataError):
        read(path)


def test_lfw_from_images_and_from_a_bin_give_the_same_number(faces, tmp_path):
    from facetx.prepare.convert import convert
    from facetx.prepare.sources import open_source

    images = tmp_path / "lfw"
    for folder in sorted(faces.iterdir()):
        (images / folder.name).mkdir(parents=True)
        for i, file in enumerate(sorted(folder.iterdir()), start=1):
            (images / folder.name / f"{folder.name}_{i:04d}.png").write_bytes(file.read_bytes())

    def key(person, image):
        return f"person_{person}/person_{person}_{image:04d}"

    first, second, same = [], [], []
    for fold in range(2):
        people = range(3 * fold, 3 * fold + 3)
        first += [key(p, i) for p in people for i in (1, 3)] + [key(p, i) for p in people for i in (1, 2)]
        second += [key(p, i) for p in people for i in (2, 4)]
        second += [key(people[(p - people[0] + 1) % 3], i) for p in people for i in (3, 5)]
        same += [True] * 6 + [False] * 6
    write_pairs(tmp_path / "pairs.txt", Pairs(first, second, np.array(same), np.repeat([0, 1], 12)))
    convert(open_source(images), tmp_path / "lfw.bin", pairs=tmp_path / "pairs.txt")

    torch.manual_seed(1)
    backbone = BACKBONES["vit_p8s8_tiny"](image_size=32, dim=16, depth=1, heads=2, head_dim=8, mlp_dim=32)
    by_images = EVALUATORS["lfw"](images=str(images), pairs=str(tmp_path / "pairs.txt")).result(backbone)
    by_bin = EVALUATORS["bin_pairs"](path=str(tmp_path / "lfw.bin"), folds=2).result(backbone)
    assert by_bin.summary()["accuracy"] == by_images.summary()["accuracy"] > 0.5
    np.testing.assert_allclose(by_bin.scores, by_images.scores, rtol=0, atol=1e-6)
