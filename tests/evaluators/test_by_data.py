"""Evaluators by data in a run's settings: any data set, at the model's size, with the trained head."""

import numpy as np
import pytest

from facetx.config import check_settings
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import ConfigError, DataError
from facetx.prepare.convert import convert
from facetx.prepare.sources import open_source
from facetx.training import loop
from facetx.training.build import build


@pytest.fixture(scope="module")
def sets(faces, tmp_path_factory):
    """``faces`` in other forms: the data of an evaluator."""
    folder = tmp_path_factory.mktemp("sets")
    source = open_source(faces)
    convert(source, folder / "train.rec", "rec")
    convert(source, folder / "faces.packed", "packed")
    convert(source, folder / "faces.txt", "list")
    return {
        "recordio": {"path": str(folder / "train.rec")},
        "packed": {"path": str(folder / "faces.packed")},
        "image_list": {"path": str(folder / "faces.txt"), "root": str(faces)},
        "image_folder": {"root": str(faces)},
    }


def run_with(small, *evaluators):
    return {**small, "evaluators": [{"every": 6, "allow_overlap": True, **e} for e in evaluators], "select": None}


def test_one_question_of_four_forms_of_one_set_has_one_answer(small, sets, tmp_path):
    asked = [
        {"name": "pairs", "data": {"name": name, "args": args}, "args": {"name": name, "folds": 2, "pairs_per_fold": 5}}
        for name, args in sets.items()
    ]
    outcome = loop.train(check_settings(run_with(small, *asked)), tmp_path)
    first, *others = outcome.results.values()
    for other in others:
        np.testing.assert_allclose(other.scores, first.scores, atol=1e-6)
    again = outcome.run.task.backbone
    assert first.summary()["accuracy"] == outcome.run.evaluators[0].result(again).summary()["accuracy"]


def test_the_model_says_the_size_unless_the_data_does(small, sets):
    model = {**small["model"], "args": {**small["model"]["args"], "image_size": 16}}
    data = {"name": "image_folder", "args": sets["image_folder"] | {"size": 16}}
    asked = [{"name": "identification", "data": {"name": name, "args": args}, "args": {"name": name}}
             for name, args in sets.items()]  # fmt: skip
    asked.append({"name": "pairs", "data": {"name": "packed", "args": {**sets["packed"], "size": 12}}})
    run = build(check_settings(run_with(small | {"model": model, "data": data}, *asked)))
    assert [e.dataset[0]["image"].shape[0] for e in run.evaluators] == [16] * 4 + [12]


def test_classification_asks_about_the_trained_identities_by_name(small, sets, faces):
    def built(data, **args):
        return build(check_settings(run_with(small, {"name": "classification", "data": data, "args": args})))

    held_out = {"name": "image_folder", "args": sets["image_folder"] | {"images": "test"}}
    assert len(built(held_out).evaluators[0].dataset) == 6
    part = {"name": "image_folder", "args": sets["image_folder"] | {"part": "val", "val_identities": 0.5}}
    with pytest.raises(DataError, match=r"classification: \d identities in .*, and the training set has 6"):
        built(part)
    (other := faces.with_name("others")).mkdir()
    for k in range(6):
        (other / f"{'other' if k == 2 else 'person'}_{k}").symlink_to(faces / f"person_{k}")
    renamed = {"name": "image_folder", "args": {"root": str(other)}}
    with pytest.raises(DataError, match=r"3 of 6 identities .* number 0 is 'other_2' here and 'person_0' there; give"):
        built(renamed)


@pytest.mark.parametrize(
    ("evaluator", "words"),
    [
        ({"name": "pairs"}, "evaluator pairs: has no data to ask by: give data"),
        ({"name": "pairs", "args": {"name": "../up"}, "data": "synthetic_faces"}, "args.name: '../up' names"),
        ({"name": "bin_pairs", "args": {"path": "x"}, "data": "synthetic_faces"}, "brings its own images"),
        ({"name": "pairs", "args": {"folds": 3, "pairs_per_fold": 10**6}, "data": "synthetic_faces"}, "cannot draw"),
    ],
)
def test_what_cannot_be_asked_is_said_when_the_run_is_built(small, evaluator, words):
    with pytest.raises((ConfigError, DataError), match=words):
        build(check_settings(run_with(small, evaluator)))


def test_a_small_set_is_asked_what_it_allows_and_that_is_logged(small, tmp_path, caplog):
    few = {"name": "synthetic_faces", "args": {"identities": 6, "images_per_identity": 4}}
    outcome = loop.train(check_settings(run_with(small, {"name": "pairs", "data": few})), tmp_path)
    assert "evaluator pairs: 3 folds of 12 + 12 pairs, for 6 identities with 24 images allow no more" in caplog.text
    assert outcome.results["pairs"].pairs == 72
    assert isinstance(outcome.run.evaluators[0].dataset, SyntheticFaces)
