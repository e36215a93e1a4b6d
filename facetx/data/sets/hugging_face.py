"""Folders of the Hugging Face ``datasets`` library (``pip install facetx[hf]``)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import decode_image
from facetx.errors import DataError, is_resource
from facetx.files import read_file


class HuggingFaceFolder(FaceDataset):
    """A folder that ``save_to_disk`` wrote, or one that ``load_dataset`` reads (Parquet, image folders).

    Args:
        path: The folder. Nothing is downloaded, and no code in it runs.
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
        if int(datasets.__version__.partition(".")[0]) < 4:
            raise DataError(
                f"{path}: datasets {datasets.__version__} runs code of the folder; install version 4 or later"
            )
        if not Path(path).is_dir():
            raise DataError(f"{path}: no such folder")
        try:
            with _offline():
                _check_card(path)
                saved = any((Path(path) / name).exists() for name in ("state.json", "dataset_dict.json"))
                data = datasets.load_from_disk(path) if saved else datasets.load_dataset(path)
        except DataError:
            raise
        except Exception as error:
            if is_resource(error):
                raise
            raise DataError(f"{path}: the package datasets cannot read it ({error})") from error
        if isinstance(data, dict):
            if split not in data:
                raise DataError(f"{path}: has no split {split!r}; there are {', '.join(data)}")
            data = data[split]
        for column in (image, label):
            if column not in data.column_names:
                raise DataError(f"{path}: has no column {column!r}; there are {', '.join(data.column_names)}")
        try:
            # Alone: a row decodes all of its columns, and those of other images may name files elsewhere.
            self._data = data.cast_column(image, datasets.Image(decode=False)).select_columns([image])
        except Exception as error:  # the package's, or pyarrow's
            if is_resource(error):
                raise
            raise DataError(f"{path}: the column {image!r} holds no images ({error}); name another one") from error
        if not isinstance(data.features[label], datasets.Value | datasets.ClassLabel):
            raise DataError(
                f"{path}: the column {label!r} holds {repr(data.features[label])[:80]}, no whole numbers and no names"
            )
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
        self.stored = self._number_people(np.array(stored))

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


@contextmanager
def _offline() -> Iterator[None]:
    """Inside, Hugging Face's packages ask no server."""
    import datasets
    import huggingface_hub

    switches: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    for switch in switches:
        switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.HF_HUB_OFFLINE = value


def _check_card(path: str) -> None:
    """Raises ``DataError`` where what describes a folder names files elsewhere, which would be fetched."""
    import yaml
    from huggingface_hub import DatasetCard

    configs: list[Any] = []
    if (card := Path(path) / "README.md").exists():
        configs.append(DatasetCard.load(card).data.to_dict().get("configs"))
    if (alone := Path(path) / ".huggingface.yaml").exists():
        configs.append(yaml.safe_load(read_file(alone)))
    seen: set[int] = set()  # aliases can name one value again and again
    while configs:
        value = configs.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | list):
            configs += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and ("://" in value or "::" in value):
            raise DataError(f"{path}: its description names files elsewhere ({value[:80]}); fetch them, and edit it")
