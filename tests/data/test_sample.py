"""The fields of a sample: one map moves all of them, a mirror names sides anew, and nothing passes unknown."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facetx.data import TRANSFORMS, Description, FaceDataset, Geometric
from facetx.data.cache import Cached
from facetx.data.formats.codec import decode_image, image_size, is_turned, resize
from facetx.data.loader import TrainingItems
from facetx.data.sample import Map, Sides, check, collate, move_image, moved
from facetx.data.sets.folder import ImageFolder
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.data.transforms import mirror
from facetx.errors import DataError

CLASSES = ("background", "left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
DATA = Description(3, ("Male", "Scar_Left", "Scar_Right"), CLASSES)
SIDES = Sides.of(DATA)
GEOMETRIC = {
    "flip": {"p": 1.0},
    "shift": {"pixels": 5},
    "affine": {"degrees": 25.0, "scale": (0.8, 1.25), "translate": 0.1},
    "random_crop": {"size": 40},
    "center_crop": {"size": 40},
    "resize": {"size": 72},
}


def regions(points, height, width, radius):
    """A mask (H, W) with a disc of class k + 1 around the k-th keypoint, in [0, 1]."""
    y, x = np.mgrid[:height, :width] + 0.5
    mask = np.zeros((height, width), np.uint8)
    for k, (px, py) in enumerate(points * [width, height]):
        mask[(x - px) ** 2 + (y - py) ** 2 <= radius**2] = k + 1
    return mask


def sample(seed=0, height=60, width=54, radius=4):
    rng = np.random.default_rng(seed)
    places = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.35, 0.75], [0.65, 0.75]])
    points = (places + rng.uniform(-0.04, 0.04, (5, 2))).astype(np.float32)
    return {
        "image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "label": 1,
        "keypoints": points,
        "attributes": np.array([1, 1, 0], np.float32),
        "mask": regions(points, height, width, radius),
        "place": (0, 4),
    }


def test_every_geometric_transform_is_tried_here():
    geometric = {name for name in TRANSFORMS if issubclass(TRANSFORMS[name], Geometric)}
    assert geometric == set(GEOMETRIC)


@given(st.sampled_from(sorted(GEOMETRIC)), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_regions_of_keypoints_still_lie_under_them(name, seed):
    before = sample(seed % 7)
    after = TRANSFORMS.create(name, **GEOMETRIC[name])(before, np.random.default_rng(seed), SIDES)
    height, width = after["mask"].shape
    assert after["image"].shape == (height, width, 3)
    for k, (x, y) in enumerate(after["keypoints"] * [width, height]):
        if 1 <= x < width - 1 and 1 <= y < height - 1:
            assert after["mask"][int(y), int(x)] == k + 1, f"keypoint {k} of {name}"
        found = np.argwhere(after["mask"] == k + 1) + 0.5  # rows, columns
        inside = 8 <= x < width - 8 and 8 <= y < height - 8
        if inside:  # the whole disc is seen: its middle is the keypoint, to a pixel
            assert np.abs(found.mean(axis=0) - [y, x]).max() <= 1, f"region {k} of {name}"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_mirror_twice_is_nothing_and_once_changes_sides(seed):
    before = sample(seed)
    once, twice = mirror(before, SIDES), mirror(mirror(before, SIDES), SIDES)
    for name in before:
        np.testing.assert_allclose(twice[name], before[name], atol=1e-6, err_msg=name)
    assert once["attributes"].tolist() == [1, 0, 1]
    assert np.array_equal(once["image"], before["image"][:, ::-1])
    left_eye = once["keypoints"][0]
    np.testing.assert_allclose(left_eye, before["keypoints"][1] * [-1, 1] + [1, 0], atol=1e-6)
    assert once["mask"][int(left_eye[1] * 60), int(left_eye[0] * 54)] == CLASSES.index("left_eye")
    assert before["attributes"].tolist() == [1, 1, 0], "the sample itself is left as it is"


def test_sides_are_found_by_names():
    celebamask = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "l_lip", "u_lip", "ear_r", "neck_l")
    assert Sides.of(Description(1, (), celebamask)).mask[:10].tolist() == [0, 1, 3, 2, 5, 4, 6, 7, 8, 9]
    assert Sides.of(DATA).mask[255] == 255


def test_a_moved_image_is_what_a_loop_over_pixels_gives():
    image = sample()["image"][:12, :10]
    change = Map(np.array([[0.9, -0.3, 2.2], [0.25, 1.1, -1.3]]), (12, 10), (11, 13))
    found = moved({"image": image}, change, SIDES)["image"]
    inverse = np.linalg.inv(np.vstack([change.matrix, [0, 0, 1]]))
    for row in range(11):
        for column in range(13):
            x, y, _ = inverse @ [column + 0.5, row + 0.5, 1]
            x, y = min(max(x - 0.5, 0), 9), min(max(y - 0.5, 0), 11)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, 9), min(y0 + 1, 11)
            fx, fy = x - x0, y - y0
            top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
            expected = top * (1 - fy) + (image[y1, x0] * (1 - fx) + image[y1, x1] * fx) * fy
            np.testing.assert_allclose(found[row, column].astype(float), expected, atol=1.01)  # Pillow cuts off


@given(st.integers(8, 260), st.integers(8, 260), st.integers(8, 240))
@settings(max_examples=60, deadline=None)
def test_a_resize_is_that_of_pillow_at_every_size(height, width, size):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = TRANSFORMS.create("resize", size=size)({"image": image}, np.random.default_rng(0))["image"]
    assert np.array_equal(found, resize(image, size))


def test_fields_that_are_not_known_or_not_as_they_should_be_are_named():
    with pytest.raises(DataError, match="here: gives the field 'age', which is not known; the fields are image, label"):
        check({**sample(), "age": 3}, lambda: "here")
    with pytest.raises(DataError, match=r"the field 'keypoints' must be float32 of shape \(5, 2\), it is .*\(3, 2\)"):
        check({**sample(), "keypoints": np.zeros((3, 2), np.float32)}, lambda: "here")
    with pytest.raises(DataError, match="the field 'image' must be uint8"):
        check({**sample(), "image": np.zeros((4, 4, 3))}, lambda: "here")
    check(sample(), lambda: "here")


def test_a_batch_has_every_field_that_is_asked_for_and_no_other():
    data = SyntheticFaces(2, 3, size=32)
    items = TrainingItems(data, [TRANSFORMS.create("flip")], 0, 32)
    batch = collate([items[1, i] for i in range(4)])
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in batch.items() if name != "unreadable"}
    assert shapes == {
        "image": ((4, 3, 32, 32), torch.uint8),
        "label": ((4,), torch.int64),
        "keypoints": ((4, 5, 2), torch.float32),
        "attributes": ((4, 28), torch.float32),
        "mask": ((4, 32, 32), torch.uint8),
        "place": ((4, 2), torch.int64),
    }
    assert batch["place"].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert batch["mask"].max() == 10
    few = TrainingItems(data, [], 0, 32, frozenset({"image", "mask"}))[0, 2]
    assert sorted(few) == ["image", "label", "mask", "place", "unreadable"]
    assert np.array_equal(few["mask"], data[2]["mask"])


def test_an_unknown_field_of_a_data_set_is_named_before_training():
    class Odd(SyntheticFaces):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "age": 3}

    with pytest.raises(DataError, match=r"synthetic\(2 x 2\), item 0: gives the field 'age'"):
        TrainingItems(Odd(2, 2, size=32), [], 0, 32)[0, 0]


@pytest.mark.parametrize("shared", [True, False])
def test_a_cache_keeps_every_field_and_asks_only_for_some(shared):
    data = SyntheticFaces(2, 3, size=32)
    cached = Cached(data, shared=shared)
    for _ in range(2):
        for i in range(len(data)):
            for name, value in data[i].items():
                np.testing.assert_array_equal(cached[i][name], value, err_msg=name)
    assert sorted(Cached(data, frozenset({"image", "keypoints"}), shared)[0]) == ["image", "keypoints", "label"]
    assert cached.description() == data.description()
    assert cached.key(4) == data.key(4) == "0:1/1"


class Broken(FaceDataset):
    name, labels, num_classes = "broken", np.zeros(3, np.int64), 1

    def __init__(self, whole):
        self.whole = whole

    def __getitem__(self, index):
        if index not in self.whole:
            raise DataError(f"image {index} is damaged")
        return {"image": np.full((4, 4, 3), index, np.uint8), "label": 0}

    def describe(self, index):
        return f"broken/{index}.png"


def test_a_cache_begins_with_the_first_item_that_can_be_read():
    cached = Cached(Broken({1, 2}))
    assert cached[2]["image"].max() == 2
    with pytest.raises(DataError, match="image 0 is damaged"):
        cached[0]
    with pytest.raises(DataError, match="broken: no item can be read; the first: image 0 is damaged"):
        Cached(Broken(set()))


def test_a_cache_that_has_no_room_says_so_before_it_is_filled(monkeypatch):
    class Room:
        f_bavail, f_frsize = 1, 64

    monkeypatch.setattr("facetx.data.workers.os.statvfs", lambda path: Room)
    with pytest.raises(DataError, match=r"a cache takes 0 MiB, and /dev/shm has 0 MiB left.*data\.workers: 0"):
        Cached(Broken({0, 1, 2}))
    Cached(Broken({0, 1, 2}), shared=False)


def jpeg(image, orientation=None):
    out, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(image).save(out, "JPEG", quality=100, subsampling=0, exif=exif)
    return out.getvalue()


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}
"""Tag -> how a camera that was held so stored the picture."""


@pytest.mark.parametrize("tag", TURNS)
def test_a_photo_is_turned_as_its_tag_says(tag, tmp_path):
    y, x = np.mgrid[:24, :16]
    upright = np.stack([10 * x, 10 * y, np.full_like(x, 90)], axis=2).astype(np.uint8)
    data = jpeg(np.ascontiguousarray(TURNS[tag](upright)), tag)
    found = decode_image(data, "here").astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).mean() < 3
    (tmp_path / "a.jpg").write_bytes(data)
    assert image_size(tmp_path / "a.jpg") == (16, 24)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the tag
def test_a_damaged_tag_spoils_no_picture():
    image = np.full((24, 16, 3), 90, np.uint8)
    whole = jpeg(image, 6)
    start = whole.index(b"Exif") + 6
    for at in range(start, start + 26):
        for value in (0, 255):
            damaged = whole[:at] + bytes([value]) + whole[at + 1 :]
            assert decode_image(damaged, "here").mean() == 90
    assert is_turned(whole)
    assert not is_turned(jpeg(image))
    assert not is_turned(b"no picture")


def test_junk_is_no_identity_and_what_is_left_out_is_said(faces, tmp_path, caplog):
    root = tmp_path / "faces"
    picture = (faces / "person_0/0.png").read_bytes()
    for name in (
        "anna/1.png", "anna/2.jfif", "anna/._1.png", "anna/notes.txt", "anna/deeper/3.png", "bob/1.png",
        ".ipynb_checkpoints/1.png", ".thumbnails/1.png", "@eaDir/1.png", "__MACOSX/1.png", "empty/Thumbs.db",
        "loose.png",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture)
    data = ImageFolder(str(root))
    assert data.identities == ["anna", "bob"]
    assert [path.name for path in data.paths] == ["1.png", "2.jfif", "1.png"]
    (record,) = caplog.records
    words = record.getMessage()
    assert "1 not one of .bmp, .jfif, .jpeg, .jpg, .pbm, .pgm, .png, .ppm, .tif, .tiff, .webp (anna/notes.txt)" in words
    assert "1 a folder inside an identity's (anna/deeper)" in words
    assert "1 without an image (empty)" in words
    assert "1 in no identity's folder (loose.png)" in words
    assert "eaDir" not in words
    ImageFolder(str(root), "train", val_identities=0.0)
    assert len(caplog.records) == 1


def test_a_turned_image_that_shrinks_much_is_antialiased_and_lies_where_it_should():
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    turn = 0.25 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    change = Map(np.column_stack([turn, [3.0, 1.0]]), (120, 120), (30, 30))
    assert np.abs(move_image(stripes, change)[5:25, 5:25].astype(int) - 127).max() < 3
    block = np.zeros((120, 120, 3), np.uint8)
    block[40:80, 48:72] = 255
    middle = np.argwhere(move_image(block, change)[..., 0] > 127).mean(0)[::-1] + 0.5
    np.testing.assert_allclose(middle, change.matrix @ [60, 60, 1], atol=0.3)
