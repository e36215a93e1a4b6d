"""Folders of the Hugging Face ``datasets`` library (``pip install facetx[hf]``)."""

import os
from pathlib import Path

import numpy as np

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image
from facetx.errors import DataError
from facetx.files import read_file


class HuggingFaceFolder(FaceDataset):
    """A folder that ``save_to_disk`` wrote, or one that ``load_dataset`` reads (Parquet, image folders).

    Args:
        path: The folder. Nothing is downloaded.
        split: Of a folder with several.
        image: Column of the images.
        label: Column of the identities, whole numbers or class names; numbered anew, 0..C-1, in their order.
        size: Pixels a side to resize to; as the images are, unless given.

    Attributes:
        stored: (C,) value of the column of each class; ``identities`` are these as text.

    Raises ``DataError`` where ``datasets`` is not installed, the folder, split or a column is not there, or a column
    holds something else.
    """

    def __init__(
        self,
        path: str,
        split: str = "train",
        image: str = "image",
        label: str = "label",
        size: int | None = None,
    ):
        try:
            import datasets
        except ImportError:
            raise DataError(f"{path}: needs the package datasets; install it with: pip install 'facetx[hf]'") from None
        if not Path(path).is_dir():
            raise DataError(f"{path}: no such folder")
        try:
            saved = any((Path(path) / name).exists() for name in ("state.json", "dataset_dict.json"))
            data = datasets.load_from_disk(path) if saved else datasets.load_dataset(path)
        except Exception as error:
            raise DataError(f"{path}: the package datasets cannot read it ({error})") from error
        if isinstance(data, dict):
            if split not in data:
                raise DataError(f"{path}: has no split {split!r}; there are {', '.join(data)}")
            data = data[split]
        for column in (image, label):
            if column not in data.column_names:
                raise DataError(f"{path}: has no column {column!r}; there are {', '.join(data.column_names)}")
        try:
            self._data = data.cast_column(image, datasets.Image(decode=False))
        except Exception as error:  # the package's, or pyarrow's
            raise DataError(f"{path}: the column {image!r} holds no images ({error}); name another one") from error
        stored = data[label]
        self._image = image
        self.size = size
        self.path = path
        self.name = f"{Path(path).name}/{split}"
        self.split = split
        self.namespace = f"hugging_face {os.path.realpath(path)}"
        for row, value in enumerate(stored):
            if not isinstance(value, int | str):
                raise DataError(
                    f"{path}, row {row}: the column {label!r} holds {repr(value)[:80]}, no whole number and no name"
                )
        self.stored, self.labels = np.unique(np.array(stored), return_inverse=True)
        self.identities = self.stored.astype(str).tolist()
        self.num_classes = len(self.identities)

    def encoded(self, index: int) -> bytes:
        stored = self._data[index][self._image]
        data: bytes | None = stored and stored["bytes"]
        if data is not None:
            return data
        if not stored or stored["path"] is None:
            raise DataError(f"{self.describe(index)}: has no image")
        return read_file(stored["path"])

    def __getitem__(self, index: int) -> Sample:
        image = decode_image(self.encoded(index), self.describe(index), self.size)
        return {"image": image, "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        return f"{self.path}, row {index}"

    def key(self, index: int) -> str:
        return f"{self.split}/{index}"
