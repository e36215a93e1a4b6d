"""A data set from its settings."""

from typing import Literal

from facetx.config.parts import Part, create
from facetx.config.settings import DataSettings
from facetx.data import DATASETS, FaceDataset
from facetx.data.crop import Aligned, Cropped
from facetx.data.joined import Joined, Member
from facetx.errors import ConfigError
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


def open_training_set(data: DataSettings, size: int | None, batch_size: int) -> FaceDataset:
    """The data set that ``data`` names, with those beside it where there are any.

    Args:
        data: Of the settings.
        size: As for ``open_dataset``.
        batch_size: Images of a batch, which the sets share.

    Raises ``ConfigError`` where a set would have no image in a batch.
    """
    first = open_dataset(data, size, data.crop)
    if not data.beside and data.identities:
        return first
    each = [round(part.share * batch_size) for part in data.beside]
    if min([*each, batch_size - sum(each)]) < 1:
        raise ConfigError(
            f"data.beside: with shares of {', '.join(str(p.share) for p in data.beside)}, a batch of {batch_size} has "
            f"{batch_size - sum(each)} images of {first.name}, and {', '.join(map(str, each))} of the others; each "
            "set needs one at least"
        )
    members = [Member(first, batch_size - sum(each), data.identities)]
    for part, count in zip(data.beside, each):
        members.append(Member(open_dataset(part, size, part.crop), count, part.identities))
    return Joined(members)
