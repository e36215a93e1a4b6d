"""The question attributes: by hand on data of known answers, its notes, thresholds of another split, and its page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import facetx
from facetx.benchmarks.suite import run_question, write_outcome
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.attribute_groups import CELEBA
from facetx.data.base import FaceDataset
from facetx.data.digest import overlap
from facetx.errors import ConfigError, DataError
from facetx.evaluators import How, build_evaluator
from facetx.evaluators.attributes import PUBLISHED, AttributeEvaluator, AttributeResult
from facetx.plots.attributes import plot_radar
from facetx.plots.page import write_results
from facetx.tasks import Task
from facetx.training import start_run
from facetx.training.build import check_overlap

NAN = np.nan


class Nothing(nn.Module):
    embedding_dim = 3
    needs_keypoints = False
    contract = InputContract(size=4)


class Asked(Task):
    """Says of each attribute the logit that the image's first pixels show, in twentieths about 100."""

    def __init__(self, names):
        super().__init__(Nothing())
        self.attribute_names = names

    def forward(self, batch):
        raise AssertionError("nothing is trained here")

    def predict(self, batch):
        assert not self.training
        return {"attributes": (batch["image"][:, 0, 0, : len(self.attribute_names)].float() - 100) / 20}


class Shown(FaceDataset):
    """Images that show logits, with their labels."""

    name, num_classes = "shown", 2

    def __init__(self, names, logits, labels, identities=("ann", "bob")):
        self.attribute_names = tuple(names)
        self.logits, self.attributes = np.array(logits), np.array(labels, np.float32)
        self.labels = np.arange(len(logits)) % 2
        self.identities = identities
        self.namespace = "shown"

    def __getitem__(self, index):
        image = np.full((4, 4, 3), 100, np.uint8)
        image[0, : self.logits.shape[1]] = (100 + 20 * self.logits[index])[:, None]
        return {"image": image, "label": int(self.labels[index]), "attributes": self.attributes[index]}


@pytest.fixture
def shown():
    """Four images: Male right on three of four, Bald never there, Young with an unknown label."""
    logits = [[2, -1, 1], [1, -2, -1], [-1, -1, 3], [-4, 2, 1]]
    labels = [[1, 0, 1], [0, 0, 1], [0, 0, NAN], [0, 0, 0]]
    return Shown(("Male", "Bald", "Young"), logits, labels)


def test_numbers_by_hand(shown):
    result = AttributeEvaluator(shown).result(Asked(("Male", "Bald", "Young")), How(batch_size=3))
    found = result.summary()
    assert found["accuracy_micro"] == pytest.approx(7 / 11)  # 3 of 4, 3 of 4, 1 of 3
    assert found["accuracy_macro"] == pytest.approx((3 / 4 + 3 / 4 + 1 / 3) / 3)
    assert found["recall_micro"] == pytest.approx(2 / 3)
    assert found["specificity_micro"] == pytest.approx(5 / 8)
    assert found["balanced_accuracy"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 0) / 2) / 2)  # Bald is constant
    assert found["majority"] == pytest.approx((3 + 4 + 2) / 11)
    losses = [np.log1p(np.exp(z)) for z in (-2, 1, -1, -4, -1, -2, -1, 2, -1, 1, 1)]
    assert found["loss"] == pytest.approx(np.mean(losses))
    assert found["map"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert result.worst(9) == [(3, 1), (1, 0)]
    assert result.notes == ("constant on these images, so without average precision and balanced accuracy: Bald",)
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["attributes"]["Bald"]["average_precision"] is None
    assert plain["attributes"]["Young"]["labels"] == 3
    assert plain["macro"]["accuracy"] == found["accuracy_macro"]


def test_attributes_are_matched_by_name_and_the_others_are_told(shown):
    task = Asked(("young", "Goatee", "male"))
    shown.logits = shown.logits[:, [2, 1, 0]]  # as this model has them
    result = AttributeEvaluator(shown).result(task)
    assert result.attribute_names == ("Male", "Young")
    assert result.logits.tolist() == [[2, 1], [1, -1], [-1, 3], [-4, 1]]
    np.testing.assert_array_equal(result.labels, shown.attributes[:, [0, 2]])
    assert result.notes[:2] == (
        "the model lacks these attributes of the data, which are left out: Bald",
        "the data lacks these attributes of the model, which are not measured: Goatee",
    )


def test_mirrors_are_averaged_and_their_sides_exchanged():
    data = Shown(("scar_left", "scar_right"), [[2, -1, 1, 3]], [[1, 0]])
    result = AttributeEvaluator(data, mirrors=True).result(Asked(data.attribute_names))
    assert result.logits.tolist() == [[(2 + 1) / 2, (-1 + 3) / 2]]  # the mirror shows 3 to the left, which is its right


def test_thresholds_of_another_split(shown, tmp_path):
    task = Asked(shown.attribute_names)
    on_val = AttributeEvaluator(shown).result(task)
    (tmp_path / "val.json").write_text(json.dumps(on_val.as_dict()))
    evaluator = AttributeEvaluator(shown, thresholds=str(tmp_path / "val.json"))
    better = evaluator.result(task)
    assert better.summary()["balanced_accuracy"] > on_val.summary()["balanced_accuracy"]
    sigmoid = 1 / (1 + np.exp(-np.array([1.0, 2.0])))
    assert better.thresholds[0] == pytest.approx(sigmoid.mean())
    assert evaluator.terms().thresholds == str(tmp_path / "val.json")
    above = AttributeEvaluator(shown, thresholds=0.8).result(task)
    assert above.rates[0].tp == 1
    assert above.rates[0].fp == 0


@pytest.mark.parametrize("text", ["no json", "[]", '{"best_thresholds": {"Male": "x"}}', '{"best_thresholds": {}}'])
def test_files_without_thresholds_are_told(shown, tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json: (is no result|has thresholds in 0\.\.1 for none)"):
        AttributeEvaluator(shown, thresholds=str(tmp_path / "x.json"))


def test_what_cannot_be_asked_is_told(shown):
    with pytest.raises(DataError, match="attributes: this model predicts no attributes; take one of the task"):
        AttributeEvaluator(shown).result(Asked(()))
    with pytest.raises(DataError, match="shown: has none of the model's attributes; it has Male, Bald, Young, and the"):
        AttributeEvaluator(shown).result(Asked(("Goatee",)))
    with pytest.raises(ConfigError, match="has no data to ask by"):
        build_evaluator("attributes", None, {})
    with pytest.raises(ConfigError, match="shown has no attributes"):
        AttributeEvaluator(Shown((), [[0]], [[0]]))
    with pytest.raises(ConfigError, match="thresholds must be between 0 and 1"):
        AttributeEvaluator(shown, thresholds=1.5)
    shown.attributes[:] = NAN
    with pytest.raises(DataError, match="says of no image whether it has an attribute"):
        AttributeEvaluator(shown).result(Asked(shown.attribute_names))


def test_people_may_be_known_and_images_not(shown):
    half = Shown(shown.attribute_names, shown.logits[:2], shown.attributes[:2])
    half.key = lambda index: f"other {index}"
    assert overlap(shown, half).identities == 2
    check_overlap(shown, AttributeEvaluator(half))
    with pytest.raises(DataError, match="of its data are trained on"):
        check_overlap(shown, AttributeEvaluator(Shown(shown.attribute_names, shown.logits, shown.attributes)))


def random_result(names, images=60):
    rng = np.random.default_rng(0)
    labels = (rng.random((images, len(names))) < 0.3).astype(np.float32)
    logits = (2 * labels - 1 + rng.normal(0, 1, labels.shape)).astype(np.float32)
    return AttributeResult("mine", tuple(names), logits, labels, np.full(len(names), 0.5))


def test_celebas_attributes_stand_beside_published_figures(tmp_path):
    result = random_result(sorted(CELEBA))
    *_, each, beside = result.tables()
    assert len(each.rows) == 40
    assert [row[1] for row in each.rows[:9]] == ["whole face"] * 9
    assert [row[0] for row in beside.rows] == ["mine", *PUBLISHED]
    assert beside.rows[0][1] == f"{100 * result.summary()['accuracy_micro']:.2f}"
    assert beside.rows[1][1:] == ("90.90", "73.00", "96.30")
    assert len(random_result(["Male", "Bald"]).tables()) == 3
    plot_radar({"a": result, "b": random_result(sorted(CELEBA), 30)}, tmp_path / "radar.png")
    assert (tmp_path / "radar.png").stat().st_size > 50_000


def test_a_run_is_trained_drawn_and_asked_again(tmp_path):
    faces = {"identities": 6, "images_per_identity": 6, "size": 16}
    held = {"name": "synthetic_faces", "args": {**faces, "first_identity": 50}}
    settings = check_settings(
        {
            "name": "small",
            "task": {"name": "attributes", "args": {"layers": [8]}},
            "data": {"name": "synthetic_faces", "args": faces, "workers": 0},
            "model": {
                "name": "vit_p8s8_tiny",
                "args": {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 8},
            },
            "optim": {"lr": 1e-3, "ema": 0.5},
            "train": {"steps": 4, "batch_size": 6, "checkpoint_every": 4},
            "evaluators": [{"name": "attributes", "data": held, "args": {"name": "val"}}],
            "select": "val/accuracy_macro",
        }
    )
    outcome = start_run(settings, tmp_path / "run")
    drawn = {p.name for p in (tmp_path / "run/pictures").iterdir()}
    assert drawn == {"training.png", "val_radar.png", "val_calibration.png", "val_wrong.png"}
    model = facetx.load_model(tmp_path / "run", device="cpu")
    data = facetx.DATASETS["synthetic_faces"](**held["args"])
    asked = run_question(lambda whole: model.model, "attributes", data, "faces_attributes", args={"name": "again"})
    trained = outcome.results["val"].summary()  # of the averaged weights, which are what was published
    assert asked.result.summary() == pytest.approx(trained, rel=1e-5)
    write_outcome(tmp_path / "out/faces_attributes.json", asked, {})
    text = write_results(Path(tmp_path / "out/faces"), "small", {}, [asked])
    written = json.loads((tmp_path / "out/faces_attributes.json").read_text())
    assert written["summary"]["accuracy_macro"] == asked.result.summary()["accuracy_macro"]
    assert len(written["receipt"]["weights"]) == 64
    assert "95 % interval" in text
    page = (tmp_path / "out/faces.html").read_text()
    assert page.count("data:image/png") == 2
    assert page.count("<img class=whole") == len(asked.result.worst(20)) > 0
    with torch.no_grad():
        model.model.heads.heads[0][0].bias += 1
    other = run_question(lambda whole: model.model, "attributes", data, "x")
    assert other.receipt.weights != asked.receipt.weights
