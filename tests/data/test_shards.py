"""WebDataset shards by Python's own tar writer, and the Hugging Face extra."""

import io
import sys
import tarfile

import numpy as np
import pytest
from conftest import copied
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from facetx.data import DATASETS
from facetx.data.formats.codec import encode_png
from facetx.data.sets.shards import Shards, shard_files
from facetx.errors import DataError


def png(value):
    return encode_png(np.full((2, 2, 3), value, np.uint8))


def write(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    write(tmp_path / "s-00.tar", [("a/1.png", png(1)), ("a/1.cls", b"7"), ("a/2.cls", b"5"), ("a/2.PNG", png(2))])
    write(tmp_path / "s-01.tar", [("b.seg.png", png(0)), ("b.png", png(3)), ("b.json", b'{"label": 7, "x": [1]}')])
    return tmp_path


@pytest.mark.parametrize("pattern", ["s-{00..01}.tar", "s-*.tar"])
def test_samples_of_all_shards(shards, pattern):
    data = DATASETS["webdataset"](path=f"{shards}/{pattern}")
    assert data.labels.tolist() == [1, 0, 1]
    assert data.stored.tolist() == [5, 7]
    assert [int(data[i]["image"][0, 0, 0]) for i in range(3)] == [1, 2, 3]
    assert data.describe(1).endswith("s-00.tar, a/2")
    assert int(copied(data)[2]["image"][0, 0, 0]) == 3
    loader = DataLoader(data, batch_size=1, num_workers=2, multiprocessing_context="fork")
    assert [int(batch["image"][0, 0, 0, 0]) for batch in loader] == [1, 2, 3]


def test_what_a_system_left_among_the_samples_is_no_sample(tmp_path):
    files = [("./._a.png", b"x"), ("./a.png", png(1)), ("a.cls", b"7"), ("__MACOSX/b.png", b"x"), (".DS_Store", b"x")]
    data = Shards(str(write(tmp_path / "s.tar", [(name.removeprefix("./"), content) for name, content in files])))
    assert len(data) == 1
    assert Shards(str(write(tmp_path / "t.tar", [("./a.png", png(1)), ("./a.cls", b"7")])))[0]["label"] == 0


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (b"9" * 2**20, "a header announces 1048576 bytes; at most 8192 are read"),
        (b"9" * 4000, "a header has a number of more than 256 digits"),
    ],
)
def test_attributes_that_python_reads_for_minutes_are_refused(tmp_path, attributes, words):
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, len(attributes)
    (tmp_path / "a.tar").write_bytes(
        head.tobuf(tarfile.USTAR_FORMAT) + attributes.ljust(-(-len(attributes) // 512) * 512, b"\0")
        + write(tmp_path / "b.tar", [("a.png", png(1)), ("a.cls", b"7")]).read_bytes()
    )  # fmt: skip
    with pytest.raises(DataError, match=f"a.tar: no tar file, or damaged .{words}"):
        Shards(str(tmp_path / "a.tar"))


def test_long_names_are_read(tmp_path):
    long = "/".join(["d" * 100] * 39)
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
            for name, data in ((f"{long}/a.png", png(1)), (f"{long}/a.cls", b"7")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        assert Shards(str(tmp_path / "a.tar")).describe(0).endswith(f"{long}/a")


def test_names_of_shards():
    assert shard_files("x/{08..11}.tar") == ["x/08.tar", "x/09.tar", "x/10.tar", "x/11.tar"]
    assert len(shard_files("{0..1}-{000..002}.tar")) == 6
    with pytest.raises(DataError, match="names -4 shards"):
        shard_files("{9..4}.tar")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a.cls", b"1")], "a: expected one image, found the files cls"),
        ([("a.png", b""), ("a.jpg", b"")], "a: expected one image, found the files png, jpg"),
        (
            [("a.png", b"")],
            "a: no identity; expected a whole number or a name in .cls, or under 'label' in .json, found",
        ),
        ([("a.png", b""), ("a.cls", b"")], "a: no identity"),
        ([("a.png", b""), ("a.cls", b"x" * 201)], "a: no identity"),
        ([("a.png", b""), ("a.cls", b"true")], "a: no identity"),
        ([("a.png", b""), ("a.json", b'{"label": 1.5}')], "a: no identity"),
        ([("a.png", b""), ("a.json", b"7")], "a: no identity"),
        ([("a.png", b""), ("a.json", b'{"identity": 7}')], "a: no identity"),
        ([], "holds no samples"),
    ],
)
def test_bad_samples(tmp_path, files, words):
    with pytest.raises(DataError, match=words):
        Shards(str(write(tmp_path / "a.tar", files)))


@pytest.mark.parametrize(
    ("label", "files", "identities"),
    [
        (None, {"cls": [b"Ann Lee\n", b"Bo"]}, ["Ann Lee", "Bo"]),
        (None, {"cls": [b"10", b"9"]}, [9, 10]),
        (None, {"cls": [b"10", b"Bo"]}, ["10", "Bo"]),
        (None, {"json": [b'{"label": "7"}', b'{"label": "5"}']}, ["5", "7"]),
        ("identity", {"json": [b'{"identity": 7, "label": 1}', b'{"identity": 5, "label": 1}']}, [5, 7]),
        ("id.cls", {"id.cls": [b"2", b"1"], "cls": [b"0", b"0"]}, [1, 2]),
        ("txt", {"txt": [b"b", b"a"], "cls": [b"0", b"0"]}, ["a", "b"]),
    ],
)
def test_identities_of_other_places_and_kinds(tmp_path, label, files, identities):
    samples = [
        (f"{i}.{suffix}", texts[i]) for i in range(2) for suffix, texts in [("png", [png(0)] * 2), *files.items()]
    ]
    data = DATASETS["webdataset"](path=str(write(tmp_path / "a.tar", samples)), label=label)
    assert data.stored.tolist() == identities
    assert sorted(data.labels.tolist()) == [0, 1]
    first = next(iter(files.values()))[0]
    assert str(data.identities[data.labels[0]]) in first.decode()


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"a.tar: is compressed, .*unpack it \(gzip -d\)"):
        Shards(str(write(tmp_path / "a.tar", [("a.png", png(0))], "w:gz")))
    with pytest.raises(DataError, match="b.tar: no such file"):
        Shards(str(tmp_path / "b.tar"))
    with pytest.raises(DataError, match="names no file"):
        Shards(str(tmp_path / "b*.tar"))


def test_a_member_of_negative_size_does_not_come_for_ever(tmp_path):
    path = write(tmp_path / "a.tar", [("a.png", b""), ("a.cls", b"")])
    content = bytearray(path.read_bytes())
    content[512 + 124 : 512 + 136] = (-512).to_bytes(12, "big", signed=True)
    content[512 + 148 : 512 + 156] = b" " * 8
    content[512 + 148 : 512 + 156] = b"%06o\0 " % sum(content[512:1024])
    path.write_bytes(content)
    with pytest.raises(DataError, match="no tar file, or damaged"):
        Shards(str(path))


def test_attributes_of_the_archive_take_no_memory_for_each_file(tmp_path):
    attributes = {f"a{i}": "" for i in range(1000)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=attributes) as tar:
        for i in range(100):
            tar.addfile(tarfile.TarInfo(f"{i}.png"))
    with pytest.raises(DataError, match="the archive has 1000 attributes"):
        Shards(str(tmp_path / "a.tar"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bytes_give_a_data_error_or_a_read(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("tar") / "a.tar", [("a.png", png(1)), ("a.cls", b"7"), ("b.cls", b"5")])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 2 * 512 * 3 - 1))
        content[at] = data.draw(st.sampled_from([0, 0x20, 0x2D, 0x31, 0x37, 0x53, 0x78, 0x80, 0xFF]))
        if data.draw(st.booleans()):  # with a header that checks out
            head = at // 512 * 512
            content[head + 148 : head + 156] = b" " * 8
            content[head + 148 : head + 156] = b"%06o\0 " % sum(content[head : head + 512])
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = Shards(str(path))
        for i in range(len(found)):
            found[i]
    except DataError:
        pass


def test_hugging_face_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'facetx\[hf\]'"):
        DATASETS["hugging_face"](path=str(tmp_path))


def test_hugging_face_folders(tmp_path, monkeypatch):
    """Parquet as the hub has it, and what ``save_to_disk`` writes."""
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = pyarrow.table({"image": [{"bytes": png(i), "path": None} for i in range(3)], "label": ["y", "x", "y"]})
    (tmp_path / "hub").mkdir()
    parquet.write_table(table, tmp_path / "hub/train-00000-of-00001.parquet")
    datasets.load_dataset(str(tmp_path / "hub")).save_to_disk(str(tmp_path / "saved"))
    for folder in ("hub", "saved"):
        data = DATASETS["hugging_face"](path=str(tmp_path / folder))
        assert data.labels.tolist() == [1, 0, 1]
        assert data.identities == ["x", "y"]
        assert [int(data[i]["image"][0, 0, 0]) for i in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="has no split 'val'; there are train"):
            DATASETS["hugging_face"](path=str(tmp_path / folder), split="val")
        with pytest.raises(DataError, match="has no column 'who'; there are image, label"):
            DATASETS["hugging_face"](path=str(tmp_path / folder), label="who")
        with pytest.raises(DataError, match="the column 'image' holds .*, no whole numbers and no names"):
            DATASETS["hugging_face"](path=str(tmp_path / folder), label="image")
    table = pyarrow.table({"image": [{"bytes": png(0), "path": None}, None], "label": [1, 2], "who": [1, None]})
    parquet.write_table(table, tmp_path / "hub/train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="row 1: has no image"):
        DATASETS["hugging_face"](path=str(tmp_path / "hub"))[1]
    with pytest.raises(DataError, match="row 1: the column 'who' holds None, no whole number and no name"):
        DATASETS["hugging_face"](path=str(tmp_path / "hub"), label="who")
    with pytest.raises(DataError, match="the column 'label' holds no images"):
        DATASETS["hugging_face"](path=str(tmp_path / "hub"), image="label")


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
def test_hugging_face_folders_fetch_nothing(tmp_path, monkeypatch, card):
    datasets = pytest.importorskip("datasets", reason="needs the extra hf")
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a server is asked for"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    elsewhere = "configs:\n- config_name: default\n  data_files: https://example.org/faces.parquet\n"
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / card).write_text(f"---\n{elsewhere}---\n" if card == "README.md" else elsewhere)
    with pytest.raises(DataError, match=r"hub: its description names files elsewhere \(https://example.org/faces"):
        DATASETS["hugging_face"](path=str(tmp_path / "hub"))
    assert not datasets.config.HF_HUB_OFFLINE
