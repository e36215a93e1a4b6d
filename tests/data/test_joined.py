"""Several data sets in one batch: what is numbered anew, what is unknown, and which images meet."""

import numpy as np
import pytest
import torch

import facetx
from facetx.config import check_settings
from facetx.data.base import FaceDataset
from facetx.data.digest import overlap
from facetx.data.joined import UNKNOWN, Joined, Member, Together
from facetx.data.loader import StepSampler
from facetx.data.samplers import Shuffled
from facetx.errors import ConfigError, DataError
from facetx.training import start_run
from facetx.training.build import build


class Set(FaceDataset):
    """Plain images; each pixel is the item's index."""

    def __init__(self, name, labels, attributes=(), masks=(), identities=(), namespace=None):
        self.name, self.labels = name, np.asarray(labels, np.int64)
        self.num_classes = int(self.labels.max()) + 1
        self.attribute_names, self.mask_classes = tuple(attributes), tuple(masks)
        self.identities, self.namespace = identities, namespace

    def __getitem__(self, index):
        sample = {"image": np.full((8, 8, 3), index, np.uint8), "label": int(self.labels[index])}
        if self.attribute_names:
            sample["attributes"] = np.array([index % 2, *[1] * (len(self.attribute_names) - 1)], np.float32)
        if self.mask_classes:
            sample["mask"] = np.ones((8, 8), np.uint8)
        return sample


def joined(**flags):
    faces = Set("faces", [0, 0, 1, 2])
    traits = Set("traits", [0, 1, 1], attributes=("Bald", "Young"))
    masks = Set("masks", [0, 1], attributes=("Young",), masks=("background", "skin"))
    return Joined([Member(faces, 2), Member(traits, 2, **flags), Member(masks, 4, identities=False)])


def test_identities_are_numbered_through_and_unknown_ones_are_minus_one():
    data = joined()
    assert data.labels.tolist() == [0, 0, 1, 2, 3, 4, 4, UNKNOWN, UNKNOWN]
    assert (data.num_classes, data.description().some_unknown) == (5, True)
    assert joined(identities=False).labels.tolist() == [0, 0, 1, 2] + [UNKNOWN] * 5
    assert [data[i]["label"] for i in range(9)] == data.labels.tolist()


def test_an_identity_of_one_namespace_is_one():
    a = Set("a", [0, 1, 1], identities=["ann", "bob"], namespace="people")
    b = Set("b", [0, 1], identities=["bob", "eve"], namespace="people")
    data = Joined([Member(a, 1), Member(b, 1)])
    assert data.labels.tolist() == [0, 1, 1, 1, 2]
    assert data.identities == ["a/ann", "a/bob", "b/eve"]
    elsewhere = Joined([Member(a, 1), Member(Set("c", [0, 1], identities=["bob", "eve"], namespace="others"), 1)])
    assert elsewhere.labels.tolist() == [0, 1, 1, 2, 3]


def test_what_a_member_does_not_know_is_unknown():
    data = joined()
    assert data.attribute_names == ("Bald", "Young")
    np.testing.assert_array_equal(data[0]["attributes"], [np.nan, np.nan])
    np.testing.assert_array_equal(data[5]["attributes"], [1, 1])
    np.testing.assert_array_equal(data[8]["attributes"], [np.nan, 1])
    assert data[8]["mask"].min() == 1
    assert data[0]["mask"].min() == 255
    assert data[8]["image"].max() == 1  # the last member's second item


def test_masks_of_other_classes_are_refused():
    sets = [Set(name, [0, 1], masks=("background", name)) for name in ("skin", "hair")]
    with pytest.raises(DataError, match="hair has masks of the classes background, hair, and skin of background, skin"):
        Joined([Member(part, 1) for part in sets])


def test_names_of_the_members_tell_what_is_shared_with_another_set():
    a = Set("a", [0, 1], identities=["ann", "bob"], namespace="people")
    b = Set("b", [0, 1], identities=["x", "y"], namespace="letters")
    a.key = b.key = lambda index: f"image {index}"
    data = Joined([Member(b, 1), Member(a, 1, identities=False)])
    assert str(overlap(data, a)) == "2 identities and 2 images (image 0, image 1)"
    assert not overlap(data, Set("c", [0, 1], identities=["ann", "bob"], namespace="elsewhere"))


def pairs(start, stop, part=0, parts=1):
    labels = np.zeros(8, np.int64), np.zeros(5, np.int64)
    each = [StepSampler(Shuffled(), those, 4, 7 + n, start, stop) for n, those in enumerate(labels)]
    return list(Together(each, part, parts))


def test_each_set_goes_through_its_own_epochs():
    drawn = pairs(0, 4)
    faces = [[pair for pair in batch if pair[1] < 8] for batch in drawn]
    assert all(len(batch) == 8 and len(of_first) == 4 for batch, of_first in zip(drawn, faces))
    assert sorted(index for _, index in faces[0] + faces[1]) == list(range(8))
    assert [sorted({epoch for epoch, _ in batch}) for batch in faces] == [[0], [0], [1], [1]]
    others = [{epoch for epoch, index in batch if index >= 8} for batch in drawn]
    assert others == [{0}, {1}, {2}, {3}]  # five images, four of them a batch


def test_it_goes_on_where_it_was_and_is_dealt_evenly():
    whole = pairs(0, 6)
    assert pairs(3, 6) == whole[3:]
    halves = zip(pairs(0, 6, 0, 2), pairs(0, 6, 1, 2))
    for batch, (one, two) in zip(whole, halves):
        assert one + two == batch
        assert [sum(index < 8 for _, index in half) for half in (one, two)] == [2, 2]


def settings(**changes):
    faces = {"name": "synthetic_faces", "args": {"identities": 6, "images_per_identity": 4}}
    traits = {"name": "synthetic_faces", "args": {"identities": 9, "images_per_identity": 2, "first_identity": 50}}
    given = {
        "name": "joined",
        "task": {"name": "joint", "args": {"layers": [8]}},
        "data": {**traits, "workers": 0, "identities": False, "beside": [{**faces, "share": 0.5}]},
        "model": {"name": "vit_p8s8_tiny", "args": {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4}},
        "head": "cosface",
        "optim": {"lr": 1e-3},
        "train": {"steps": 4, "batch_size": 8, "log_every": 2, "checkpoint_every": 2},
    }
    return check_settings({**given, **changes})


def test_the_loss_of_identities_is_of_those_that_are_known():
    run = build(settings())
    assert run.items[0, 0]["label"] == UNKNOWN
    assert (run.task.head.num_classes, run.steps_per_epoch) == (6, 18 // 4)
    task = run.task.train()
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    labels = torch.tensor([-1, 2, -1, 0, 5, -1])
    traits = torch.randint(0, 2, (6, len(task.attribute_names))).float()
    traits[1] = torch.nan
    found = task({"image": images, "label": labels, "attributes": traits})
    known = [1, 3, 4]
    embeddings = task.embed({"image": images})
    alone = task.head(embeddings[known], labels[known])["loss"]
    torch.testing.assert_close(found["identities/loss"], alone.detach())
    others = task.other.loss(embeddings, {"attributes": traits})["loss"]
    torch.testing.assert_close(found["loss"], alone + others)


def test_people_of_two_sets_are_learned_by_one_head(tmp_path):
    data = settings().data.model_dump(mode="json") | {"identities": True}
    run = build(settings(data=data, task="recognition"))
    assert (run.task.head.num_classes, len(run.dataset)) == (9 + 6, 18 + 24)
    assert not run.dataset.description().some_unknown
    found = start_run(settings(data=data, task="recognition"), tmp_path / "run")
    assert found.step == 4


@pytest.mark.parametrize("cache", [False, True])
def test_a_run_of_two_sets_goes_on_as_it_was(tmp_path, cache):
    given = settings(data={**settings().data.model_dump(mode="json"), "cache": cache})
    start_run(given, tmp_path / "whole")
    checkpoint = tmp_path / "whole/checkpoints/step_00000002"
    start_run(given, tmp_path / "resumed", resume=str(checkpoint))
    whole, resumed = (facetx.load_model(tmp_path / name) for name in ("whole", "resumed"))
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(whole.embed(images), resumed.embed(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "recognition"}, "data.identities: .* this task learns them"),
        ({"optim": {"lr": 1e-3, "accumulate": 8}}, "4 images of a batch are of .* its 8 parts"),
        ({"train": {"steps": 1, "batch_size": 1}}, "each set needs one at least"),
    ],
)
def test_what_does_not_fit_is_said(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(settings(**changes))
