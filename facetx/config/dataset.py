"""A data set from its settings."""

from typing import Literal

from facetx.config.parts import Part, create
from facetx.data import DATASETS, FaceDataset
from facetx.data.crop import Aligned, Cropped
from facetx.evaluators import args_with_size


def open_dataset(part: Part, size: int | None, crop: bool | Literal["face"] = False) -> FaceDataset:
    """The data set that ``part`` names.

    Args:
        part: Its name and arguments.
        size: The model's, to which its images are resized unless its arguments say another; None leaves them.
        crop: Cut images that are not square to the largest square in their middle, which are an error otherwise; or
            "face", cut the face out by its keypoints.
    """
    if not crop:
        return create(DATASETS, Part(name=part.name, args=args_with_size(DATASETS, part.name, part.args, size)))
    args = dict(part.args)
    size = args.pop("size", size)
    wrap = Aligned if crop == "face" else Cropped
    return wrap(create(DATASETS, Part(name=part.name, args=args)), size)
