"""Pictures of parsing: colors lie where the masks have their classes, and the page shows what it should."""

import numpy as np
import pytest
from conftest import ByPlace
from PIL import Image

from facetx.benchmarks.suite import run_question, write_outcome
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.evaluators.parsing import ParsingEvaluator, ParsingResult
from facetx.plots.figures import training_panels
from facetx.plots.page import write_results
from facetx.plots.parsing import UNKNOWN, in_words, overlay, pictures_of, triple

COLORS = ((0, 0, 0), (200, 0, 0), (0, 100, 250))


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(identities=12, images_per_identity=1, size=64)


@pytest.fixture(scope="module")
def result(faces) -> ParsingResult:
    return ParsingEvaluator(faces).result(ByPlace(faces))


def test_an_overlay_leaves_the_background_and_mixes_the_others():
    image = np.full((4, 4, 3), 100, np.uint8)
    mask = np.array([[0, 1], [2, 255]], np.uint8).repeat(2, 0).repeat(2, 1)
    out = overlay(image, mask, COLORS, strength=0.25)
    assert out[0, 0].tolist() == [100, 100, 100]
    assert out[0, 3].tolist() == [125, 75, 75]
    assert out[3, 0].tolist() == [75, 100, 138]
    assert out[3, 3].tolist() == [75 + v // 4 for v in UNKNOWN]
    assert overlay(image, mask[::2, ::2], COLORS).shape == (2, 2, 3)  # at the mask's size
    assert overlay(image, np.zeros((3, 5), np.uint8), COLORS).shape == (3, 5, 3)


def test_what_the_sheets_show(result, faces):
    item = result.worst()[0]
    image, truth, said = triple(result, faces, item)
    sample = faces[item]
    np.testing.assert_array_equal(image, sample["image"])
    np.testing.assert_array_equal(truth, overlay(sample["image"], sample["mask"], result.colors))
    assert (said != truth).any()
    assert in_words(result, item) == f"F1 {100 * np.nanmin(result.image_f1):.1f} %"
    large = SyntheticFaces(identities=12, images_per_identity=1, size=300)
    assert {picture.shape for picture in triple(result, large, 0) if picture.shape != (64, 64, 3)} == {(256, 256, 3)}


def test_every_picture_is_drawn(result, faces, tmp_path):
    nose = np.array(result.colors[6])
    colors = {"overlays": nose, "worst": nose, "classes": 0.6 * nose + 0.4 * 255}  # of the legend, and of its bar
    heights = {}
    for name, draw in pictures_of(result, faces).items():
        draw(tmp_path / f"{name}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), float)
        assert (np.abs(pixels - colors[name]).max(axis=-1) < 6).sum() > 100, name
        heights[name] = len(pixels)
    assert heights["worst"] > heights["overlays"]  # ten images and eight


def test_the_page_shows_the_worst_and_a_legend(faces, tmp_path):
    outcome = run_question(lambda whole: ByPlace(faces), "parsing", faces, "faces_parsing")
    assert outcome.inputs.eyes_offset is None  # whole frames need lie on no template
    assert outcome.warnings == []
    write_outcome(tmp_path / "faces_parsing.json", outcome, {})
    text = write_results(tmp_path / "faces", "by place", {}, [outcome])
    assert "mean F1" in text
    page = (tmp_path / "faces.html").read_text()
    assert page.count("data:image/png") == 1
    assert page.count("data:image/jpeg") == 3 * (10 + 8)
    assert page.count("<li><svg") == 10
    assert "rgb(255,127,80)" in page  # the nose
    assert "published" not in page  # drawn faces have LaPa's classes, and are not LaPa


def test_training_curves_have_a_panel_of_parsing():
    rows = [{"step": 1, "train/loss": 1.0, "train/lr": 0.1, "val/mean_f1": 0.5, "val/pixel_accuracy": 0.9}]
    assert ("parsing, held-out images", "%", ["val/mean_f1"]) in training_panels(rows)
