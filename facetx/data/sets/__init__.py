"""Kinds of data sets, one a file, and here the table of their names."""

from collections.abc import Callable

from facetx.data.base import FaceDataset
from facetx.data.sets.attributes import AttributeCsv, CelebA
from facetx.data.sets.folder import ImageFolder
from facetx.data.sets.hugging_face import HuggingFaceFolder
from facetx.data.sets.image_list import ImageList
from facetx.data.sets.masks import MaskFolder
from facetx.data.sets.packed import Packed
from facetx.data.sets.parsing import CelebAMaskHQ, Helen, LaPa
from facetx.data.sets.records import RecordFaces
from facetx.data.sets.shards import Shards
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.registry import Registry

DATASETS: Registry[Callable[..., FaceDataset]] = Registry(
    "data set",
    {
        "image_folder": ImageFolder,
        "recordio": RecordFaces,
        "packed": Packed,
        "image_list": ImageList,
        "webdataset": Shards,
        "hugging_face": HuggingFaceFolder,
        "celeba": CelebA,
        "attribute_csv": AttributeCsv,
        "mask_folder": MaskFolder,
        "celebamask_hq": CelebAMaskHQ,
        "lapa": LaPa,
        "helen": Helen,
        "synthetic_faces": SyntheticFaces,
    },
    base=FaceDataset,
)
