"""Files to batches: data sets, transforms, samplers, the loader."""

from facetx.data.base import Description, FaceDataset, Sample
from facetx.data.samplers import SAMPLERS, BatchOrder
from facetx.data.sets import DATASETS
from facetx.data.transforms import TRANSFORMS, Geometric, Photometric, Transform

__all__ = [
    "DATASETS",
    "SAMPLERS",
    "TRANSFORMS",
    "BatchOrder",
    "Description",
    "FaceDataset",
    "Geometric",
    "Photometric",
    "Sample",
    "Transform",
]
