"""Packed sets: what comes back, what a kill leaves, and what damage says."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from conftest import copied
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from facetx.data import DATASETS, TRANSFORMS
from facetx.data.cache import Cached
from facetx.data.loader import TrainingItems
from facetx.data.sample import check, collate
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.packed import Packed, PackWriter
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
POINTS = RNG.random((6, 5, 2)).astype(np.float32)
LABELS = [2, 0, 2, 3, 0, 2]


def pack(path, points=True, stop=6):
    writer = PackWriter(path, (4, 5), "test")
    for i in range(writer.handled, stop):
        if i == 3:
            writer.drop("d/3", "damaged")
        else:
            writer.add(f"p/{i}", LABELS[i], IMAGES[i], POINTS[i] if points else None)
    return writer


@pytest.fixture
def folder(tmp_path):
    pack(tmp_path / "set").finish(["a", "b", "c", "d"])
    return tmp_path / "set"


def test_round_trip(tmp_path):
    writer = pack(tmp_path / "set")
    assert writer.dropped() == {"d/3": "damaged"}
    writer.finish(["a", "b", "c", "d"])
    data = DATASETS["packed"](path=str(tmp_path / "set"))
    assert data.labels.tolist() == [1, 0, 1, 0, 1]
    assert data.identities == ["a", "c"]
    assert data.num_classes == 2
    assert data.names() == ["p/0", "p/1", "p/2", "p/4", "p/5"]
    for i, original in enumerate([0, 1, 2, 4, 5]):
        assert np.array_equal(data[i]["image"], IMAGES[original])
        assert np.array_equal(data[i]["keypoints"], POINTS[original])
    assert "image 3 (p/4)" in data.describe(3)
    assert data[0]["image"].flags.writeable
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_numpy_reads_the_arrays(folder):
    assert np.array_equal(np.load(folder / "images.npy"), IMAGES[[0, 1, 2, 4, 5]])
    assert np.load(folder / "labels.npy").tolist() == [1, 0, 1, 0, 1]


def test_keypoints_of_all_or_none(tmp_path):
    writer = PackWriter(tmp_path / "set", (4, 5), "test")
    writer.add("a", 0, IMAGES[0], POINTS[0])
    writer.add("b", 1, IMAGES[1])
    writer.finish(["x", "y"])
    assert "keypoints" not in Packed(tmp_path / "set")[0]


def test_keypoints_that_are_no_numbers_are_told(folder):
    points = np.load(folder / "keypoints.npy", mmap_mode="r+")
    points[1, 2, 0] = np.nan
    points.flush()
    with pytest.raises(DataError, match=r"^keypoints that are not finite: .*set, image 1 \(p/1\); pack the set anew"):
        Packed(str(folder))


def test_every_field_is_packed_and_resized_with_the_image(tmp_path):
    faces = SyntheticFaces(2, 3, size=32)
    writer = PackWriter(tmp_path / "set", (32, 32), "test", faces.attribute_names, faces.mask_classes)
    for i in range(len(faces)):
        writer.add(faces.key(i), *(faces[i][name] for name in ("label", "image", "keypoints", "attributes", "mask")))
    writer.finish(list(faces.identities))
    data = Packed(str(tmp_path / "set"))
    assert data.description() == faces.description()
    for i in range(len(faces)):
        check(data[i], lambda: "here")
        for name, value in faces[i].items():
            np.testing.assert_array_equal(data[i][name], value, err_msg=name)
    small, expected = Packed(str(tmp_path / "set"), size=16)[4], TRANSFORMS.create("resize", size=16)(faces[4], None)
    for name, value in expected.items():
        np.testing.assert_array_equal(small[name], value, err_msg=name)


def test_names_of_any_bytes_come_back(tmp_path):
    names = ["a/two\nlines.png", "a/back\\nslash.png", os.fsdecode(b"a/\xff\xfe.png"), f"b/{'x' * 250}", "b/é", "b/c"]
    writer = PackWriter(tmp_path / "set", (4, 5), "test")
    for name, image in zip(names, IMAGES):
        writer.add(name, 0, image)
    writer.finish(["a"])
    data = Packed(str(tmp_path / "set"))
    assert data.names() == names
    assert [data.key(i) for i in range(6)] == names
    # Packs of earlier versions have no escapes: what stands there is meant.
    index = json.loads((tmp_path / "set/index.json").read_text())
    del index["escaped_names"], index["attributes"], index["mask_classes"]
    (tmp_path / "set/index.json").write_text(json.dumps(index))
    assert Packed(str(tmp_path / "set")).names()[1] == "a/back\\\\nslash.png"


def test_what_is_not_square_is_not_squashed(folder):
    with pytest.raises(DataError, match="images of 5x4 pixels would be squashed to 7x7"):
        Packed(folder, size=7)


def test_pickled_and_read_by_workers(folder):
    data = Packed(folder)
    _ = data[0]
    assert len(pickle.dumps(data)) < 3000
    assert np.array_equal(copied(data)[4]["image"], IMAGES[5])
    loader = DataLoader(data, batch_size=1, num_workers=2, multiprocessing_context="fork")
    assert [int(b["image"].sum()) for b in loader] == [int(IMAGES[i].sum()) for i in (0, 1, 2, 4, 5)]


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("lose", [0, 1, 61, 1000])
def test_a_pack_that_was_killed_goes_on(tmp_path, stop, lose):
    """Whatever of the last writes reached the disk: rows and journal lines are brought to one number."""
    writer = pack(tmp_path / "set", stop=stop)
    writer.flush()
    draft = tmp_path / "set.part"
    images = (draft / "images.npy").read_bytes()
    (draft / "images.npy").write_bytes(images[: max(128, len(images) - lose)])
    with open(draft / "journal", "a") as journal:
        journal.write('["half a li')
    again = pack(tmp_path / "set")
    assert again.handled == (stop if lose == 0 else again.handled) <= stop
    assert again.dropped() == {"d/3": "damaged"}
    again.finish(["a", "b", "c", "d"])
    data = Packed(tmp_path / "set")
    assert all(np.array_equal(data[i]["image"], IMAGES[o]) for i, o in enumerate([0, 1, 2, 4, 5]))
    assert data.labels.tolist() == [1, 0, 1, 0, 1]


def test_a_draft_of_another_source_is_begun_anew(tmp_path):
    pack(tmp_path / "set").flush()
    assert PackWriter(tmp_path / "set", (4, 5), "another").handled == 0
    writer = PackWriter(tmp_path / "other", (4, 5), "test")
    writer.drop("a", "why")
    with pytest.raises(DataError, match="no image is left"):
        writer.finish(["a"])


def test_an_existing_folder_is_left_alone(folder):
    with pytest.raises(DataError, match="exists; name another folder"):
        PackWriter(folder, (4, 5), "test")


def test_missing(tmp_path):
    with pytest.raises(DataError, match="expected the folder of a packed set"):
        Packed(tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "keypoints.npy"])
def test_truncation_at_every_byte(folder, name):
    whole = (folder / name).read_bytes()
    for cut in range(len(whole)):
        (folder / name).write_bytes(whole[:cut])
        with pytest.raises(DataError, match=f"{name}: is not the array"):
            Packed(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**9},
        {"count": -1},
        {"count": 4},
        {"height": "4"},
        {"width": 10**6},
        {"identities": ["a"]},
        {"format": 2},
    ],
)
def test_an_index_that_does_not_fit(folder, change):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(DataError, match="pack the set anew"):
        Packed(folder)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bytes_give_a_data_error_or_a_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("pack") / "set"
    pack(folder).finish(["a", "b", "c", "d"])
    broken = folder / data.draw(
        st.sampled_from(["index.json", "images.npy", "labels.npy", "keypoints.npy", "names.txt"])
    )
    content = bytearray(broken.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        faces = Packed(folder)
        faces.names()
        assert [faces[i]["image"].shape for i in range(5)] == [(4, 5, 3)] * 5
    except DataError:
        pass


@pytest.mark.parametrize("on_device", [False, True])
def test_a_batch_is_read_at_once_and_is_that_of_its_items(tmp_path, on_device):
    rng = np.random.default_rng(0)
    writer = PackWriter(tmp_path / "set", (16, 16), "drawn", ["smile"], ["skin", "hair"])
    for i in range(12):
        values = {
            "keypoints": rng.random((5, 2)),
            "attributes": rng.integers(0, 2, 1),
            "mask": rng.integers(0, 2, (16, 16)),
        }
        mask = values.pop("mask").astype(np.uint8)
        writer.add(f"p/{i}", i % 3, rng.integers(0, 256, (16, 16, 3), np.uint8), mask=mask, **values)
    writer.finish(["a", "b", "c"])
    packed = Packed(str(tmp_path / "set"))
    changes = [TRANSFORMS.create("flip"), TRANSFORMS.create("cutout")] if on_device else []
    items = TrainingItems(packed, changes, seed=1, image_size=16, draw_only=on_device)
    keys = [(2, i) for i in (7, 3, 11, 3)]
    at_once = items.__getitems__(keys)
    assert isinstance(at_once, dict)
    ours, theirs = collate(at_once), collate([items[key] for key in keys])
    assert ours.keys() == theirs.keys()
    assert ours.pop("unreadable") == theirs.pop("unreadable") == {}
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name
    worn = TrainingItems(packed, [TRANSFORMS.create("flip")], seed=1, image_size=16)
    assert isinstance(worn.__getitems__(keys), list)  # a worker makes each
    assert Packed(str(tmp_path / "set"), size=8).many(np.array([1])) is None
    with pytest.raises(DataError, match="16x16 pixels, but the model takes 8x8"):
        TrainingItems(packed, [], seed=1, image_size=8).__getitems__(keys)


def test_a_cache_is_read_at_once_too_when_it_is_full(faces):
    cached = Cached(ImageFolder(str(faces)), shared=False)
    assert cached.many(np.array([2, 1])) is None
    whole = [cached[i] for i in range(len(cached))]
    found = cached.many(np.array([2, 1]))
    assert np.array_equal(found["image"], [whole[2]["image"], whole[1]["image"]])
    assert found["label"].tolist() == [whole[2]["label"], whole[1]["label"]]
