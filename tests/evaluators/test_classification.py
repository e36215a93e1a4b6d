"""Closed-set classification with the trained head."""

import numpy as np
import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS, How, build_evaluator
from facetx.evaluators.classification import Classification
from facetx.heads import HEADS
from facetx.tasks import Task
from facetx.training import start_run
from facetx.training.sinks import read_rows


class Color(nn.Module):
    """The mean color as the embedding, so that right and wrong are known by hand."""

    embedding_dim = 3
    needs_keypoints = False
    contract = InputContract(size=4)

    def forward(self, images):
        return images.mean(dim=(2, 3))


class Plates(FaceDataset):
    """Red, green, blue, and a fourth plate that is labeled green but painted red."""

    name, num_classes, labels = "plates", 3, np.array([0, 1, 2, 1])

    def __getitem__(self, index):
        image = np.zeros((4, 4, 3), np.uint8)
        image[..., [0, 1, 2, 0][index]] = 255
        return {"image": image, "label": int(self.labels[index])}


class Asked(Task):
    """A backbone and a head that are only asked."""

    def __init__(self, backbone, head):
        super().__init__(backbone)
        self.head = head

    def forward(self, batch):
        raise AssertionError("nothing is trained here")

    def predict(self, batch):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        embedding = self.embed(batch)
        return {"embedding": embedding} if self.head is None else {"logits": self.head.logits(embedding)}


def task_of(name="cosface", classes=3, **args):
    head = HEADS.create(name, embedding_dim=3, num_classes=classes, **args)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3)[torch.arange(classes) % 3])
    return Asked(Color(), head)


@pytest.mark.parametrize("batch_size", [1, 3, 128])
@pytest.mark.parametrize("flip", [True, False])  # a plate's mirror has its color
def test_ranks_by_hand(batch_size, flip):
    result = Classification("c", Plates(), flip).result(task_of(margin=0.3), How(batch_size=batch_size))
    # Green's cosine to the red plate is below red's, and level with blue's: a tie is no hit.
    assert result.ranks.tolist() == [0, 0, 0, 2]
    assert result.summary() == {"top1": 0.75, "top5": 1.0}
    assert result.as_dict()["images"] == 4
    assert result.table().head == ("c", "4 images, 3 identities")


def test_the_margin_does_not_count():
    for name, args in (("cosface", {"margin": 1.9}), ("arcface", {"margin": 3.0}), ("normalized_softmax", {})):
        assert Classification("c", Plates()).result(task_of(name, **args)).summary()["top1"] == 0.75


def test_logits_that_are_not_finite_are_no_hit():
    task = task_of("softmax")
    with torch.no_grad():
        task.head.weight.fill_(torch.nan)
    assert Classification("c", Plates()).result(task).summary() == {"top1": 0.0, "top5": 1.0}


def test_a_task_that_gives_no_logits_gives_no_numbers():
    result = Classification("c", Plates()).result(Asked(Color(), None))
    assert result.summary() == {}
    assert result.table().rows == []


def test_the_mode_of_the_task_is_left_alone():
    task = task_of().train()
    task.head.eval()
    Classification("c", Plates()).result(task)
    assert (task.training, task.backbone.training, task.head.training) == (True, True, False)


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match="a backbone alone predicts nothing but embeddings; this asks a whole task"):
        Classification("c", Plates()).result(Color())
    with pytest.raises(DataError, match="c: 3 identities in plates, and the training set has 5; give this evaluator"):
        Classification("c", Plates()).result(task_of(classes=5))


def test_identities_are_compared_by_name():
    plates = Plates()
    plates.identities = ("red", "green", "blue")
    Classification("c", plates).check(["red", "green", "blue"], 3)
    Classification("c", plates).check((), 3)  # they have no names to compare
    with pytest.raises(DataError, match="2 of 3 identities .* number 1 is 'green' here and 'blue' there; give"):
        Classification("c", plates).check(["red", "blue", "green"], 3)
    with pytest.raises(DataError, match="3 identities in plates, and the training set has 2"):
        Classification("c", plates).check(["red", "green"], 2)


def test_it_is_asked_of_any_data_set(faces):
    task = build_evaluator("classification", Plates(), {"flip": True, "name": "mine"}, size=4)
    assert (task.name, task.flip, task.dataset.name) == ("mine", True, "plates")
    short = EVALUATORS["classification"](root=str(faces), part="all")
    assert (short.dataset.name, len(short.dataset)) == (f"{faces.name}/all, test images", 6)


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
    assert evaluator.result(Asked(model, head)).ranks.shape == (4,)
