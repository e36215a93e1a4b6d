import numpy as np

from facetx.data import FaceDataset
from facetx.data.crop import Cropped


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
