"""An evaluator of one's own: how long are the embeddings of a set of faces?"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import facetx
from facetx.benchmarks.receipts import make_receipt
from facetx.config import check_settings
from facetx.data.sets.folder import ImageFolder
from facetx.errors import ConfigError, DataError
from facetx.evaluators import EVALUATORS, Evaluator, How, Result, build_evaluator
from facetx.evaluators.embedding import embed_dataset, embed_views
from facetx.training import start_run


@dataclass(frozen=True)
class Length(Result):
    name: str
    mean: float

    def summary(self):
        return {"length": self.mean}

    def as_dict(self):
        return {"name": self.name, "summary": self.summary()}


class Lengths(Evaluator):
    """The mean length of the embeddings."""

    def __init__(self, dataset, name="lengths"):
        super().__init__(name, dataset)

    def result(self, model, how=How()):  # noqa: B008
        return Length(self.name, float(np.linalg.norm(embed_dataset(model, self.dataset, how), axis=1).mean()))


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(EVALUATORS, "_table", {**EVALUATORS._table, "lengths": Lengths, "none": lambda: 3})
    return EVALUATORS


def test_it_runs_in_training_and_on_what_was_trained(small, faces, tmp_path, table):
    data = {"name": "image_folder", "args": {"root": str(faces)}}
    small |= {
        "evaluators": [{"name": "lengths", "every": 6, "data": data, "allow_overlap": True}],
        "select": "lengths/length",
    }
    outcome = start_run(check_settings(small), tmp_path / "run")
    found = outcome.results["lengths"]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["lengths/length"] for row in rows if "lengths/length" in row][-1] == found.mean > 0
    assert found.table().rows == [("length", f"{found.mean:.4f}")]
    model = facetx.load_model(tmp_path / "run", pointer="LAST")
    assert model.evaluate("lengths", ImageFolder(str(faces))).mean == pytest.approx(found.mean)
    receipt = make_receipt(outcome.run.evaluators[0], model.backbone)
    assert (receipt.flip, receipt.thresholds, receipt.definitions) == (False, None, {})


def test_what_is_no_evaluator_is_named(table):
    with pytest.raises(ConfigError, match="evaluator none: gives a int, which is no Evaluator; make it a subclass"):
        build_evaluator("none", None, {})
    with pytest.raises(DataError, match="lengths: has no data set"):
        Lengths(None).terms()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_embeddings_are_those_of_the_cpu(faces):
    data = ImageFolder(str(faces), size=32)
    model = facetx.create_backbone("vit_p8s8_tiny", image_size=32, depth=1)
    here = embed_views(model, data)
    there = embed_views(model.cuda(), data, How("cuda", batch_size=7, workers=2))
    np.testing.assert_allclose(there, here, atol=2e-2 * np.abs(here).max())
