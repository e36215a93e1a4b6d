import numpy as np
import pytest

from facetx.data import FaceDataset
from facetx.data.align import template
from facetx.data.base import Wrapped
from facetx.data.crop import FACE, Aligned, Cropped
from facetx.data.sample import Map, moved
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError


class Tall(FaceDataset):
    """One image of 4 x 10 pixels; one pixel of it is marked, in every field."""

    name, labels, num_classes, attribute_names, mask_classes = "tall", np.zeros(1, np.int64), 1, ("smiling",), ("skin",)

    def __getitem__(self, index):
        image, mask = np.zeros((10, 4, 3), np.uint8), np.zeros((10, 4), np.uint8)
        image[4, 1], mask[4, 1] = 90, 1
        keypoints = np.full((5, 2), (1.5 / 4, 4.5 / 10), np.float32)
        return {"image": image, "label": 0, "mask": mask, "keypoints": keypoints, "attributes": np.ones(1, np.float32)}


def test_the_square_in_the_middle_is_cut_out_of_all_fields():
    cropped = Cropped(Tall(), None)
    sample = cropped[0]
    assert sample["image"].shape == (4, 4, 3)
    assert np.argwhere(sample["image"][..., 0]).tolist() == np.argwhere(sample["mask"]).tolist() == [[1, 1]]
    np.testing.assert_allclose(sample["keypoints"] * 4, np.full((5, 2), 1.5), atol=1e-6)
    assert (cropped.attribute_names, cropped.mask_classes) == (("smiling",), ("skin",))


def test_it_is_resized_to_the_size_that_is_asked_for():
    sample = Cropped(Tall(), 8)[0]
    assert np.argwhere(sample["mask"]).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    np.testing.assert_allclose(sample["keypoints"] * 8, np.full((5, 2), 3.0), atol=1e-6)


class Turned(Wrapped):
    """Images turned and moved in a frame that is not square."""

    def __getitem__(self, index):
        turn = 0.5 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
        return moved(self.dataset[index], Map(np.column_stack([turn, (60.0, 10.0)]), (112, 112), (90, 140)))


def test_a_face_is_cut_out_upright_with_all_that_lies_on_it():
    drawn = SyntheticFaces(3, 1)
    aligned, plain = Aligned(Turned(drawn), 200), Aligned(drawn, 200)
    for index in range(3):
        item, same = aligned[index], plain[index]
        assert item["image"].shape == (200, 200, 3)
        goal = (template(200) + 0.5 - 100) * FACE + 100
        assert np.abs(item["keypoints"] * 200 - goal).mean() < 8  # they lie about the template, as faces do
        np.testing.assert_allclose(item["keypoints"], same["keypoints"], atol=1e-4)
        eyes = [np.argwhere(item["mask"] == c).mean(0)[::-1] + 0.5 for c in (4, 5)]
        np.testing.assert_allclose(eyes, item["keypoints"][:2] * 200, atol=6)
        middle = np.s_[60:150, 60:140]
        assert (item["mask"][middle] == same["mask"][middle]).mean() > 0.9
    assert Aligned(Turned(drawn), None)[0]["image"].shape == (90, 90, 3)


def test_without_keypoints_no_face_is_cut_out():
    class Bare(Wrapped):
        def __getitem__(self, index):
            return {"image": np.zeros((8, 8, 3), np.uint8), "label": 0}

    with pytest.raises(DataError, match="has no keypoints to align the face by"):
        Aligned(Bare(SyntheticFaces(1, 1)), 8)[0]
