"""Synthetic faces: an illustrated stand-in for a face data set, a pure function of (seed, identity, image).

They come with everything known by construction: the identity, five keypoints, attribute labels, a parsing mask. So the
quickstart and the tests train and evaluate without a download, and a wrong label is always our own mistake.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from facetx.data.base import FaceDataset, Sample
from facetx.data.synthetic.portrait import MASK_CLASSES, paint
from facetx.data.synthetic.traits import ATTRIBUTES, attributes, sample_identity, sample_shot
from facetx.errors import DataError


@dataclass(frozen=True, eq=False)
class SyntheticFace:
    """One picture and what is known about it.

    Attributes:
        image: (size, size, 3) uint8 RGB, aligned to the ArcFace template with a few pixels of error.
        identity: The number that it was rendered from.
        keypoints: (5, 2) float32, x and y in pixels: left eye, right eye, nose, left and right corner of the mouth;
            left is the image's left.
        attributes: CelebA's names of the labels that the renderer controls.
        mask: (size, size) uint8 in LaPa's classes: 0 background, 1 skin, 2 left brow, 3 right brow, 4 left eye,
            5 right eye, 6 nose, 7 upper lip, 8 inner mouth, 9 lower lip, 10 hair. Ears, neck, clothes and hats are
            background; beards are skin; glasses leave what is behind them; left is the image's left.
    """

    image: np.ndarray
    identity: int
    keypoints: np.ndarray
    attributes: dict[str, bool]
    mask: np.ndarray


def render_face(seed: int, identity: int, image: int, size: int = 112) -> SyntheticFace:
    """Renders picture number ``image`` of a person.

    Args:
        seed: A world of its own people, >= 0.
        identity: The person, >= 0. What stays with a person depends on (seed, identity) alone.
        image: The picture, >= 0.
        size: Side in pixels, >= 16.

    Raises:
        DataError: An argument is not an integer within its range.
    """
    for name, value, least in (("seed", seed, 0), ("identity", identity, 0), ("image", image, 0), ("size", size, 16)):
        _require(name, value, least)
    who = sample_identity(_generator(seed, identity))
    shot = sample_shot(_generator(seed, identity, image), who)
    picture, mask, keypoints = paint(who, shot, int(size))
    return SyntheticFace(picture, int(identity), keypoints, attributes(who, shot), mask)


class SyntheticFaces(FaceDataset):
    """A data set of ``identities`` times ``images_per_identity`` faces, rendered when they are asked for.

    Item ``i`` is picture ``first_image + i % images_per_identity`` of person
    ``first_identity + i // images_per_identity``.
    Sets with disjoint ranges of identities share no person, and with disjoint ranges of pictures no picture: hold out
    some for evaluation by choosing ``first_identity`` or ``first_image``.

    Args:
        identities, images_per_identity: Both >= 1.
        seed: A world of its own people, >= 0.
        first_identity: The person that label 0 stands for, >= 0.
        size: Side of the images in pixels, >= 16.
        first_image: The first picture of each person, >= 0.

    Raises:
        DataError: An argument is not an integer within its range.
    """

    namespace = "synthetic"

    def __init__(
        self,
        identities: int = 100,
        images_per_identity: int = 20,
        seed: int = 0,
        first_identity: int = 0,
        size: int = 112,
        first_image: int = 0,
    ):
        _require("identities", identities, 1)
        _require("images_per_identity", images_per_identity, 1)
        _require("seed", seed, 0)
        _require("first_identity", first_identity, 0)
        _require("first_image", first_image, 0)
        _require("size", size, 16)
        self.images_per_identity, self.seed = images_per_identity, seed
        self.first_identity, self.side, self.first_image = first_identity, size, first_image
        self.size = size
        self.labels = np.repeat(np.arange(identities, dtype=np.int64), images_per_identity)
        self.num_classes = identities
        self.name = f"synthetic({identities} x {images_per_identity})"
        self.identities = [f"{seed}:{first_identity + i}" for i in range(identities)]
        self.attribute_names, self.mask_classes = ATTRIBUTES, MASK_CLASSES

    def face(self, index: int) -> SyntheticFace:
        """Item ``index`` with its attributes and its mask. Raises ``IndexError`` beyond the ends."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} faces, there is no number {index}")
        person, picture = divmod(int(index) % len(self), self.images_per_identity)
        return render_face(self.seed, self.first_identity + person, self.first_image + picture, self.side)

    def __getitem__(self, index: int) -> Sample:
        """All fields: image, label, keypoints, attributes and mask."""
        face = self.face(index)
        return {
            "image": face.image,
            "label": int(self.labels[index]),
            "keypoints": face.keypoints / np.float32(self.side),
            "attributes": np.array([face.attributes[name] for name in ATTRIBUTES], np.float32),
            "mask": face.mask,
        }

    def names_digest(self) -> str:
        named = (self.seed, self.first_identity, self.num_classes, self.first_image, self.images_per_identity)
        return hashlib.sha256(repr(named).encode()).hexdigest()

    def key(self, index: int) -> str:
        person, picture = divmod(int(index) % len(self), self.images_per_identity)
        return f"{self.seed}:{self.first_identity + person}/{self.first_image + picture}"


def _generator(*key: int) -> np.random.Generator:
    """A stream of its own for each key; keys of different lengths differ too."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([len(key), *key])))


def _require(name: str, value: int, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise DataError(f"synthetic faces: {name} must be an integer of at least {least}, got {value!r}")
