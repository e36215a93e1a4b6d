"""Whether two data sets hold the same people and images, by their names and sizes; no image is read.

``FaceDataset.digest`` tells a data set from what it was on another day, and ``changes`` says how; ``overlap`` finds
what two data sets share.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facetx.data.base import FaceDataset
from facetx.errors import some

WORDS = {
    "images": "images",
    "identities": "identities",
    "people": "the identities' names",
    "labels": "which image is whose",
    "names": "the images' names",
    "sizes": "the sizes of the image files",
}
"""What a digest says, in the order in which changes are told."""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed between two digests, in words; nothing where they are of equal sets."""
    found = []
    for name, words in WORDS.items():
        old, new = before.get(name), now.get(name)
        if old != new:
            found.append(f"{words}: {old}, now {new}" if isinstance(new, int) else f"{words} changed")
    return found


@dataclass(frozen=True)
class Overlap:
    """What two data sets share.

    Attributes:
        identities: How many people; at least those of the shared images.
        images: How many images.
        examples: A few of the shared images' names, or of the people's where no image is shared.
    """

    identities: int
    images: int
    examples: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.identities > 0 or self.images > 0

    def __str__(self) -> str:
        return f"{self.identities} identities and {self.images} images ({some(self.examples, self.most)})"

    @property
    def most(self) -> int:
        """How many names there are of what the examples are of."""
        return self.images or self.identities


NOTHING = Overlap(0, 0, ())
SHOWN = 3


def overlap(a: FaceDataset, b: FaceDataset) -> Overlap:
    """What two data sets share, as far as their names tell.

    In one namespace names are taken at their word. Elsewhere an image is the same where its file has the same name,
    ``identity/file``, and the same size; where the size is not known, or the name is made of digits alone, which many
    sets count their people with, the file's bytes decide if both have them, else the name if it has a letter. Labels
    that are numbers of one file alone are never compared with another's. Of sets made of several, each is compared.
    """
    if len(a.parts) > 1 or len(b.parts) > 1:
        return _total([overlap(one, other) for one in a.parts for other in b.parts])
    if a.namespace is not None and a.namespace == b.namespace:
        return _by_names(a, b)
    return _by_files(a, b) if a.keys_are_files and b.keys_are_files else NOTHING


def _total(found: Sequence[Overlap]) -> Overlap:
    examples = tuple(example for one in found for example in one.examples)
    return Overlap(sum(o.identities for o in found), sum(o.images for o in found), examples[:SHOWN])


def _by_names(a: FaceDataset, b: FaceDataset) -> Overlap:
    small, large = sorted((a, b), key=len)
    people = set(a.identities) & set(b.identities)
    indices: Iterable[int] = range(len(small))
    if len(a.identities) and len(b.identities):
        ours = np.array([name in people for name in small.identities])
        indices = np.flatnonzero(ours[small.labels]).tolist()
    keys = sorted(large.find(map(small.key, indices))) if people or not len(small.identities) else []
    return Overlap(len(people), len(keys), tuple(keys or sorted(people))[:SHOWN])


def _by_files(a: FaceDataset, b: FaceDataset) -> Overlap:
    small, large = sorted((a, b), key=len)
    ours = {small.key(index): index for index in range(len(small))}
    theirs = large.find(ours)
    shared = sorted(theirs)
    same = _same_files(small, [ours[key] for key in shared], large, [theirs[key] for key in shared], shared)
    keys = [key for key, is_same in zip(shared, same) if is_same]
    return Overlap(len({key.partition("/")[0] for key in keys}), len(keys), tuple(keys[:SHOWN]))


def _same_files(a: FaceDataset, first: list[int], b: FaceDataset, second: list[int], keys: list[str]) -> list[bool]:
    """Whether images of one name are one file."""
    left, right = a.file_sizes(first), b.file_sizes(second)
    known = left is not None and right is not None
    same = [True] * len(keys) if left is None or right is None else [x == y for x, y in zip(left, right)]
    for n, (i, j, key) in enumerate(zip(first, second, keys)):
        telling = any(c.isalpha() for c in os.path.splitext(key)[0])
        if same[n] and not (known and telling):
            x, y = a.encoded(i), b.encoded(j)
            same[n] = telling if x is None or y is None else x == y
    return same
