"""Data sets with masks: any folders, LaPa, CelebAMask-HQ and Helen as they are distributed, and wrong ones."""

import logging

import numpy as np
import pytest
from conftest import copied, shared
from PIL import Image

from facetx.data import DATASETS
from facetx.data.cache import Cached
from facetx.data.crop import Cropped
from facetx.data.lists import folders
from facetx.data.lists.landmarks import relative
from facetx.data.mask_classes import CELEBAMASK_HQ, FASSEG, LAPA, colors_of
from facetx.data.sample import IGNORED
from facetx.data.sets.parsing import LAPA_FIVE, TEST, VAL, part_of
from facetx.errors import DataError


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8), mode).save(path)


def noise(height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def palette(path, mask):
    """An index mask as most tools write it: a PNG with a palette."""
    image = Image.fromarray(np.asarray(mask, np.uint8), "P")
    image.putpalette([value for i in range(256) for value in (255 - i, i, i // 2)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folder(tmp_path):
    """Three images and their masks, one of gray pixels and two with a palette, and the list of their classes."""
    root = tmp_path / "mine"
    masks = np.random.default_rng(1).integers(0, 3, (3, 8, 8), np.uint8)
    masks[2, 0, 0] = IGNORED
    for i, mask in enumerate(masks):
        save(root / f"train/images/{i}.jpg", noise(seed=i))
        (palette if i else save)(root / f"train/masks/{i}.png", mask)
    (root / "classes.txt").write_text("background\nskin\nhair\n")
    return root, masks


def test_a_folder_of_images_and_masks(folder):
    root, masks = folder
    data = copied(DATASETS["mask_folder"](root=str(root), part="train"))
    assert (data.name, len(data), data.mask_classes) == ("mine/train", 3, ("background", "skin", "hair"))
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(data[i]["mask"], mask)
        assert data[i]["image"].shape == (8, 8, 3)
    assert data.key(1) == "train/images/1.jpg"
    assert data.description().mask_colors == colors_of(data.mask_classes)


def test_masks_are_resized_without_new_numbers_and_lie_on_their_images(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[:8, 4:8] = 2
    save(tmp_path / "images/a.png", np.where(mask[..., None], 255, 0).repeat(3, 2))
    save(tmp_path / "masks/a.png", mask)
    for size in (8, 32):
        item = DATASETS["mask_folder"](root=str(tmp_path), classes="lapa", size=size)[0]
        assert item["image"].shape == (size, size, 3)
        assert set(np.unique(item["mask"])) == {0, 2}
        bright, labeled = item["image"][..., 0] > 127, item["mask"] == 2
        assert (bright == labeled).mean() > 0.95


def test_what_has_no_partner_is_left_out_and_told(folder, caplog):
    root, _ = folder
    save(root / "train/images/alone.jpg", noise())
    palette(root / "train/masks/lost.png", np.zeros((8, 8)))
    (root / "train/images/.hidden.jpg").write_bytes(b"")
    folders.say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "facetx"):
        assert len(DATASETS["mask_folder"](root=str(root), part="train")) == 3
    assert "left out: 1 images without a mask (alone.jpg)" in caplog.text
    assert "left out: 1 masks without an image (lost.png)" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda p: palette(p, np.full((8, 8), 7)),
            r"0\.jpg: has 7 in 64 pixels, and the list of classes ends at 2 \(hair",
        ),
        (lambda p: palette(p, np.zeros((4, 8))), r"0\.jpg: is 8x8 and its mask 8x4"),
        (lambda p: save(p, noise()), r"0\.png: is a picture in colors \(RGB\), and a mask.*prepare_data\.py masks"),
        (lambda p: Image.fromarray(np.full((8, 8), 700, np.uint16)).save(p), r"0\.png: has numbers from 700 to 700"),
        (lambda p: p.write_bytes(p.read_bytes()[:40]), r"0\.png: cannot be read as a mask"),
        (lambda p: Image.fromarray(noise()[..., 0]).save(p, "JPEG"), r"0\.png: cannot be read as a mask, of PNG"),
    ],
    ids=["beyond the list", "another size", "colors", "16 bits", "damaged", "a JPEG"],
)
def test_a_mask_that_is_wrong_is_an_error_that_names_it(folder, spoil, says):
    root, masks = folder
    spoil(root / "train/masks/0.png")
    data = DATASETS["mask_folder"](root=str(root), part="train")
    with pytest.raises(DataError, match=says):
        data[0]
    np.testing.assert_array_equal(data[1]["mask"], masks[1])


def test_a_mask_of_16_bits_with_small_numbers_is_read(folder):
    root, masks = folder
    Image.fromarray(masks[0].astype(np.uint16)).save(root / "train/masks/0.png")
    np.testing.assert_array_equal(DATASETS["mask_folder"](root=str(root), part="train")[0]["mask"], masks[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("background\nskin\nskin\n", r"classes\.txt:3: skin comes twice"),
        ("background 0 0 0\nskin 300 0 0\n", r"classes\.txt:2: skin has the color \(300, 0, 0\)"),
        ("background 0 0 0\nskin 0 0 0\n", r"classes\.txt:2: skin has the color \(0, 0, 0\)"),
        ("background 0 0 0\nskin\n", "2 classes, 1 with a color"),
        ("background\n", "1 classes, 0 with a color; expected 2 to 255"),
        ("background\nred skin\n", r"classes\.txt:2: expected a class"),
    ],
)
def test_a_wrong_list_of_classes_is_an_error(folder, text, says):
    root, _ = folder
    (root / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=says):
        DATASETS["mask_folder"](root=str(root), part="train")


def test_colors_of_ones_own_are_kept(folder):
    root, _ = folder
    (root / "classes.txt").write_text("background 0 0 0\nskin 200 150 100\nhair 9 8 7\n")
    data = DATASETS["mask_folder"](root=str(root), part="train")
    assert Cached(data, shared=False).description().mask_colors == ((0, 0, 0), (200, 150, 100), (9, 8, 7))


def test_missing_folders_and_lists_say_what_to_do(folder, tmp_path):
    root, _ = folder
    with pytest.raises(DataError, match="no such list of classes; write a file with a class a line.*'lapa'"):
        DATASETS["mask_folder"](root=str(root), part="train", classes="lappa")
    with pytest.raises(DataError, match="no such folder; parsing needs"):
        DATASETS["mask_folder"](root=str(root), part="val")
    (root / "val/images").mkdir(parents=True)
    (root / "val/masks").mkdir()
    with pytest.raises(DataError, match="none of its 0 images has a mask"):
        DATASETS["mask_folder"](root=str(root), part="val")


def test_a_picture_that_is_not_square_is_squashed_where_that_is_meant_alone(tmp_path):
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, 6:] = 3
    save(tmp_path / "images/a.jpg", noise(8, 12))
    palette(tmp_path / "masks/a.png", mask)
    with pytest.raises(DataError, match="is 12x8, and would be squashed to 8x8; say crop: true.*or stretch: true"):
        DATASETS["mask_folder"](root=str(tmp_path), classes="lapa", size=8)[0]
    item = DATASETS["mask_folder"](root=str(tmp_path), classes="lapa", size=8, stretch=True)[0]
    assert item["image"].shape == (8, 8, 3)
    assert np.argwhere(item["mask"] == 3).tolist() == [[i, j] for i in range(4) for j in range(4, 8)]
    assert Cropped(DATASETS["mask_folder"](root=str(tmp_path), classes="lapa"), 8)[0]["mask"].shape == (8, 8)


def test_a_cache_keeps_masks_as_bytes(folder):
    root, masks = folder
    data = DATASETS["mask_folder"](root=str(root), part="train")
    cached = Cached(data, frozenset({"image", "mask"}), shared=False)
    for _ in range(2):
        np.testing.assert_array_equal(cached[2]["mask"], masks[2])
        np.testing.assert_array_equal(cached[2]["image"], data[2]["image"])
    assert cached[2]["mask"].dtype == np.uint8
    assert cached.mask_classes == data.mask_classes


POINTS = "106\n" + "".join(f"{i} {2 * i}\n" for i in range(106))


def lapa(tmp_path, points=POINTS):
    for part in ("train", "val"):
        save(tmp_path / part / "images/1_0.jpg", noise(300, 200))
        save(tmp_path / part / "labels/1_0.png", np.full((300, 200), 10))
        (tmp_path / part / "landmarks").mkdir()
        (tmp_path / part / "landmarks/1_0.txt").write_text(points)
    return str(tmp_path)


def test_lapa_has_its_classes_and_five_of_its_points(tmp_path):
    data = DATASETS["lapa"](root=lapa(tmp_path), part="val", landmarks=True)
    item = data[0]
    assert (data.name, data.mask_classes) == ("lapa/val", LAPA)
    assert (item["mask"] == 10).all()
    expected = relative(np.array([[i, 2 * i] for i in LAPA_FIVE]), 200, 300)
    np.testing.assert_allclose(item["keypoints"], expected, rtol=1e-6)
    assert DATASETS["lapa"](root=str(tmp_path), size=64)[0]["mask"].shape == (64, 64)
    assert data.key(0) != DATASETS["lapa"](root=str(tmp_path), part="train").key(0)
    assert "keypoints" not in DATASETS["lapa"](root=str(tmp_path))[0]


def test_lapas_points_must_be_106(tmp_path):
    with pytest.raises(DataError, match=r"1_0\.txt: expected the number 106"):
        DATASETS["lapa"](root=lapa(tmp_path, "106\n1 2\n"), landmarks=True)


@pytest.fixture
def celebamask(tmp_path):
    """Four images of 16 pixels; masks of 8, a file a part: skin and nose, of one an eye too, and of the last none."""
    for number in range(4):
        save(tmp_path / f"CelebA-HQ-img/{number}.jpg", noise(16, 16, number))
    parts = tmp_path / "CelebAMask-HQ-mask-anno"
    square = np.zeros((8, 8, 3), np.uint8)
    skin, nose, eye = square.copy(), square.copy(), square.copy()
    skin[1:7, 1:7], nose[3:5, 3:5], eye[2, 5] = 255, 255, 255
    for number in range(3):
        save(parts / f"{number // 2}/{number:05d}_skin.png", skin)
        save(parts / f"{number // 2}/{number:05d}_nose.png", nose)
    save(parts / "0/00001_l_eye.png", eye)
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx      orig_file\n"
        f"0 5 000006.jpg\n1 {VAL - 1} 162771.jpg\n2 {VAL} 162772.jpg\n3 {TEST} 182639.jpg\n"
    )
    return tmp_path


def test_celebamasks_parts_are_merged_in_the_official_order(celebamask):
    data = copied(DATASETS["celebamask_hq"](root=str(celebamask), part="all"))
    assert data.mask_classes == CELEBAMASK_HQ
    expected = np.zeros((8, 8), np.uint8)
    expected[1:7, 1:7] = 1
    expected[3:5, 3:5] = 2
    np.testing.assert_array_equal(data[0]["mask"], expected)
    expected[2, 5] = 4
    np.testing.assert_array_equal(data[1]["mask"], expected)
    assert data[0]["image"].shape == (8, 8, 3)  # images come at the size of the masks


def test_celebamasks_parts_follow_its_own_script(celebamask, caplog):
    folders.say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "facetx"):
        names = {p: DATASETS["celebamask_hq"](root=str(celebamask), part=p).paths.names[:] for p in ("train", "val")}
    assert names == {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"]}
    assert "left out: 1 images without a mask (3)" in caplog.text
    with pytest.raises(DataError, match="none of its 4 images is of 'test' and has a mask"):
        DATASETS["celebamask_hq"](root=str(celebamask), part="test")
    assert [part_of(n) for n in (0, 162_770, 162_771, 182_637, 182_638)] == ["train", "train", "val", "val", "test"]


def test_celebamask_takes_identities_and_whole_label_maps(celebamask):
    people = celebamask / "identity_CelebA.txt"
    people.write_text("000006.jpg 12\n162771.jpg 7\n162772.jpg 12\n182639.jpg 3\n")
    data = DATASETS["celebamask_hq"](root=str(celebamask), part="all", identities=str(people))
    assert (data.labels.tolist(), data.identities) == ([1, 0, 1], ["7", "12"])
    people.write_text("000006.jpg 12\n")
    with pytest.raises(DataError, match=r"has no identity of 162771\.jpg"):
        DATASETS["celebamask_hq"](root=str(celebamask), part="all", identities=str(people))
    maps = np.random.default_rng(2).integers(0, 19, (8, 8), np.uint8)
    palette(celebamask / "maps/3.png", maps)
    data = DATASETS["celebamask_hq"](root=str(celebamask), part="test", masks="maps")
    np.testing.assert_array_equal(data[0]["mask"], maps)


def test_helens_soft_labels_become_the_likeliest_class(tmp_path):
    shares = np.random.default_rng(3).integers(0, 256, (11, 6, 6), np.uint8)
    save(tmp_path / "images/a_1.jpg", noise(6, 6))
    for i, share in enumerate(shares):
        save(tmp_path / f"labels/a_1/a_1_lbl{i:02d}.png", share)
    (tmp_path / "testing.txt").write_text("1 , a_1\n")
    data = copied(DATASETS["helen"](root=str(tmp_path), part="test"))
    np.testing.assert_array_equal(data[0]["mask"], shares.argmax(0))
    (tmp_path / "labels/a_1/a_1_lbl10.png").unlink()  # a part without a file is not there
    np.testing.assert_array_equal(data[0]["mask"], shares[:10].argmax(0))
    (tmp_path / "testing.txt").write_text("a_1\n")
    with pytest.raises(DataError, match=r"testing\.txt:1: expected a number, a comma and a name"):
        DATASETS["helen"](root=str(tmp_path), part="test")


def test_the_reference_sets_are_read_by_the_readers_alone():
    data = DATASETS["mask_folder"](root=str(shared("data/celebamask_hq")), part="val", size=256)
    assert (len(data), data.mask_classes) == (100, CELEBAMASK_HQ)
    assert data[0]["mask"].shape == (256, 256)
    assert DATASETS["mask_folder"](root=str(shared("data/fasseg")), part="test").mask_classes == FASSEG
    sample = DATASETS["celebamask_hq"](root=str(shared("data/celebamask_sample")), part="all", images=".", masks=".")
    item = sample[0]
    assert (len(sample), item["image"].shape, item["mask"].shape) == (4, (512, 512, 3), (512, 512))
    assert item["image"].std() > 20  # the photograph, and not the mask


def test_the_left_eye_of_celebamask_is_the_persons():
    sample = shared("data/celebamask_sample")
    data = DATASETS["celebamask_hq"](root=str(sample), part="all", images=".", masks=".")
    for item in map(data.__getitem__, range(4)):
        left, right = (
            np.nonzero(item["mask"] == data.mask_classes.index(name))[1].mean() for name in ("l_eye", "r_eye")
        )
        assert left > right
