"""Augmentations of a batch on the device are those of the workers, whoever shares the batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from facetx.config import check_settings
from facetx.data.base import Description
from facetx.data.loader import TrainingItems
from facetx.data.sample import Sides, collate
from facetx.data.transforms import TRANSFORMS, Photometric
from facetx.errors import ConfigError
from facetx.training import build, start_run

ARGS = {
    "random_crop": {"size": 48},
    "center_crop": {"size": 40},
    "resize": {"size": 30},
    "color_jitter": {"hue": 0.1},
    "blur": {"p": 0.7},
    "low_resolution": {"p": 0.7},
    "cutout": {"p": 0.7},
    "flip": {},
    "shift": {},
    "affine": {},
}
WITHIN = {"affine": 1, "random_crop": 1, "resize": 1, "color_jitter": 12}
"""Of 255; a hue is turned in whole steps by workers."""
SIDES = Sides.of(Description(1, ("left_eye", "right_eye", "smile"), ("skin", "l_brow", "r_brow")))


def transform(name):
    return TRANSFORMS.create(name, **ARGS[name])


def smooth(rng, size):
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return np.array(small.resize((size, size), Image.Resampling.BICUBIC))


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return [
        {
            "image": smooth(rng, 48),
            "keypoints": rng.random((5, 2)).astype(np.float32),
            "mask": rng.integers(0, 3, (48, 48)).astype(np.uint8),
            "attributes": rng.integers(0, 2, 3).astype(np.float32),
        }
        for _ in range(9)
    ]


def by_workers(change, samples):
    return collate([change(s, np.random.default_rng(i), SIDES) for i, s in enumerate(samples)])


def drawn(change, samples):
    numbers = [change.numbers(s["image"].shape[:2], np.random.default_rng(i)) for i, s in enumerate(samples)]
    return torch.from_numpy(np.stack(numbers))


def test_every_transform_is_tried_here():
    assert set(ARGS) == set(TRANSFORMS.names())


@pytest.mark.parametrize("name", ARGS)
def test_a_batch_is_changed_as_its_images_one_by_one(name, samples):
    change = transform(name)
    ours, theirs = change.of_batch(collate(samples), drawn(change, samples), SIDES), by_workers(change, samples)
    assert ours.keys() == theirs.keys()
    difference = (ours["image"].int() - theirs["image"].int()).abs()
    assert difference.max() <= WITHIN.get(name, 0)
    assert difference.float().mean() < 0.7
    torch.testing.assert_close(ours["keypoints"], theirs["keypoints"], rtol=1e-5, atol=1e-5)
    assert torch.equal(ours["attributes"], theirs["attributes"])
    assert (ours["mask"] != theirs["mask"]).float().mean() < 0.001  # where a pixel's middle lies between two
    if name not in ("center_crop", "resize"):  # it is no test of nothing
        assert not torch.equal(ours["image"], collate(samples)["image"])


@pytest.mark.parametrize("name", ARGS)
def test_an_image_is_the_same_in_every_batch(name, samples):
    change = transform(name)
    batch, numbers = collate(samples), drawn(change, samples)
    whole = change.of_batch(batch, numbers, SIDES)
    for some in (slice(0, 4), slice(4, 5), slice(5, 9)):
        part = change.of_batch({k: v[some] for k, v in batch.items()}, numbers[some], SIDES)
        assert all(torch.equal(part[k], whole[k][some]) for k in whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ARGS)
def test_a_gpu_changes_it_as_a_cpu_does_and_waits_for_nothing(name, samples):
    change = transform(name)
    batch, numbers = collate(samples), drawn(change, samples)
    expected = change.of_batch(batch, numbers, SIDES)
    there = {k: v.cuda() for k, v in batch.items()}, numbers.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = change.of_batch(*there, SIDES)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (found["image"].cpu().int() - expected["image"].int()).abs().max() <= 1
    torch.testing.assert_close(found["keypoints"].cpu(), expected["keypoints"])


def test_blur_is_a_gaussian_and_low_resolution_has_large_cells_and_cutout_a_square():
    dot = np.zeros((31, 31, 3), np.uint8)
    dot[15, 15] = 255
    spread = TRANSFORMS.create("blur", sigma=(1.0, 1.0), p=1.0).image(dot, np.random.default_rng(0))
    line = np.exp(-0.5 * (np.arange(31) - 15.0) ** 2)
    expected = 255 * np.outer(line, line) / line.sum() ** 2
    assert np.abs(spread[..., 0] - expected).max() <= 1
    stripes = np.tile(np.array([0, 255], np.uint8)[None, :, None], (32, 16, 3))
    gray = TRANSFORMS.create("low_resolution", factors=[4], p=1.0).image(stripes, np.random.default_rng(0))
    assert np.abs(gray.astype(int) - 127).max() < 30
    holed = TRANSFORMS.create("cutout", share=0.5, p=1.0).image(
        np.full((32, 32, 3), 9, np.uint8), np.random.default_rng(1)
    )
    rows = np.flatnonzero((holed == 127).all(2).any(1))
    assert set(np.unique(holed)) == {9, 127}
    assert len(rows) <= 16


def test_items_with_numbers_are_finished_to_those_of_the_workers(samples):
    class Data:
        name, mask_classes, labels = "data", (), np.zeros(9, np.int64)
        description = staticmethod(lambda: Description(1))

        def __getitem__(self, index):
            return {"image": samples[index]["image"], "label": 0}

    changes = [
        transform("flip"),
        TRANSFORMS.create("shift"),
        transform("cutout"),
        TRANSFORMS.create("random_crop", size=48),
    ]
    plain = TrainingItems(Data(), changes, seed=3, image_size=48)
    later = TrainingItems(Data(), changes, seed=3, image_size=48, draw_only=True)
    keys = [(1, i) for i in range(9)]
    ours = collate([later[key] for key in keys])
    ours.pop("unreadable")
    finished, theirs = later.finished(ours), collate([plain[key] for key in keys])
    assert "augmentation" not in finished
    assert torch.equal(finished["place"], theirs["place"])
    assert (finished["image"].int() - theirs["image"].int()).abs().max() <= 1
    assert torch.equal(plain.finished({"image": theirs["image"]})["image"], theirs["image"])


def test_a_run_trains_with_them(small, tmp_path, plain_pictures):
    small["data"]["transforms"] = ["flip", {"name": "shift", "args": {"pixels": 2}}]  # whose pixels are the same
    workers = start_run(check_settings(small), tmp_path / "workers")
    small["data"]["augment_on"] = "device"
    device = start_run(check_settings(small), tmp_path / "device")
    for ours, theirs in zip(device.run.task.parameters(), workers.run.task.parameters()):
        assert torch.equal(ours, theirs)


def test_a_transform_that_knows_no_batches_is_told_before_training(small, monkeypatch):
    class noise(Photometric):
        def image(self, image, rng):
            return image

    monkeypatch.setitem(TRANSFORMS._table, "noise", noise)
    small["data"] |= {"transforms": ["noise"], "augment_on": "device"}
    with pytest.raises(ConfigError, match="the transform noise knows no batches; set it to workers"):
        build(check_settings(small))
