"""Several data sets as one, whose images meet in each batch: what a set does not know of its images is unknown."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from facetx.data.base import Description, FaceDataset, Sample
from facetx.data.loader import Batches, StepSampler
from facetx.data.sample import IGNORED
from facetx.errors import DataError

UNKNOWN = -1
"""The label of an image whose identity is not known."""


@dataclass(frozen=True)
class Member:
    """One of the sets.

    Attributes:
        dataset: Its items.
        each: Its images in a batch.
        identities: Whether its people are people to learn; else the identity of its images counts as unknown.
    """

    dataset: FaceDataset
    each: int
    identities: bool = True


def members_of(dataset: FaceDataset, batch_size: int) -> Sequence[Member]:
    """The sets that ``dataset`` joins; where it joins none, itself with the whole batch."""
    return dataset.members if isinstance(dataset, Joined) else (Member(dataset, batch_size),)


class Joined(FaceDataset):
    """The items of all members, one member after the other.

    Labels are numbered anew. An identity of two members is one where both are of one namespace and give it one name.
    Attributes are those of all members, by name; one that a member lacks is NaN for its images, and where a member has
    no masks these are 255 all over.

    Args:
        members: At least one; those that have masks have them of the same classes.

    Raises ``DataError`` for masks of different classes.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = tuple(members)
        sets = [member.dataset for member in members]
        self.name = " and ".join(dataset.name for dataset in sets)
        self.size = sets[0].size
        self.starts = np.concatenate([[0], np.cumsum([len(dataset) for dataset in sets])])
        self._number_identities()
        self.attribute_names = tuple(dict.fromkeys(name for dataset in sets for name in dataset.attribute_names))
        self._columns = [
            np.array([self.attribute_names.index(name) for name in dataset.attribute_names], np.int64)
            for dataset in sets
        ]
        masked = [dataset for dataset in sets if dataset.mask_classes]
        for dataset in masked:
            if dataset.mask_classes != masked[0].mask_classes:
                raise DataError(
                    f"{dataset.name} has masks of the classes {', '.join(dataset.mask_classes)}, and {masked[0].name} "
                    f"of {', '.join(masked[0].mask_classes)}; they must be the same, in one order, to be learned "
                    "together"
                )
        if masked:
            self.mask_classes, self.mask_colors = masked[0].mask_classes, masked[0].mask_colors

    @property
    def parts(self) -> Sequence[FaceDataset]:
        return [part for member in self.members for part in member.dataset.parts]

    def _number_identities(self) -> None:
        numbers: dict[tuple[Any, Any], int] = {}
        labels, names = [], []
        for place, member in enumerate(self.members):
            dataset = member.dataset
            if not member.identities:
                labels.append(np.full(len(dataset), UNKNOWN, np.int64))
                continue
            space = place if dataset.namespace is None else dataset.namespace
            own = list(dataset.identities) or [str(number) for number in range(dataset.num_classes)]
            for name in own:
                if (space, name) not in numbers:
                    numbers[space, name] = len(numbers)
                    names.append(f"{dataset.name}/{name}")
            number = np.array([numbers[space, name] for name in own], np.int64)
            labels.append(number[dataset.labels])
        self.labels = np.concatenate(labels)
        self.num_classes, self.identities = len(numbers), names

    def description(self) -> Description:
        return replace(super().description(), some_unknown=bool((self.labels == UNKNOWN).any()))

    def _at(self, index: int) -> tuple[int, int]:
        """Which member has an item, and its index there."""
        member = int(np.searchsorted(self.starts, index, "right")) - 1
        return member, index - int(self.starts[member])

    def __getitem__(self, index: int) -> Sample:
        member, own = self._at(index)
        sample = {**self.members[member].dataset[own], "label": int(self.labels[index])}
        if self.attribute_names:
            known = np.full(len(self.attribute_names), np.nan, np.float32)
            if "attributes" in sample:
                known[self._columns[member]] = sample["attributes"]
            sample["attributes"] = known
        if self.mask_classes and "mask" not in sample:
            sample["mask"] = np.full(sample["image"].shape[:2], IGNORED, np.uint8)
        return sample

    def describe(self, index: int) -> str:
        member, own = self._at(index)
        return self.members[member].dataset.describe(own)

    def encoded(self, index: int) -> bytes | None:
        member, own = self._at(index)
        return self.members[member].dataset.encoded(own)

    def key(self, index: int) -> str:
        member, own = self._at(index)
        return f"{member}/{self.members[member].dataset.key(own)}"

    def names_digest(self) -> str | None:
        found = [member.dataset.names_digest() for member in self.members]
        return None if None in found else hashlib.sha256(" ".join(map(str, found)).encode()).hexdigest()

    def file_sizes(self, indices: Sequence[int]) -> list[int] | None:
        sizes: list[int] = []
        for index in indices:
            member, own = self._at(index)
            size = self.members[member].dataset.file_sizes([own])
            if size is None:
                return None
            sizes += size
        return sizes


class Together(Batches):
    """The batches of one or several samplers as one: each with its own epochs, its images spread evenly over the batch.

    So every equal part of a batch has the same share of each, where the numbers allow it.

    Args:
        samplers: Of each member, whole batches, from and to the same steps.
        part, parts: Which of the equal parts of each batch is given, for one of several processes.
    """

    def __init__(self, samplers: Sequence[StepSampler], part: int = 0, parts: int = 1):
        self.samplers = tuple(samplers)
        self.starts = np.cumsum([0, *(len(sampler.labels) for sampler in samplers[:-1])])
        self.each = [sampler.size for sampler in samplers]
        self.size = sum(self.each) // parts
        middles = np.concatenate([(np.arange(count) + 0.5) / count for count in self.each])
        self.places = np.argsort(middles, kind="stable")[part * self.size :][: self.size]

    def __len__(self) -> int:
        return len(self.samplers[0])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for drawn in zip(*(sampler.drawn() for sampler in self.samplers)):
            epochs = np.repeat([epoch for epoch, _ in drawn], self.each)
            indices = np.concatenate([start + own for start, (_, own) in zip(self.starts, drawn)])
            yield list(zip(epochs[self.places].tolist(), indices[self.places].tolist()))
