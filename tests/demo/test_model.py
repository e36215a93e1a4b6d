"""What the page is told of a model, and of what its scores mean."""

import dataclasses

import numpy as np
import pytest
from small_page import FACTS, say, scored, write_result_file

from facetx.contract import InputContract
from facetx.data.align import template
from facetx.data.mask_classes import LAPA, colors_of
from facetx.demo.calibration import calibration
from facetx.demo.model import label, read_model
from facetx.errors import CheckpointError, DataError

pytest_plugins = ["small_page"]


def test_each_attribute_stands_in_its_region_with_its_place_in_the_output(exported):
    about = read_model(exported.path).about
    told = {a["name"]: (region["name"], a["index"]) for region in about["regions"] for a in region["attributes"]}
    assert [told[name][1] for name in FACTS["attributes"]] == list(range(len(FACTS["attributes"])))
    assert told["Smiling"][0] == "Whole face"
    assert told["Eyeglasses"][0] == "Eyes"
    assert label("5_o_Clock_Shadow") == "5 o'clock shadow"


def test_each_class_has_its_words_and_its_color(exported, tmp_path):
    classes = read_model(exported.path).about["classes"]
    assert [one["name"] for one in classes] == FACTS["mask_classes"]
    assert [one["color"] for one in classes] == FACTS["mask_colors"]
    assert classes[2]["label"] == "Left brow"
    plain = {**FACTS, "mask_colors": []}
    colors = [one["color"] for one in read_model(say(tmp_path / "m.onnx", plain, exported.path)).about["classes"]]
    assert colors == [list(color) for color in colors_of(LAPA)]


def test_the_page_knows_name_size_template_and_weights(exported):
    about = read_model(exported.path).about
    assert about["name"] == "small_faces"
    assert about["size"] == 64
    assert about["template"] == template(64).tolist()
    assert about["embeds"]
    assert not about["keypoints"]
    assert about["weights"] == FACTS["weights"]
    assert about["calibration"] is None


def test_faces_of_another_alignment_are_not_warped(exported, tmp_path):
    contract = dataclasses.replace(InputContract(size=64), alignment="none").as_dict()
    path = say(tmp_path / "model.onnx", {**FACTS, "input": contract}, exported.path)
    assert read_model(path).about["template"] is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "does not say what it expects"),
        ({**FACTS, "input": {"size": 64, "color": "HSV"}}, "input.color: Input should be 'RGB' or 'BGR'"),
        ({**FACTS, "outputs": {"depth": [64, 64]}}, "gives depth; the page shows embeddings, attributes and masks"),
        ({**FACTS, "outputs": {"mask": [19, 64, 64]}}, r"11 names for masks of shape \[19, 64, 64\]"),
        ({**FACTS, "attributes": ["Young"]}, r"1 names for attributes of shape \[28\]"),
        ({**FACTS, "outputs": ["embedding"]}, "python scripts/export.py RUN --to onnx"),
    ],
)
def test_a_file_that_says_something_else_is_refused(exported, tmp_path, facts, words):
    with pytest.raises(CheckpointError, match=words):
        read_model(say(tmp_path / "model.onnx", facts, exported.path))


def test_what_is_no_model_is_refused(exported, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    for name, words in (("text.onnx", "no ONNX file"), ("nothere", "no such file"), (".", "is a folder; .*export.py")):
        with pytest.raises(CheckpointError, match=words):
            read_model(tmp_path / name)


def test_a_calibration_counts_the_errors_at_each_threshold():
    result = scored()
    made = calibration(result)
    assert (made["same"], made["different"], made["flip"]) == (200, 200, True)
    assert made["points"][0]["threshold"] == result.threshold
    assert [point["name"] for point in made["points"][1:]] == ["FAR ≤ 10 %", "FAR ≤ 1 %", "FAR ≤ 0.1 %"]
    for point in made["points"]:
        accepted = [score > point["threshold"] for score in result.scores]
        assert point["far"] == sum(accepted[200:]) / 200
        assert point["frr"] == pytest.approx(1 - sum(accepted[:200]) / 200)
    assert [point["supported"] for point in made["points"]] == [True, True, False, False]
    for kind, low, high in (("same", 0.31, 0.91), ("different", 0, 0.4)):
        shares = np.array(made["histogram"][kind])
        assert shares.sum() == pytest.approx(1, abs=1e-3)
        middles = (np.arange(len(shares)) + 0.5) / len(shares)
        assert low - 0.02 < middles[shares > 0].min() < middles[shares > 0].max() < high + 0.02


def test_a_result_beside_the_model_is_found_where_it_is_of_these_weights(exported, tmp_path):
    path = say(tmp_path / "model.onnx", FACTS, exported.path)
    (tmp_path / "other.json").write_text("{}")
    write_result_file(tmp_path / "benchmarks/lfw.json", weights="00" * 32)
    told = read_model(path)
    assert told.about["calibration"] is None
    assert "other weights" in told.notes[0]
    write_result_file(tmp_path / "benchmarks/drawn.json")
    assert read_model(path).about["calibration"] == calibration(scored())


def test_a_calibration_of_another_model_is_an_error(exported, tmp_path):
    assert read_model(exported.path, write_result_file(tmp_path / "a.json")).about["calibration"]["name"] == "drawn"
    with pytest.raises(DataError, match="other weights than the model's"):
        read_model(exported.path, write_result_file(tmp_path / "b.json", weights="00" * 32))
