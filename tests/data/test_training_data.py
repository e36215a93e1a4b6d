"""Folders, transforms, samplers and the loader."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from facetx.data.cache import Cached
from facetx.data.loader import StepSampler, TrainingItems, training_loader
from facetx.data.samplers import SAMPLERS
from facetx.data.sets.folder import ImageFolder, read_image
from facetx.data.transforms import TRANSFORMS, mirror
from facetx.errors import DataError


def test_an_identity_is_a_folder(faces):
    data = ImageFolder(str(faces))
    assert (len(data), data.num_classes) == (30, 6)
    assert data.labels.tolist() == sorted(data.labels.tolist())
    item = data[7]
    assert item["image"].shape == (32, 32, 3)
    assert item["image"].dtype == np.uint8
    assert item["label"] == 1
    assert data.describe(7).endswith("person_1/2.png")


def test_parts_share_no_identity_and_do_not_move_when_one_is_added(faces, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    names = lambda part: ImageFolder(str(root), part, val_identities=0.5).identities  # noqa: E731
    train, val = names("train"), names("val")
    assert len(train) >= 2
    assert len(val) >= 2
    assert sorted(train + val) == [f"person_{i}" for i in range(6)]
    shutil.copytree(root / "person_0", root / "zoe")
    assert set(train) <= set(names("train"))
    assert set(val) <= set(names("val"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no such folder; data needs one folder an identity"),
        (lambda root: root.mkdir(), "holds no images"),
        (lambda root: (root / "only").mkdir(parents=True), "holds no images"),
    ],
)
def test_missing_and_empty_folders_are_told(tmp_path, make, words):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=words):
        ImageFolder(str(tmp_path / "data"))


def test_one_identity_is_too_few(faces, tmp_path):
    shutil.copytree(faces / "person_0", tmp_path / "data/person_0")
    with pytest.raises(DataError, match=r"one identity only \(person_0\)"):
        ImageFolder(str(tmp_path / "data"))
    with pytest.raises(DataError, match="the part 'val' has 0 identities"):
        ImageFolder(str(faces), "val", val_identities=0.0)


def test_a_file_that_is_no_image_is_named(faces, tmp_path):
    whole = (faces / "person_0/0.png").read_bytes()
    for name, content in {"cut.png": whole[: len(whole) // 2], "text.jpg": b"hello", "empty.jpg": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: cannot be read as an image"):
            read_image(tmp_path / name)
    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "whole.jpg")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])
    assert read_image(tmp_path / "whole.jpg").shape == (32, 32, 3)
    with pytest.raises(DataError, match=r"cut.jpg: cannot be read as an image \(.*truncated"):
        read_image(tmp_path / "cut.jpg")
    with pytest.raises(DataError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")


def item():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (20, 20, 3), dtype=np.uint8),
        "label": 0,
        "keypoints": rng.random((5, 2), dtype=np.float32),
    }


@pytest.mark.parametrize("name", ["flip", "shift", "affine", "color_jitter"])
def test_transforms_are_functions_of_their_generator_and_leave_the_item_alone(name):
    transform, given = TRANSFORMS.create(name), item()
    before = {k: np.copy(v) for k, v in given.items()}
    results = [transform(given, np.random.default_rng(seed)) for seed in (1, 1, *range(2, 12))]
    assert all(np.array_equal(given[k], before[k]) for k in given)
    for result in results:
        assert result["image"].shape == (20, 20, 3)
        assert result["image"].dtype == np.uint8
    assert np.array_equal(results[0]["image"], results[1]["image"])
    assert any(not np.array_equal(results[0]["image"], r["image"]) for r in results[2:])


def test_keypoints_move_with_the_image():
    given = item()
    twice = mirror(mirror(given))
    assert np.array_equal(twice["image"], given["image"])
    np.testing.assert_allclose(twice["keypoints"], given["keypoints"], atol=1e-6)

    blank = {"image": np.zeros((20, 20, 3), np.uint8), "label": 0, "keypoints": np.full((5, 2), 0.525, np.float32)}
    blank["image"][10, 10] = 255
    for seed in range(5):
        moved = TRANSFORMS.create("shift", pixels=3)(blank, np.random.default_rng(seed))
        (y,), (x,) = np.nonzero(moved["image"][..., 0])
        np.testing.assert_allclose(moved["keypoints"][0], [(x + 0.5) / 20, (y + 0.5) / 20], atol=1e-6)


def test_color_jitter_of_nothing_is_nothing():
    still = TRANSFORMS.create("color_jitter", brightness=0.0, contrast=0.0, saturation=0.0)
    assert np.array_equal(still(item(), np.random.default_rng(0))["image"], item()["image"])


SHUFFLED = [[1, 0, 2, 4], [13, 3, 9, 6], [5, 7, 12, 8]]
IDENTITIES = [[1, 13, 9, 0], [2, 8, 7, 6], [10, 1, 5, 2]]
IDENTITIES_OF_OTHERS = [[0, 12, 13, 4], [1, 8, 6, 2], [9, 0, 5, 1]]


def epoch(order, labels, batch_size, seed, epoch):
    """All batches of an epoch, (steps, batch_size)."""
    batches = list(order.epoch(labels, batch_size, seed, epoch))
    assert len(batches) == order.steps(labels, batch_size)
    return np.stack(batches)


def test_shuffled_takes_every_item_once_in_an_order_of_its_own():
    labels = np.repeat(np.arange(5), 5)
    order = SAMPLERS.create("shuffled")
    first, again, next_epoch = (epoch(order, labels, 5, 1, e) for e in (0, 0, 1))
    assert sorted(first.ravel()) == list(range(25))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_epoch)
    assert not np.array_equal(first, epoch(order, labels, 5, 2, 0))
    assert epoch(order, labels, 4, 1, 0).shape == (6, 4)
    with pytest.raises(DataError, match="25 images do not fill one batch of 26"):
        order.steps(labels, 26)


def test_identities_gives_p_times_k():
    labels = np.repeat(np.arange(7), [3, 4, 5, 3, 9, 3, 3])
    batches = epoch(SAMPLERS.create("identities", images=3), labels, 9, 0, 0)
    assert batches.shape == (3, 9)
    for batch in batches:
        who, counts = np.unique(labels[batch], return_counts=True)
        assert len(who) == 3
        assert set(counts) == {3}
        assert len(set(batch.tolist())) == 9
    met = np.concatenate([np.unique(labels[b]) for b in batches])
    assert np.bincount(met, minlength=7).min() >= 1
    with pytest.raises(DataError, match=r"needs 4 images of each identity; 4 have fewer \(classes 0, 3, 5, 6\)"):
        SAMPLERS.create("identities", images=4).steps(labels, 8)
    with pytest.raises(DataError, match="not a multiple of 3"):
        SAMPLERS.create("identities", images=3).steps(labels, 10)
    with pytest.raises(DataError, match="there are 7 identities"):
        SAMPLERS.create("identities", images=1).steps(labels, 8)


def test_the_orders_of_earlier_versions_stay():
    """Recorded when an epoch was still made as a whole; another order would be another run for the same seed."""
    labels = np.array([3, 1, 0, 3, 1, 0, 2, 2, 0, 3, 1, 2, 0, 1])
    shuffled, people = SAMPLERS.create("shuffled"), SAMPLERS.create("identities", images=2)
    assert epoch(shuffled, labels, 4, 7, 2).tolist() == SHUFFLED
    assert epoch(people, labels, 4, 7, 2).tolist() == IDENTITIES
    assert epoch(people, labels[::-1].copy(), 4, 7, 2).tolist() == IDENTITIES_OF_OTHERS


def loaded(faces, start, stop, workers, cached=False):
    data = ImageFolder(str(faces))
    transforms = [TRANSFORMS.create("flip"), TRANSFORMS.create("shift"), TRANSFORMS.create("color_jitter")]
    items = TrainingItems(Cached(data) if cached else data, transforms, seed=3, image_size=32)
    sampler = StepSampler(SAMPLERS.create("shuffled"), data.labels, 7, 3, start, stop)
    assert sampler.steps_per_epoch == 4
    return list(training_loader(items, sampler, workers, pin_memory=False))


def test_batches_are_the_same_from_any_step_on_with_any_number_of_workers(faces):
    whole = loaded(faces, 0, 9, 0)
    assert len(whole) == 9
    assert whole[0]["image"].shape == (7, 3, 32, 32)
    assert whole[0]["image"].dtype == torch.uint8
    for start, workers, cached in ((0, 2, False), (3, 1, False), (4, 0, True), (6, 2, True)):
        part = loaded(faces, start, 9, workers, cached)
        assert len(part) == 9 - start
        for a, b in zip(whole[start:], part):
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["label"], b["label"])
    assert not torch.equal(whole[0]["image"], whole[4]["image"])


def test_a_cache_gives_the_same_items_and_reads_each_once(faces):
    class Counting(ImageFolder):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    data = Counting(str(faces))
    cached = Cached(data)
    for _ in range(3):
        for i in range(len(data)):
            assert np.array_equal(cached[i]["image"], ImageFolder.__getitem__(data, i)["image"])
    assert data.reads == 31  # one for the shape, then each once


def test_a_cache_wants_one_size(faces, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    Image.new("RGB", (40, 40)).save(root / "person_3/0.png")
    with pytest.raises(DataError, match="a cache needs images of one size"):
        _ = Cached(ImageFolder(str(root)))[15]
