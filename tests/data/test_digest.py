"""Whether data sets are told apart, and what two of them share, by names and sizes alone."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from facetx.data.cache import Cached
from facetx.data.digest import Overlap, changes, overlap
from facetx.data.formats.codec import encode_png
from facetx.data.lists.image_lists import write_list
from facetx.data.sets.folder import ImageFiles, ImageFolder
from facetx.data.sets.image_list import ImageList
from facetx.data.sets.packed import Packed, PackWriter
from facetx.data.sets.records import RecordFaces, write_faces
from facetx.data.synthetic.faces import SyntheticFaces


@pytest.fixture
def root(faces, tmp_path):
    shutil.copytree(faces, tmp_path / "faces")
    return tmp_path / "faces"


def digest(root):
    found = ImageFolder(str(root)).digest()
    assert json.loads(json.dumps(found)) == found
    return found


def test_a_moved_copy_is_the_same(faces, root):
    assert digest(faces) == digest(root)
    assert changes(digest(faces), digest(root)) == []
    assert Cached(ImageFolder(str(root))).digest() == digest(root)


def another_person(root):
    shutil.copytree(root / "person_0", root / "person_9")


def renamed(root):
    (root / "person_1").rename(root / "someone")


def regrouped(root):
    (root / "person_0/4.png").rename(root / "person_1/4b.png")


def redrawn(root):
    Image.new("RGB", (32, 32)).save(root / "person_3/2.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another_person, ["images: 30, now 35", "identities: 6, now 7", "the identities' names changed"]),
        (renamed, ["the identities' names changed", "the images' names changed"]),
        (regrouped, ["which image is whose changed", "the images' names changed"]),
        (redrawn, ["the sizes of the image files changed"]),
    ],
)
def test_what_has_changed_is_told(root, change, words):
    before = digest(root)
    change(root)
    assert set(words) <= set(changes(before, digest(root)))


def test_other_kinds_tell_their_changes(faces, tmp_path):
    digests = [SyntheticFaces(3, 4, **more).digest() for more in ({}, {"seed": 1}, {"first_image": 1}, {"size": 64})]
    assert digests[0] == digests[3] != digests[1] != digests[2] != digests[0]
    packs = [pack(faces, tmp_path / name, stop).digest() for name, stop in (("a", 30), ("b", 30), ("c", 29))]
    assert packs[0] == packs[1] != packs[2]
    records = [record(tmp_path / name, seed).digest() for name, seed in (("a.rec", 0), ("b.rec", 0), ("c.rec", 1))]
    assert records[0] == records[1]
    assert changes(records[0], records[2]) == ["the sizes of the image files changed"]


def pack(faces, path, stop=30):
    data = ImageFolder(str(faces))
    writer = PackWriter(path, (32, 32), "test")
    for i in range(stop):
        writer.add(data.key(i), int(data.labels[i]), data[i]["image"])
    writer.finish(list(data.identities))
    return Packed(str(path))


def record(path, seed):
    rng = np.random.default_rng(seed)
    images = [encode_png(rng.integers(0, 256, (8 + i, 8, 3), np.uint8)[: 8 + i * seed]) for i in range(6)]
    write_faces(path, np.arange(6) // 2, [f"x/{i}" for i in range(6)], images.__getitem__, (8, 8))
    return RecordFaces(str(path))


def test_parts_of_one_folder_share_nobody_and_defaults_share_everybody(root):
    train, val = (ImageFolder(str(root), part, val_identities=0.5) for part in ("train", "val"))
    assert not overlap(train, val)
    everybody = overlap(train, ImageFolder(str(root)))
    assert everybody.identities == train.num_classes
    assert everybody.images == len(train)
    assert everybody.examples == tuple(sorted(train.key(i) for i in range(3)))
    assert str(everybody).startswith(f"{train.num_classes} identities and {len(train)} images ({train.key(0)}, ")


def test_images_held_out_of_the_same_people_are_no_shared_images(root):
    train, test = (ImageFolder(str(root), images=images) for images in ("train", "test"))
    found = overlap(train, test)
    assert (found.identities, found.images) == (6, 0)
    assert found.examples == ("person_0", "person_1", "person_2")


def test_copies_are_known_by_name_and_size_whatever_they_are_read_as(faces, root, tmp_path):
    for path in ("person_0", "person_1", "person_2", "person_3"):
        shutil.rmtree(root / path)
    Image.new("RGB", (32, 32)).save(root / "person_5/0.png")  # of this name, and another picture
    whole, copy = ImageFolder(str(faces)), ImageFolder(str(root))
    expected = Overlap(2, 9, ("person_4/0.png", "person_4/1.png", "person_4/2.png"))
    assert overlap(whole, copy) == overlap(copy, whole) == expected
    files = ImageFiles(list(copy.paths), "files")
    assert overlap(whole, files) == overlap(Cached(whole), files) == expected
    write_list(tmp_path / "l.txt", [os.path.relpath(path, root) for path in copy.paths], copy.labels.tolist())
    assert overlap(ImageList(str(tmp_path / "l.txt"), str(root)), whole) == expected
    assert overlap(pack(faces, tmp_path / "pack"), whole).images == 30


def test_numbers_of_two_sets_are_not_compared(tmp_path):
    first, second = record(tmp_path / "a.rec", 0), record(tmp_path / "b.rec", 0)
    assert list(first.identities) == list(second.identities)
    assert not overlap(first, second)
    assert overlap(first, RecordFaces(str(tmp_path / "a.rec"))) == Overlap(3, 6, ("0", "1", "2"))
    lists = []
    for n, person in enumerate("ab"):
        Image.effect_noise((8, 8), 50).convert("RGB").save(tmp_path / f"{person}.png")
        write_list(tmp_path / f"{n}.txt", [f"{person}.png"], [0])
        lists.append(ImageList(str(tmp_path / f"{n}.txt")))
    assert not overlap(*lists)


def test_folders_of_digits_are_the_same_only_where_their_bytes_are(tmp_path):
    rng = np.random.default_rng(0)
    image = encode_png(rng.integers(0, 256, (8, 8, 3), np.uint8))
    other = bytes(reversed(image))
    for set_name, content in (("casia", image), ("ms1m", other), ("copy", image)):
        for name in ("0000045/001.png", "0000046/001.png"):
            (tmp_path / set_name / name).parent.mkdir(parents=True)
            (tmp_path / set_name / name).write_bytes(content)
    casia, ms1m, copy = (ImageFolder(str(tmp_path / name)) for name in ("casia", "ms1m", "copy"))
    assert not overlap(casia, ms1m)
    assert overlap(casia, copy) == Overlap(2, 2, ("0000045/001.png", "0000046/001.png"))


def test_synthetic_people_are_told_apart_by_their_numbers():
    train = SyntheticFaces(10, 4)
    assert not overlap(train, SyntheticFaces(5, 4, first_identity=10))
    assert not overlap(train, SyntheticFaces(5, 4, seed=1))
    assert overlap(train, SyntheticFaces(5, 4, first_identity=8)) == Overlap(2, 8, ("0:8/0", "0:8/1", "0:8/2"))
    assert overlap(train, SyntheticFaces(10, 2, first_image=4)) == Overlap(10, 0, ("0:0", "0:1", "0:2"))
