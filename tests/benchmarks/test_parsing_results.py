"""Results of parsing on disk and beside each other: what is read back, what is refused, and which model is better."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ByPlace

from facetx.benchmarks.paired import compare_results
from facetx.benchmarks.receipts import make_receipt
from facetx.benchmarks.results import read_result, write_result
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.demo.calibration import find_calibration, read_calibration
from facetx.errors import DataError
from facetx.evaluators.parsing import ParsingEvaluator


@pytest.fixture(scope="module")
def asked():
    """Two models, the second which knows less of places, and what came of them on 24 faces: (result, receipt) each."""
    faces = SyntheticFaces(identities=12, images_per_identity=2, size=48)
    evaluator = ParsingEvaluator(faces)
    models = [ByPlace(faces), ByPlace(faces, noise=0.6)]
    return [(evaluator.result(model), make_receipt(evaluator, model)) for model in models]


def test_a_result_file_gives_back_every_number(asked, tmp_path):
    result, receipt = asked[0]
    write_result(tmp_path / "r.json", result, receipt, model={"step": 7})
    again, its_receipt = read_result(tmp_path / "r.json")
    assert its_receipt == receipt
    assert again.classes == result.classes
    assert again.colors == result.colors
    np.testing.assert_array_equal(again.counts, result.counts)
    assert {**again.as_dict(), "worst": 0} == {**result.as_dict(), "worst": 0}  # its masks are not in the file
    assert json.loads((tmp_path / "r.json").read_text())["model"] == {"step": 7}


def test_damaged_files_are_refused(asked, tmp_path):
    write_result(tmp_path / "r.json", *asked[0])
    whole = json.loads((tmp_path / "r.json").read_text())
    counts = np.frombuffer(base64.b64decode(whole["arrays"]["counts"]), "<i4")
    negative = base64.b64encode((-counts).tobytes()).decode()
    met = counts.reshape(-1, 7, 11).copy()
    met[0, 4, 1] = met[0, 3, 1] + 1
    more = base64.b64encode(met.tobytes()).decode()
    for change in (
        {"arrays": {"counts": whole["arrays"]["counts"][:-8]}},
        {"arrays": {"counts": negative}},
        {"arrays": {"counts": ""}, "confusion": np.zeros((11, 11), int).tolist()},
        {"arrays": {"counts": more}},
        {"arrays": {}},
        {"classes": {"background": {"color": [0, 0, 0]}}},
        {"classes": {name: {"color": [0, 0, 256]} for name in whole["classes"]}},
        {"classes": {}},
        {"confusion": [[1]]},
        {"confusion": (2 * np.array(whole["confusion"])).tolist()},
        {"labels": "x"},
        {"name": 3},
        {"notes": "x"},
        {"receipt": {}},
    ):
        (tmp_path / "r.json").write_text(json.dumps({**whole, **change}))
        with pytest.raises(DataError, match=r"r\.json: no result with its scores"):
            read_result(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps({**whole, "format": "facetx-parsing-9"}))
    with pytest.raises(DataError, match="reads facetx-verification-1 and facetx-parsing-1"):
        read_result(tmp_path / "r.json")


def test_two_models_are_compared(asked):
    (a, _), (b, _) = asked
    found = compare_results(*asked[0], *asked[1])
    assert found.numbers["mean_f1"].a == pytest.approx(a.summary()["mean_f1"])
    assert found.numbers["mean_f1"].difference == pytest.approx(b.summary()["mean_f1"] - a.summary()["mean_f1"])
    assert found.numbers["mean_f1"].difference < 0
    assert found.classes["skin"].b == pytest.approx(b.rates["f1"][1])
    assert found.better.only_a == int((a.image_f1 > b.image_f1).sum())
    assert "F1 of skin" in found.text()
    assert "Sign test: A has the higher F1 on" in found.text()
    json.dumps(found.as_dict(), allow_nan=False)
    again = compare_results(*asked[0], *asked[0])
    assert again.notes == ["both are of the same weights"]
    assert (again.better.p, again.numbers["mean_f1"].p) == (1, 1)


def test_what_was_not_measured_alike_is_not_compared(asked):
    (a, receipt), (b, other) = asked
    with pytest.raises(DataError, match="masks: they differ, so one was measured by other labels"):
        compare_results(a, receipt, replace(b, labels="0" * 64), other)
    with pytest.raises(DataError, match=r"classes: background, skin.*; and background, hat"):
        compare_results(a, receipt, replace(b, classes=("background", "hat")), other)
    with pytest.raises(DataError, match="flip: False and True"):
        compare_results(a, receipt, b, replace(other, flip=True))
    faces = SyntheticFaces(identities=12, images_per_identity=2, size=48)
    wide = ParsingEvaluator(faces, tolerance=0.02)
    with pytest.raises(DataError, match="protocol: "):
        compare_results(a, receipt, b, make_receipt(wide, ByPlace(faces)))


def test_a_receipt_is_of_the_whole_task(asked):
    faces = SyntheticFaces(identities=12, images_per_identity=2, size=48)
    model = ByPlace(faces)
    evaluator = ParsingEvaluator(faces)
    assert make_receipt(evaluator, model).weights == asked[0][1].weights
    with torch.no_grad():
        model.colors += 1
    assert make_receipt(evaluator, model).weights != asked[0][1].weights


def test_they_are_no_calibration_of_the_live_page(asked, tmp_path):
    write_result(tmp_path / "r.json", *asked[0])
    assert find_calibration(tmp_path, None) == (None, [])
    with pytest.raises(DataError, match="is a result of parsing"):
        read_calibration(tmp_path / "r.json", None)
