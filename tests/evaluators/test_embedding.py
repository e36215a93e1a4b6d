"""The embeddings of a data set, through backbones whose output is known."""

import numpy as np
import pytest
import torch
from torch import nn

from facetx.contract import InputContract
from facetx.errors import DataError
from facetx.evaluators.embedding import embed_dataset, embed_views, mirror_keypoints


class Faces:
    """Random images, five to an identity."""

    name = "faces"
    num_classes = 4

    def __init__(self, size=16, keypoints=True):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (20, size, size, 3), dtype=np.uint8)
        self.points = rng.random((20, 5, 2), dtype=np.float32) if keypoints else None
        self.labels = np.repeat(np.arange(4), 5)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        item = {"image": self.images[index], "label": int(self.labels[index])}
        return item if self.points is None else {**item, "keypoints": self.points[index]}


class LeftHalf(nn.Module):
    """The mean color of the left half, so that a mirror counts; and a part that acts in training mode only."""

    contract = InputContract(size=16, mean=(0,), std=(1,))
    embedding_dim = 3
    needs_keypoints = False

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.drop(images[..., :8].mean(dim=(2, 3)) * self.weight)


class Points(nn.Module):
    """Its keypoints."""

    contract = InputContract(size=16)
    embedding_dim = 10
    needs_keypoints = True

    def forward(self, images, keypoints):
        return keypoints.flatten(1)


def left(images):
    return images[:, :, :8].mean(axis=(1, 2))


def test_embeddings_stand_in_the_order_of_the_data_set():
    faces = Faces()
    got = embed_dataset(LeftHalf(), faces, batch_size=7, flip=False)
    assert (got.dtype, got.shape) == (np.float32, (20, 3))
    np.testing.assert_allclose(got, left(faces.images), rtol=1e-5)


def test_flip_sums_the_image_and_its_mirror():
    faces = Faces()
    image, mirror = left(faces.images), left(faces.images[:, :, ::-1])
    np.testing.assert_allclose(embed_dataset(LeftHalf(), faces), image + mirror, rtol=1e-5)
    np.testing.assert_allclose(embed_views(LeftHalf(), faces), [image, mirror], rtol=1e-5)


def test_chosen_items_and_worker_processes():
    faces = Faces()
    got = embed_views(LeftHalf(), faces, indices=[7, 3, 3], batch_size=2, flip=False, workers=2)
    np.testing.assert_allclose(got, left(faces.images[[7, 3, 3]])[None], rtol=1e-5)


def test_the_mode_of_every_module_and_the_random_state_are_left_alone():
    backbone = LeftHalf().train()
    backbone.frozen.eval()
    state = torch.get_rng_state()
    embed_dataset(backbone, Faces())
    assert backbone.training
    assert backbone.drop.training
    assert not backbone.frozen.training
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_keypoints_are_given_and_mirrored_with_the_image():
    faces = Faces()
    image, mirror = embed_views(Points(), faces)
    np.testing.assert_array_equal(image, faces.points.reshape(20, 10))
    left_eye, right_eye, nose, left_mouth, right_mouth = mirror.reshape(20, 5, 2).transpose(1, 0, 2)
    for got, before in ((left_eye, 1), (right_eye, 0), (nose, 2), (left_mouth, 4), (right_mouth, 3)):
        np.testing.assert_allclose(got[:, 0], 1 - faces.points[:, before, 0])
        np.testing.assert_array_equal(got[:, 1], faces.points[:, before, 1])


def test_mirrored_twice_is_the_same():
    points = torch.rand(6, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(mirror_keypoints(mirror_keypoints(points)), points)


def test_wrong_size_and_missing_keypoints_name_the_image():
    faces = Faces(size=20)
    with pytest.raises(
        DataError, match=r"faces, item 0: the image is 20x20, and this model takes .* 16x16 pixels; align"
    ):
        embed_dataset(LeftHalf(), faces)
    with pytest.raises(DataError, match="faces, item 4: this model needs five keypoints"):
        embed_views(Points(), Faces(keypoints=False), indices=[4])


def test_amp_stays_near():
    faces = Faces()
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(768, 8))
    backbone.contract, backbone.embedding_dim, backbone.needs_keypoints = InputContract(size=16), 8, False
    full, half = (embed_dataset(backbone, faces, amp=amp) for amp in (False, True))
    assert half.dtype == np.float32
    assert (full != half).any()
    np.testing.assert_allclose(full, half, atol=0.05)
