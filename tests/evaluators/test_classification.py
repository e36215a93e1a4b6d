"""Closed-set classification with the trained head."""

import numpy as np
import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS
from facetx.heads import HEADS, JointHead
from facetx.training import start_run
from facetx.training.sinks import read_rows


class Color(nn.Module):
    """The mean color as the embedding, so that right and wrong are known by hand."""

    embedding_dim = 3
    needs_keypoints = False
    contract = InputContract(size=4)

    def forward(self, images):
        return images.mean(dim=(2, 3))


class Plates:
    """Red, green, blue, and a fourth plate that is labeled green but painted red."""

    name, num_classes, labels = "plates", 3, np.array([0, 1, 2, 1])

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = np.zeros((4, 4, 3), np.uint8)
        image[..., [0, 1, 2, 0][index]] = 255
        return {"image": image, "label": int(self.labels[index])}


def head_of(name="cosface", classes=3, **args):
    head = HEADS.create(name, embedding_dim=3, num_classes=classes, **args)
    if name != "triplet":
        with torch.no_grad():
            head.weight.copy_(torch.eye(3)[torch.arange(classes) % 3])
    return head


def evaluator_on(dataset):
    evaluator = EVALUATORS["synthetic_classification"](identities=2, images_per_identity=1, size=16)
    evaluator.dataset = dataset
    return evaluator


@pytest.mark.parametrize("batch_size", [1, 3, 128])
def test_ranks_by_hand(batch_size):
    result = evaluator_on(Plates()).result(Color(), head=head_of(margin=0.3), batch_size=batch_size)
    # Green's cosine to the red plate is below red's, and level with blue's: a tie is no hit.
    assert result.ranks.tolist() == [0, 0, 0, 2]
    assert result.summary() == {"top1": 0.75, "top5": 1.0}
    assert result.as_dict()["images"] == 4


def test_the_margin_does_not_count():
    for name, args in (("cosface", {"margin": 1.9}), ("arcface", {"margin": 3.0}), ("normalized_softmax", {})):
        assert evaluator_on(Plates()).result(Color(), head=head_of(name, **args)).summary()["top1"] == 0.75


def test_logits_that_are_not_finite_are_no_hit():
    head = head_of("softmax")
    with torch.no_grad():
        head.weight.fill_(torch.nan)
    assert evaluator_on(Plates()).result(Color(), head=head).summary() == {"top1": 0.0, "top5": 1.0}


def test_a_head_without_class_centers_gives_no_numbers():
    result = evaluator_on(Plates()).result(Color(), head=head_of("triplet"))
    assert result.summary() == {}
    assert dict(evaluator_on(Plates())(Color(), head=head_of("triplet"))) == {}
    joint = JointHead([(1.0, head_of("triplet")), (0.5, head_of("softmax"))])
    assert evaluator_on(Plates()).result(Color(), head=joint).summary()["top1"] == 0.75


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match="classification needs the trained head"):
        evaluator_on(Plates()).result(Color())
    with pytest.raises(DataError, match="3 identities in plates, but the head was trained on 5; give this evaluator"):
        evaluator_on(Plates()).result(Color(), head=head_of(classes=5))


def test_it_runs_as_an_evaluator_of_training(small, faces, tmp_path):
    """The same identities, images that training does not see: chance is one in six."""
    images = {"root": str(faces), "test_images": 0.4}
    small["data"]["args"] = {**images, "images": "train"}
    small["evaluators"] = [{"name": "classification", "every": 12, "args": {**images, "part": "all"}}]
    small |= {"select": "classification/top1", "head": {"name": "softmax"}}
    small["optim"]["lr"] = 1e-2
    small["train"]["steps"] = 24
    outcome = start_run(check_settings(small), tmp_path / "run")
    rows = [r for r in read_rows(tmp_path / "run/metrics.jsonl") if "classification/top1" in r]
    assert [r["step"] for r in rows] == [12, 24]
    assert rows[-1]["classification/top1"] == outcome.results["classification"].summary()["top1"] >= 0.5
    assert [p.name for p in (tmp_path / "run/pictures").iterdir()] == ["training.png"]


def test_keypoints_reach_a_backbone_that_needs_them():
    evaluator = EVALUATORS["synthetic_classification"](identities=2, images_per_identity=2, size=16)
    model = BACKBONES.create("vit_kprpe_tiny", image_size=16, patch_size=8, dim=24, depth=1, heads=3, mlp_dim=24)
    head = HEADS.create("arcface", embedding_dim=model.embedding_dim, num_classes=2)
    assert evaluator.result(model, head=head).ranks.shape == (4,)
