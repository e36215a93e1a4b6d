"""Builders of evaluators: where the images and the pairs of each benchmark come from."""

from typing import Literal

from facetx.data.cache import Cached
from facetx.data.folder import ImageFiles, ImageFolder
from facetx.data.pairs import find_images, read_pairs
from facetx.data.synthetic import SyntheticFaces
from facetx.evaluators.embedding import FaceDataset
from facetx.evaluators.sampling import sample_pairs
from facetx.evaluators.verification import PairVerification


def lfw(images: str, pairs: str, size: int | None = None, flip: bool = True, name: str = "lfw") -> PairVerification:
    """The official LFW protocol, or any other in its format.

    Args:
        images: Folder with ``Name/Name_0001.*``, aligned as the model wants.
        pairs: ``pairs.txt``, 10 folds of 300 + 300.
        size: Pixels a side to resize to; as the files are, unless given.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    listed = read_pairs(pairs)
    found = find_images(images, listed.images)
    dataset = ImageFiles([found[key] for key in listed.images], name, size)
    first, second = listed.indices()
    return PairVerification(name, dataset, first, second, listed.same, listed.fold, flip)


def folder_pairs(
    root: str,
    part: Literal["all", "train", "val"] = "val",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    folds: int = 10,
    pairs_per_fold: int = 300,
    flip: bool = True,
    name: str = "folder",
) -> PairVerification:
    """Pairs drawn from a folder of identities, by default from those held out of training.

    Args:
        root, part, val_identities, seed, size: Of ``ImageFolder``; the seed also draws the pairs.
        folds, pairs_per_fold: Of ``sample_pairs``; as many same as different ones.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    return _sampled(name, ImageFolder(root, part, val_identities, seed, size), folds, pairs_per_fold, seed, flip)


def synthetic_pairs(
    identities: int = 60,
    images_per_identity: int = 8,
    first_identity: int = 1_000_000,
    seed: int = 0,
    size: int = 112,
    folds: int = 10,
    pairs_per_fold: int = 60,
    flip: bool = False,
    name: str = "synthetic",
) -> PairVerification:
    """Pairs of synthetic faces that no training set of fewer than ``first_identity`` identities has; rendered once.

    Args:
        identities, images_per_identity, first_identity, size: Of ``SyntheticFaces``.
        seed: Of the faces, and of the choice of pairs.
        folds, pairs_per_fold: Of ``sample_pairs``; as many same as different ones.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    faces = SyntheticFaces(identities, images_per_identity, seed=seed, first_identity=first_identity, size=size)
    return _sampled(name, Cached(faces), folds, pairs_per_fold, seed, flip)


def _sampled(
    name: str, dataset: FaceDataset, folds: int, pairs_per_fold: int, seed: int, flip: bool
) -> PairVerification:
    pairs = sample_pairs(dataset.labels, folds, pairs_per_fold, seed)
    return PairVerification(name, dataset, pairs.first, pairs.second, pairs.same, pairs.fold, flip)
