"""What a data set is: the one class that all kinds of data sets are, here and in other people's modules."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.data.mask_classes import Color, colors_of

Sample = dict[str, Any]
"""Field name -> value, see ``facetx.data.sample``."""
SIZED = 4096
"""Files whose sizes are looked up for a digest, in even steps over all: each costs a call of the system."""


@dataclass(frozen=True)
class Description:
    """What a task must know of its data to be built, kept in each checkpoint so that it can be built again without it.

    Attributes:
        num_classes: Identities.
        attributes: (A,) names of the attributes, in the order of the field ``attributes``.
        mask_classes: (M,) names of the classes of the field ``mask``, by their index.
        mask_colors: (M,) the color that each is shown in; red, green and blue, 0 to 255.
        some_unknown: Whether there are images whose identity is not known; their label is -1.
    """

    num_classes: int
    attributes: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    mask_colors: tuple[Color, ...] = ()
    some_unknown: bool = False


class FaceDataset(ABC):
    """Labeled face images, read one by one.

    Items are samples: ``image`` (uint8 RGB (H, W, 3)) and ``label`` (int) always, other fields where the data has them
    (``facetx.data.sample`` lists all). A data set reads the same item for the same index in any process.

    Attributes:
        name: For logs and messages.
        labels: (N,) int64 identity of each item, 0..num_classes - 1.
        num_classes: Identities.
        identities: (C,) name of each identity; empty where they have none.
        attribute_names: (A,) names of the attributes that its items have.
        mask_classes: (M,) names of the classes in its items' masks; the first is the background.
        mask_colors: (M,) the color that each is shown in; by their names, unless set.
        size: Pixels a side that images are resized to as they are read; None leaves them as they are.
        namespace: Data sets of one namespace mean one person by one of ``identities``, and one image by one ``key``.
            None where the names are this data set's own.
        keys_are_files: Whether ``key`` is made of a file's name, by which the image is known in other data sets too.
    """

    name: str
    labels: NDArray[np.int64]
    num_classes: int
    identities: Sequence[str] = ()
    attribute_names: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    mask_colors: tuple[Color, ...] = ()
    size: int | None = None
    namespace: str | None = None
    keys_are_files: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def parts(self) -> Sequence["FaceDataset"]:
        """The data sets that it is made of, each with names of its own."""
        return (self,)

    @abstractmethod
    def __getitem__(self, index: int, /) -> Sample:
        """Item ``index`` in 0..len - 1. Raises ``DataError`` that names it where it cannot be read."""

    def many(self, indices: NDArray[np.int64]) -> dict[str, NDArray[Any]] | None:
        """The fields of these items at once, (B, ...) each; None where items can only be read one by one."""
        return None

    def describe(self, index: int) -> str:
        """Where item ``index`` comes from, for messages: its file where it has one."""
        return f"{self.name}, item {index}"

    def encoded(self, index: int) -> bytes | None:
        """The bytes of the item's image file; None where there is none."""
        return None

    def key(self, index: int) -> str:
        """A name of the item that is the same on every machine, ``identity/file``; its number where it has none."""
        return str(index)

    def find(self, keys: Iterable[str]) -> dict[str, int]:
        """The index of each of these items that is here."""
        wanted = set(keys)
        return {key: index for index in range(len(self)) if (key := self.key(index)) in wanted}

    def names_digest(self) -> str | None:
        """SHA-256 of the names of all items, in their order; None where they have none."""
        return None

    def file_sizes(self, indices: Sequence[int]) -> list[int] | None:
        """Bytes of these items' image files, which are not read; None where that is not known."""
        return None

    def _number_people(self, stored: ArrayLike) -> NDArray[Any]:
        """Sets the labels to 0..C-1 in the order of the values ``stored`` (N,), and names the identities by these.

        Returns them, (C,).
        """
        people, self.labels = np.unique(stored, return_inverse=True)
        self.identities = list(map(str, people.tolist()))
        self.num_classes = len(people)
        return people

    def digest(self) -> dict[str, Any]:
        """What the set is made of, without reading an image: equal for equal sets, wherever they lie.

        Plain values for JSON: ``images`` and ``identities`` are numbers; ``people`` (their names), ``labels``,
        ``names`` (of the images) and ``sizes`` (of the files) are SHA-256, None where they are not known.
        """
        sizes = self.file_sizes(range(0, len(self), max(1, len(self) // SIZED)))
        return {
            "images": len(self),
            "identities": self.num_classes,
            "people": _sha(b"\0".join(map(os.fsencode, self.identities))) if len(self.identities) else None,
            "labels": _sha(np.asarray(self.labels, "<i8").tobytes()),
            "names": self.names_digest(),
            "sizes": None if sizes is None else _sha(np.array(sizes, "<i8").tobytes()),
        }

    def description(self) -> Description:
        """What a task must know of it."""
        colors = self.mask_colors or colors_of(self.mask_classes)
        return Description(self.num_classes, self.attribute_names, self.mask_classes, colors)


class Wrapped(FaceDataset):
    """A data set that gives the items of another one in another form, and is known by that one's names.

    Args:
        dataset: The other one.
    """

    def __init__(self, dataset: FaceDataset):
        self.dataset = dataset
        self.name, self.labels, self.num_classes = dataset.name, dataset.labels, dataset.num_classes
        self.identities, self.size = dataset.identities, dataset.size
        self.namespace, self.keys_are_files = dataset.namespace, dataset.keys_are_files
        self.attribute_names = dataset.attribute_names
        self.mask_classes, self.mask_colors = dataset.mask_classes, dataset.mask_colors

    @property
    def parts(self) -> Sequence[FaceDataset]:
        return self.dataset.parts

    def description(self) -> Description:
        return self.dataset.description()

    def describe(self, index: int) -> str:
        return self.dataset.describe(index)

    def encoded(self, index: int) -> bytes | None:
        return self.dataset.encoded(index)

    def key(self, index: int) -> str:
        return self.dataset.key(index)

    def find(self, keys: Iterable[str]) -> dict[str, int]:
        return self.dataset.find(keys)

    def names_digest(self) -> str | None:
        return self.dataset.names_digest()

    def file_sizes(self, indices: Sequence[int]) -> list[int] | None:
        return self.dataset.file_sizes(indices)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
