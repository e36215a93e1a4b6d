"""Builders of evaluators: where the images and the pairs of each benchmark come from."""

from typing import Literal

import numpy as np

from facetx.data.cache import Cached
from facetx.data.lists.landmarks import landmarks_of
from facetx.data.lists.pairs import Pairs, find_images, read_pairs
from facetx.data.sets.bins import BinImages
from facetx.data.sets.folder import ImageFiles, ImageFolder
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError
from facetx.evaluators.classification import Classification
from facetx.evaluators.embedding import FaceDataset
from facetx.evaluators.identification import Identification
from facetx.evaluators.sampling import sample_pairs
from facetx.evaluators.verification import PairVerification
from facetx.metrics.verification import contiguous_folds


def lfw(
    images: str,
    pairs: str,
    size: int | None = None,
    landmarks: str | None = None,
    flip: bool = True,
    name: str = "lfw",
) -> PairVerification:
    """The official LFW protocol, or any other in its format.

    Args:
        images: Folder with ``Name/Name_0001.*``, aligned as the model wants.
        pairs: ``pairs.txt``, 10 folds of 300 + 300.
        size: Pixels a side to resize to; as the files are, unless given.
        landmarks: CSV file of keypoints (``facetx.data.lists.landmarks``), for a backbone that needs them. No image may
            be left out of the protocol: the few without a row take the mean keypoints of the others, and the result's
            settings say how many did.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    return listed_pairs(read_pairs(pairs), images, size, landmarks, flip, name)


def listed_pairs(
    listed: Pairs, images: str, size: int | None, landmarks: str | None, flip: bool, name: str
) -> PairVerification:
    """``lfw`` for pairs that are read already, by any reader of ``facetx.data.lists.protocols``."""
    found = find_images(images, listed.images)
    paths = [found[key] for key in listed.images]
    keypoints, filled = None, 0
    if landmarks is not None:
        keypoints, filled = landmarks_of(landmarks, [p.relative_to(images).as_posix() for p in paths], "mean")
    dataset = ImageFiles(paths, name, size, keypoints)
    first, second = listed.indices()
    return PairVerification(
        name, dataset, first, second, listed.same, listed.fold, flip, mean_keypoints=filled if landmarks else None
    )


def bin_pairs(
    path: str, folds: int = 10, size: int | None = None, flip: bool = True, name: str = "bin"
) -> PairVerification:
    """A verification file of InsightFace: ``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``, ``calfw.bin``, ...

    Args:
        path: The file.
        folds: Contiguous parts of the pairs in their order, as InsightFace's own evaluation takes them.
        size: Pixels a side to resize the images to; as they are in the file, unless given.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.

    Raises ``DataError`` for fewer than two folds, fewer pairs than folds, or pairs of one kind only.
    """
    dataset = BinImages(path, size)
    pairs = len(dataset.same)
    if not 2 <= folds <= pairs or dataset.same.all() or not dataset.same.any():
        raise DataError(
            f"{path}: {folds} folds need at least as many pairs and both kinds of them; the file holds "
            f"{dataset.same.sum()} pairs of one person and {(~dataset.same).sum()} of two"
        )
    first = np.arange(0, 2 * pairs, 2)
    return PairVerification(name, dataset, first, first + 1, dataset.same, contiguous_folds(pairs, folds), flip)


def folder_pairs(
    root: str,
    part: Literal["all", "train", "val"] = "val",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    landmarks: str | None = None,
    folds: int = 10,
    pairs_per_fold: int = 300,
    flip: bool = True,
    name: str = "folder",
) -> PairVerification:
    """Pairs drawn from a folder of identities, by default from those held out of training.

    Args:
        root, part, val_identities, seed, size, landmarks: Of ``ImageFolder``; the seed also draws the pairs.
        folds, pairs_per_fold: Of ``sample_pairs``; as many same as different ones.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    faces = ImageFolder(root, part, val_identities, seed, size, landmarks=landmarks)
    return _sampled(name, faces, folds, pairs_per_fold, seed, flip)


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


def classification(
    root: str,
    part: Literal["all", "train", "val"] = "train",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    images: Literal["all", "train", "test"] = "test",
    test_images: float = 0.2,
    landmarks: str | None = None,
    flip: bool = False,
    name: str = "classification",
) -> Classification:
    """Top-1 on held-out images of the training identities, as the trained head answers without its margin.

    Args:
        root, part, val_identities, seed, size, images, test_images, landmarks: Of ``ImageFolder``. All but ``images``
            as the training set has them, so that the classes are numbered alike.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    faces = ImageFolder(root, part, val_identities, seed, size, images, test_images, landmarks)
    return Classification(name, faces, flip)


def synthetic_classification(
    identities: int = 100,
    images_per_identity: int = 4,
    first_identity: int = 0,
    first_image: int = 1_000_000,
    seed: int = 0,
    size: int = 112,
    flip: bool = False,
    name: str = "classification",
) -> Classification:
    """Top-1 on pictures of the synthetic training identities that no training set of fewer images has; rendered once.

    Args:
        identities, first_identity, seed, size: Of ``SyntheticFaces``, as the training set has them.
        images_per_identity, first_image: The pictures to classify.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    faces = SyntheticFaces(identities, images_per_identity, seed, first_identity, size, first_image)
    return Classification(name, Cached(faces), flip)


def identification(
    root: str,
    part: Literal["all", "train", "val"] = "val",
    val_identities: float = 0.1,
    seed: int = 0,
    size: int | None = None,
    landmarks: str | None = None,
    references: int = 5,
    flip: bool = True,
    name: str = "identification",
) -> Identification:
    """1:N on a folder of identities: rank-k, mAP, the closest of N references, the open set, and clustering.

    Args:
        root, part, val_identities, seed, size, landmarks: Of ``ImageFolder``; the seed also draws who is unknown.
        references: Identities that "closest of N references" chooses among.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    faces = ImageFolder(root, part, val_identities, seed, size, landmarks=landmarks)
    return Identification(name, faces, references, seed, flip)


def _sampled(
    name: str, dataset: FaceDataset, folds: int, pairs_per_fold: int, seed: int, flip: bool
) -> PairVerification:
    pairs = sample_pairs(dataset.labels, folds, pairs_per_fold, seed)
    return PairVerification(name, dataset, pairs.first, pairs.second, pairs.same, pairs.fold, flip)
