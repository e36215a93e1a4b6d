"""Decode once: a data set's items kept as uint8 in memory that loader workers share."""

from typing import Any

import torch
from torch import Tensor

from facetx.errors import DataError


class Cached:
    """Keeps each item of ``dataset`` after its first use, for all epochs and all loader workers.

    Two workers that meet at one item write the same bytes, so no lock is needed. Takes N * H * W * 3 bytes. All
    images must have the size of the first.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.labels, self.num_classes, self.name = dataset.labels, dataset.num_classes, dataset.name
        first = dataset[0]
        n = len(dataset)
        self._images = torch.empty((n, *first["image"].shape), dtype=torch.uint8).share_memory_()
        self._keypoints: Tensor | None = None
        if "keypoints" in first:
            self._keypoints = torch.empty((n, *first["keypoints"].shape)).share_memory_()
        self._filled = torch.zeros(n, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not self._filled[index]:
            item = self.dataset[index]
            if item["image"].shape != self._images.shape[1:]:
                raise DataError(
                    f"{self.name}: item {index} is {item['image'].shape}, the first is "
                    f"{tuple(self._images.shape[1:])}; a cache needs images of one size: align or resize the "
                    f"files, or set data.cache: false"
                )
            self._images[index] = torch.from_numpy(item["image"])
            if self._keypoints is not None:
                self._keypoints[index] = torch.from_numpy(item["keypoints"])
            self._filled[index] = True
        item = {"image": self._images[index].numpy(), "label": int(self.labels[index])}
        if self._keypoints is not None:
            item["keypoints"] = self._keypoints[index].numpy()
        return item
