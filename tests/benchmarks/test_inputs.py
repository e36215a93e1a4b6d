"""The check of the images against the contract: it stays silent on what fits, and names what does not."""

import numpy as np
import pytest
from conftest import shared
from PIL import Image, ImageDraw

from facetx.benchmarks.inputs import check_inputs
from facetx.contract import InputContract
from facetx.data.align import ARCFACE
from facetx.data.lists.landmarks import COLUMNS
from facetx.data.sets.folder import ImageFiles, ImageFolder


@pytest.fixture
def write(tmp_path):
    """A function that draws 12 faces of skin with dark eyes on the template, moved by ``shift``, as a data set."""

    def make(shift=(0, 0), change=lambda image: image, size=112):
        paths = []
        for i in range(12):
            face = Image.new("RGB", (112, 112), (190 - i, 140, 115 + i))
            draw = ImageDraw.Draw(face)
            for x, y in ARCFACE[:2] + shift:
                draw.ellipse((x - 6, y - 3, x + 6, y + 3), fill=(40, 30, 30))
            image = change(np.asarray(face.resize((size, size))))
            paths.append(tmp_path / f"{i}.png")
            Image.fromarray(image).save(paths[-1])
        return ImageFiles(paths, "drawn")

    return make


def landmarks(path, offset, scale=1.0, size=112):
    points = ((ARCFACE - ARCFACE.mean(0)) * scale + ARCFACE.mean(0) + offset) * size / 112
    rows = [",".join(COLUMNS), *(f"{i}.png," + ",".join(f"{v:.3f}" for v in points.ravel()) for i in range(3))]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("size", [64, 112])
def test_faces_on_the_template_warn_of_nothing(write, tmp_path, size):
    found = check_inputs(InputContract(), write(size=size), None, landmarks(tmp_path / "l.csv", 0, size=size))
    assert found.warnings == []
    assert np.hypot(*found.eyes_offset) < 1.2
    assert found.landmarks_offset == (0, 0)
    assert found.landmarks_scale == pytest.approx(1)
    assert found.face_rgb[0] > found.face_rgb[2]


@pytest.mark.parametrize(("shift", "words"), [((0, 4), "px below"), ((0, -4), "px above"), ((5, 0), "px right of")])
def test_shifted_faces_are_seen_in_the_mean_image(write, shift, words):
    (warning,) = check_inputs(InputContract(), write(shift)).warnings
    assert warning.startswith("alignment: the eyes of the mean image are")
    assert words in warning
    assert "prepare_data.py align" in warning
    assert check_inputs(InputContract(alignment="other"), write(shift)).warnings == []


def test_landmarks_and_images_that_disagree_are_named(write, tmp_path):
    (warning,) = check_inputs(InputContract(), write(), None, landmarks(tmp_path / "l.csv", (0, 3))).warnings
    assert "the landmarks are 3.0 px below" in warning
    assert "look at some landmarks" in warning
    both = check_inputs(InputContract(), write((0, 4)), None, landmarks(tmp_path / "l.csv", (0, 4))).warnings
    assert len(both) == 2
    (warning,) = check_inputs(InputContract(), write(), None, landmarks(tmp_path / "l.csv", 0, scale=1.2)).warnings
    assert "1.20 times the template's size" in warning


def test_color_order_and_range(write):
    (warning,) = check_inputs(InputContract(), write(change=lambda image: image[..., ::-1])).warnings
    assert warning.startswith("color: ")
    assert "takes RGB" in warning
    dark = check_inputs(InputContract(color="BGR"), write(change=lambda image: (image > 127).astype(np.uint8)))
    assert dark.eyes_offset is None
    assert [w.split(":")[0] for w in dark.warnings] == ["range", "alignment"]


@pytest.mark.parametrize("scale", [0.7, 1.25])
def test_faces_of_another_size_are_seen_in_the_mean_image(write, tmp_path, scale):
    def zoom(image):
        k, (x, y) = 1 / scale, ARCFACE[:2].mean(axis=0)
        moved = Image.fromarray(image).transform(
            (112, 112), Image.Transform.AFFINE, (k, 0, x - k * x, 0, k, y - k * y), Image.Resampling.BILINEAR
        )
        return np.asarray(moved)

    found = check_inputs(InputContract(), write(change=zoom))
    assert found.eyes_scale == pytest.approx(scale, abs=0.1)
    (warning,) = found.warnings
    assert f"eyes are {found.eyes_scale:.2f} times as far apart" in warning


@pytest.mark.parametrize(
    "change",
    [lambda x: np.full_like(x, 255), lambda x: 128 + (x > 127).astype(np.uint8), lambda x: np.roll(x, 40, axis=0)],
)
def test_images_without_eyes_where_they_should_be(write, change):
    (warning,) = check_inputs(InputContract(), write(change=change)).warnings
    assert "no eyes near the ArcFace template's" in warning


def test_real_faces():
    celeba = ImageFolder(str(shared("data/celeba_identity/images")))
    some = np.arange(0, len(celeba), 60)
    assert check_inputs(InputContract(), celeba, some, shared("data/celeba_identity/landmarks.csv")).warnings == []
    lfw = ImageFolder(str(shared("data/lfw/images")))
    found = check_inputs(InputContract(), lfw, np.arange(0, len(lfw), 60), shared("data/lfw/landmarks.csv"))
    # Its landmarks lie three pixels low, its pixels do not: the check says both.
    assert 2.5 < found.landmarks_offset[1] < 4
    assert abs(found.eyes_offset[1]) < 2
    assert "landmarks are 3.1 px below" in found.warnings[0]
