"""The embeddings of a data set, through backbones whose output is known."""

import numpy as np
import pytest
import torch
from torch import nn

from facetx.contract import InputContract
from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators import How
from facetx.evaluators.embedding import embed_dataset, embed_views
from facetx.evaluators.reading import answered, mirror_keypoints, read_batches
from facetx.tasks import Task


class Faces(FaceDataset):
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
    got = embed_dataset(LeftHalf(), faces, How(batch_size=7), flip=False)
    assert (got.dtype, got.shape) == (np.float32, (20, 3))
    np.testing.assert_allclose(got, left(faces.images), rtol=1e-5)


def test_flip_sums_the_image_and_its_mirror():
    faces = Faces()
    image, mirror = left(faces.images), left(faces.images[:, :, ::-1])
    np.testing.assert_allclose(embed_dataset(LeftHalf(), faces), image + mirror, rtol=1e-5)
    np.testing.assert_allclose(embed_views(LeftHalf(), faces), [image, mirror], rtol=1e-5)


def test_chosen_items_and_worker_processes():
    faces = Faces()
    got = embed_views(LeftHalf(), faces, How(batch_size=2, workers=2), indices=[7, 3, 3], flip=False)
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
    full, half = (embed_dataset(backbone, faces, How(amp=amp)) for amp in (False, True))
    assert half.dtype == np.float32
    assert (full != half).any()
    np.testing.assert_allclose(full, half, atol=0.05)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_name_the_image_also_from_a_worker(workers):
    words = r"^faces, item 0: the image is 20x20, and this model takes"
    with pytest.raises(DataError, match=words):
        embed_dataset(LeftHalf(), Faces(size=20), How(workers=workers))


def test_embeddings_that_are_not_finite_name_their_images():
    faces = Faces()
    first = embed_views(LeftHalf(), faces)[0, :, 0]

    class Sick(LeftHalf):
        def forward(self, images):
            out = super().forward(images)
            return torch.where(out[:, :1] > first.mean(), torch.nan, out)

    with pytest.raises(DataError, match=r"embeddings of \d+ images are NaN or infinite: faces, item \d+.*and \d+ more"):
        embed_views(Sick(), faces)
    sick = np.flatnonzero(first > first.mean())
    with pytest.raises(DataError, match=f"of {len(sick)} images .*: faces, item {sick[0]}, faces, item {sick[1]}, "):
        embed_views(Sick(), faces, flip=False)


def test_a_task_is_embedded_by_its_backbone():
    class Plain(Task):
        def forward(self, batch):
            raise AssertionError("nothing is trained here")

        def predict(self, batch):
            raise AssertionError("nothing but embeddings is asked for")

    faces = Faces()
    np.testing.assert_array_equal(embed_views(Plain(LeftHalf()), faces), embed_views(LeftHalf(), faces))


def test_other_code_can_stand_in_for_the_embedding():
    seen = []

    def canned(model, dataset, how, *, indices, flip):
        seen.append((dataset.name, how.batch_size, indices, flip))
        return np.ones((2, 20, 3), np.float32)

    assert embed_dataset(LeftHalf(), Faces(), How(batch_size=9, embed=canned)).tolist() == [[2, 2, 2]] * 20
    assert seen == [("faces", 9, None, True)]


def test_other_fields_are_read_where_they_are_asked_for():
    class Marked(Faces):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "attributes": np.array([index, 0], np.float32)}

    asked = frozenset({"attributes", "label"})
    ((items, batch),) = read_batches(Marked(), LeftHalf(), How(), indices=[4, 2], fields=asked)
    assert (items, sorted(batch)) == ([4, 2], ["attributes", "image", "label"])
    assert batch["attributes"].tolist() == [[4, 0], [2, 0]]
    assert batch["label"].tolist() == [0, 0]
    np.testing.assert_array_equal(batch["image"][1].permute(1, 2, 0), Faces().images[2])
    with pytest.raises(DataError, match="faces, item 0: the field 'attributes' is asked for, and this image has none"):
        list(read_batches(Faces(), LeftHalf(), How(), fields=asked))


def test_a_cpu_is_asked_for_some_images_at_a_time_and_says_the_same():
    seen = []

    def ask(batch):
        seen.append(len(batch["image"]))
        assert len(batch["keypoints"]) == len(batch["image"])
        return {"embedding": batch["image"].flatten(1).float(), "logits": batch["keypoints"].sum((1, 2))}

    batch = {"image": torch.randint(256, (40, 3, 4, 4), dtype=torch.uint8), "keypoints": torch.rand(40, 5, 2)}
    found = answered(torch.nn.Identity(), ask, batch, How(batch_size=64))
    assert seen == [16, 16, 8]
    assert torch.equal(found["embedding"], batch["image"].flatten(1).float())
    assert torch.equal(found["logits"], batch["keypoints"].sum((1, 2)))
