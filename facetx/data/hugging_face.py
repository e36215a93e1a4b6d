"""Folders of the Hugging Face ``datasets`` library (``pip install facetx[hf]``)."""

from pathlib import Path
from typing import Any

import numpy as np

from facetx.data.codec import decode_image
from facetx.errors import DataError


class HuggingFaceFolder:
    """A folder that ``save_to_disk`` wrote, or one that ``load_dataset`` reads (Parquet, image folders).

    Args:
        path: The folder. Nothing is downloaded.
        split: Of a folder with several.
        image: Column of the images.
        label: Column of the identities, whole numbers or class names; numbered anew, 0..C-1, in their order.
        size: Pixels a side to resize to; as the images are, unless given.

    Attributes:
        identities: (C,) value of the column of each class.

    Raises ``DataError`` where ``datasets`` is not installed, or the folder, split or a column is not there.
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
        self._data = data.cast_column(image, datasets.Image(decode=False))
        self._image = image
        self.size = size
        self.path = path
        self.name = f"{Path(path).name}/{split}"
        self.identities, self.labels = np.unique(np.array(data[label]), return_inverse=True)
        self.num_classes = len(self.identities)

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        stored = self._data[index][self._image]
        data: bytes = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"]).read_bytes()
        return data

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = decode_image(self.encoded(index), self.describe(index), self.size)
        return {"image": image, "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        """Where item ``index`` comes from, for messages."""
        return f"{self.path}, row {index}"
