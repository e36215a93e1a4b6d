"""Image files with attributes: any CSV file of them, CelebA's middle, and colors that are turned."""

import colorsys
import logging

import numpy as np
import pytest
from conftest import shared
from PIL import Image

from facetx.data import DATASETS
from facetx.data.lists import folders
from facetx.data.lists.attributes import read_attribute_csv
from facetx.data.transforms import TRANSFORMS
from facetx.errors import DataError

NAN = np.nan


@pytest.fixture
def table(tmp_path):
    """Three images in two folders, and a table that has four."""
    for name, shade in (("a/1.png", 10), ("a/2.png", 20), ("b/1.png", 30), ("b/9.png", 90)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 8), (shade, 0, 0)).save(tmp_path / name)
    (tmp_path / "faces.csv").write_text(
        "Filename,Identity,Male,Young\na/1.png,ann,1,0\na/2.png,ann,-1,1\nb/1.png,bob,-1,\nb/2.png,bob,1,1\n"
    )
    return tmp_path / "faces.csv"


def rows(tmp_path, text, **args):
    (tmp_path / "x.csv").write_text(text)
    return read_attribute_csv(tmp_path / "x.csv", **args)


def test_rows_with_images_are_read_and_the_others_are_told(table, caplog):
    folders.say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "facetx"):
        data = DATASETS["attribute_csv"](path=str(table), identity="Identity", unknown="0")
    assert data.attribute_names == ("Male", "Young")
    assert (len(data), data.num_classes, data.identities) == (3, 2, ["ann", "bob"])
    assert data.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(data.attributes, [[1, NAN], [0, 1], [0, NAN]])
    assert data[1]["image"].shape == (8, 6, 3)
    assert data[1]["image"][0, 0, 0] == 20
    assert data[1]["attributes"].tolist() == [0, 1]
    assert "left out: 1 of 4 rows, whose images are not below" in caplog.text
    assert "left out: 1 images that have no row (b/9.png)" in caplog.text


def test_columns_can_be_chosen(table):
    data = DATASETS["attribute_csv"](path=str(table), columns=["Young"], unknown="-1")
    assert (data.attribute_names, data.num_classes) == (("Young",), 1)
    np.testing.assert_array_equal(data.attributes[:, 0], [0, 1, NAN])
    assert data[0]["image"].shape == (8, 6, 3)


def test_without_images_there_is_no_data_set(table, tmp_path):
    with pytest.raises(DataError, match=r"none of its 4 images lies below .*elsewhere, such as a/1\.png; say by root"):
        DATASETS["attribute_csv"](path=str(table), columns=["Young"], root=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,Male\n1.jpg,1\n2.jpg,1,1\n", r"x.csv:3: 3 cells, and the header line has 2"),
        ("image,Male\n1.jpg,2\n", "x.csv:2: the attribute 'Male' is '2', and must be 1, 0, -1 or empty"),
        ("image,Male\n\n1.jpg,1\n1.jpg,0\n", "x.csv:4: 1.jpg has a row already, in line 3"),
        ("image,Male\n,1\n", "x.csv:2: names no image in the column 'image'"),
        ("image,Male,Male\n1.jpg,1,1\n", "x.csv:1: expected a header line of column names, each once; twice: Male"),
        ("image\n1.jpg\n", "x.csv:1: has no column of an attribute beside the image's"),
        ("image,Male\n", "x.csv: holds no row of an image"),
        ("image,Male\n1.jpg,0\n2.jpg,-1\n", "has 0 and -1; say by unknown which of them means that it is not known"),
        ("", "x.csv:1: expected a header line"),
    ],
)
def test_bad_rows_are_told_with_their_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        rows(tmp_path, text)


def test_absent_columns_are_told(tmp_path):
    with pytest.raises(DataError, match="has no column who; its columns are image, Male"):
        rows(tmp_path, "image,Male\n1.jpg,1\n", identity="who")


def test_either_number_says_no_where_it_is_alone(tmp_path):
    assert rows(tmp_path, "image,Male\n1.jpg,0\n2.jpg,1\n").values.tolist() == [[0], [1]]
    assert rows(tmp_path, "image,Male\n1.jpg,-1\n2.jpg,1\n").values.tolist() == [[0], [1]]
    found = rows(tmp_path, "Male,file\n1,a\n,b\n", file="file")
    assert (found.files, found.names, found.identities) == (["a", "b"], ("Male",), [])
    np.testing.assert_array_equal(found.values, [[1], [NAN]])


def test_celeba_of_half_size():
    root = shared("data/celeba_attributes")
    data = DATASETS["celeba"](root=str(root), images="images", part="val")
    assert (len(data), len(data.attribute_names), data[0]["image"].shape) == (600, 40, (109, 89, 3))
    assert data.attributes.mean() == pytest.approx(0.226, abs=0.01)


def test_hue_is_turned_and_nothing_else():
    colors = [(200, 50, 50), (40, 180, 90), (120, 120, 120)]
    image = np.array([colors], np.uint8)
    jitter = TRANSFORMS.create("color_jitter", brightness=0.0, contrast=0.0, saturation=0.0, hue=0.2)
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    turned = jitter.image(image, rng)[0]
    again.uniform(-1, 1, 3)
    share = again.uniform(-0.2, 0.2)
    for color, found in zip(colors, turned):
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in color))
        expected = np.array(colorsys.hsv_to_rgb((h + share) % 1, s, v)) * 255
        np.testing.assert_allclose(found, expected, atol=5)
    with pytest.raises(DataError, match=r"hue must be in 0\.\.0\.5"):
        TRANSFORMS.create("color_jitter", hue=0.6)


def test_without_hue_nothing_more_is_drawn():
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    TRANSFORMS.create("color_jitter").image(np.zeros((2, 2, 3), np.uint8), rng)
    other.uniform(-1, 1, 3)
    assert rng.random() == other.random()
