"""Augmentations of a batch on the device are those of the workers, whoever shares the batch."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from facetx.config import check_settings
from facetx.data.base import Description
from facetx.data.batched import COLOR_CHANGES, recolored
from facetx.data.loader import TrainingItems
from facetx.data.sample import Sides, collate
from facetx.data.transforms import TRANSFORMS, Photometric
from facetx.errors import ConfigError, DataError
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
    "rand_augment": {"changes": 3, "magnitude": 8},
}
WITHIN = {"rand_augment": 255, "affine": 1, "random_crop": 1, "resize": 1, "color_jitter": 12}
"""Of 255; a hue is turned in whole steps by workers, and a level more may be one bit of "posterize" more."""
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
    difference = (found["image"].cpu().int() - expected["image"].int()).abs()
    assert (difference > 1).float().mean() < 0.01  # a rounding may be another bit of "posterize"
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


@pytest.mark.parametrize(
    ("kind", "strength", "by_pillow"),
    [
        ("brightness", 1.4, lambda im: ImageEnhance.Brightness(im).enhance(1.4)),
        ("color", 0.3, lambda im: ImageEnhance.Color(im).enhance(0.3)),
        ("contrast", 1.6, lambda im: ImageEnhance.Contrast(im).enhance(1.6)),
        ("sharpness", 1.8, lambda im: ImageEnhance.Sharpness(im).enhance(1.8)),
        ("posterize", 5.0, lambda im: ImageOps.posterize(im, 5)),
        ("solarize", 120.0, lambda im: ImageOps.solarize(im, 120)),
        ("autocontrast", 0.0, ImageOps.autocontrast),
        ("equalize", 0.0, ImageOps.equalize),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_color_changes_are_those_of_pillow(kind, strength, by_pillow, samples):
    image = samples[0]["image"] // 2 + np.random.default_rng(0).integers(20, 60, (48, 48, 3)).astype(np.uint8)
    kinds = torch.tensor([0.0, COLOR_CHANGES.index(kind)])
    found = recolored(collate([{"image": image}] * 2)["image"], kinds, torch.tensor([1.0, strength]))
    first, second = (one.permute(1, 2, 0).numpy() for one in found)
    assert np.array_equal(first, image)
    expected = np.asarray(by_pillow(Image.fromarray(image))).astype(int)
    difference = np.abs(second.astype(int) - expected)
    assert difference.max() <= 2  # Pillow rounds in between
    assert np.abs(expected - image.astype(int)).max() > 5


def test_rand_augment_draws_everything():
    change, rng = TRANSFORMS.create("rand_augment", changes=1), np.random.default_rng(0)
    drawn = np.stack([change.numbers((48, 48), rng) for _ in range(400)])
    assert set(drawn[:, 0]) == set(range(len(COLOR_CHANGES)))
    assert len(np.unique(drawn[:, 2:], axis=0)) == 1 + 2 * len(change.MOVES)
    with pytest.raises(DataError, match="magnitude in 0..10"):
        TRANSFORMS.create("rand_augment", magnitude=11)


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
