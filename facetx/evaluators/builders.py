"""Builders of evaluators: where the images and the pairs of each come from.

``pairs``, ``classification`` and ``identification`` ask their question of any data set; the others are short forms that
bring one along.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from facetx.data.base import FaceDataset
from facetx.data.cache import Cached
from facetx.data.lists.landmarks import landmarks_of
from facetx.data.lists.pairs import Pairs, find_images, pairs_of_bin, read_pairs
from facetx.data.sets.bins import BinImages
from facetx.data.sets.folder import ImageFiles, ImageFolder
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import ConfigError, DataError
from facetx.evaluators.classification import Classification
from facetx.evaluators.identification import Identification
from facetx.evaluators.sampling import FOLDS, sample_pairs
from facetx.evaluators.verification import PairVerification
from facetx.metrics.verification import contiguous_folds


class FolderPart(TypedDict, total=False):
    """Of ``facetx.data.sets.folder.ImageFolder``, beside ``root`` and ``seed``."""

    part: Literal["all", "train", "val"]
    val_identities: float
    size: int | None
    images: Literal["all", "train", "test"]
    test_images: float
    landmarks: str | None


class FolderArgs(FolderPart, total=False):
    """All arguments of ``facetx.data.sets.folder.ImageFolder``."""

    root: str
    seed: int


class SyntheticArgs(TypedDict, total=False):
    """Of ``facetx.data.synthetic.faces.SyntheticFaces``, beside ``seed``."""

    identities: int
    images_per_identity: int
    first_identity: int
    size: int
    first_image: int


def pairs(
    dataset: FaceDataset | None,
    folds: int | None = None,
    pairs_per_fold: int | None = None,
    seed: int = 0,
    flip: bool = True,
    name: str = "pairs",
) -> PairVerification:
    """1:1 verification on pairs drawn from any labeled data set.

    Args:
        dataset: Of people that training does not see.
        folds, pairs_per_fold: As many same as different pairs in each. 10 of 300, or as many as the identities allow,
            unless given; the result says so where they are fewer.
        seed: Of the choice of pairs.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
    """
    return _sampled(name, _given(dataset, {}), folds, pairs_per_fold, seed, flip)


def folder_pairs(
    root: str,
    seed: int = 0,
    pairs_seed: int | None = None,
    folds: int | None = None,
    pairs_per_fold: int | None = None,
    flip: bool = True,
    name: str = "folder",
    **folder: Unpack[FolderPart],
) -> PairVerification:
    """``pairs`` of a folder of identities, by default (``part="val"``) of those held out of training.

    Args:
        root: ``root/<identity>/<image>``.
        seed: Of the split into "train" and "val": the training set's own.
        pairs_seed: Of the choice of pairs; ``seed`` unless given.
        folds, pairs_per_fold, flip, name: Of ``pairs``.
        folder: Of the data set ``image_folder``.
    """
    faces = _folder({"root": root, "seed": seed, **folder}, part="val")
    return _sampled(name, faces, folds, pairs_per_fold, seed if pairs_seed is None else pairs_seed, flip)


def synthetic_pairs(
    seed: int = 0,
    pairs_seed: int | None = None,
    folds: int | None = None,
    pairs_per_fold: int | None = None,
    flip: bool = False,
    name: str = "synthetic",
    **faces: Unpack[SyntheticArgs],
) -> PairVerification:
    """``pairs`` of synthetic faces that no training set of fewer than ``first_identity`` identities has; rendered once.

    Args:
        seed: Of the faces.
        pairs_seed: Of the choice of pairs; ``seed`` unless given.
        folds, pairs_per_fold, flip, name: Of ``pairs``, but 10 folds of 60 are the usual.
        faces: Of the data set ``synthetic_faces``, by default 60 identities of 8 images from ``first_identity`` 1000000
            on.
    """
    given: dict[str, Any] = {"identities": 60, "images_per_identity": 8, "first_identity": 1_000_000, **faces}
    dataset = Cached(SyntheticFaces(seed=seed, **given), frozenset({"keypoints"}))
    seed = seed if pairs_seed is None else pairs_seed
    return _sampled(name, dataset, folds, pairs_per_fold, seed, flip, most=60)


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
        pairs: ``pairs.txt``, 10 folds of 300 + 300. Of a list of one fold, such as LFW's view 1, come all numbers but
            the accuracy over folds.
        size: Pixels a side to resize to; the model's unless given.
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
    path: str, folds: int | None = None, size: int | None = None, flip: bool = True, name: str = "bin"
) -> PairVerification:
    """A verification file of InsightFace: ``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``, ``calfw.bin``, ...

    Args:
        path: The file.
        folds: Contiguous parts of the pairs in their order, as InsightFace's own evaluation takes them. Unless given,
            the folds that stand beside the file (``scripts/prepare_data.py convert`` writes them), else 10, or as many
            as there are pairs.
        size: Pixels a side to resize the images to; the model's unless given.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.

    Raises ``DataError`` for fewer than two folds, fewer pairs than folds, or pairs of one kind only.
    """
    dataset = BinImages(path, size)
    count = len(dataset.same)
    first = np.arange(0, 2 * count, 2)
    listed = pairs_of_bin(path, dataset.same) if folds is None else None
    if listed is not None:
        return PairVerification(name, dataset, first, first + 1, dataset.same, listed.fold, flip)
    number = min(FOLDS, count) if folds is None else folds
    if not 2 <= number <= count or dataset.same.all() or not dataset.same.any():
        raise DataError(
            f"{path}: {number} folds need at least as many pairs and both kinds of them; the file holds "
            f"{dataset.same.sum()} pairs of one person and {(~dataset.same).sum()} of two"
        )
    return PairVerification(name, dataset, first, first + 1, dataset.same, contiguous_folds(count, number), flip)


def classification(
    dataset: FaceDataset | None = None,
    flip: bool = False,
    name: str = "classification",
    **folder: Unpack[FolderArgs],
) -> Classification:
    """Top-1 on held-out images of the training identities, as the trained head answers without its margin.

    Args:
        dataset: Images of the training identities, numbered alike: the training set's own data and arguments, all but
            which images.
        flip: Sum the logits of an image and of its mirror.
        name: Prefix of the numbers in logs.
        folder: In place of ``data`` the arguments of an ``image_folder``, by default of ``part="train"`` and
            ``images="test"``.
    """
    faces = _given(dataset, folder, part="train", images="test")
    return Classification(name, faces, flip)


def synthetic_classification(
    seed: int = 0, flip: bool = False, name: str = "classification", **faces: Unpack[SyntheticArgs]
) -> Classification:
    """``classification`` on pictures of the synthetic training identities that no training set of fewer images has.

    Args:
        seed: Of the faces, as the training set has it.
        flip, name: Of ``classification``.
        faces: Of the data set ``synthetic_faces``, as the training set has them but for the pictures: by default 4 an
            identity from ``first_image`` 1000000 on. Rendered once.
    """
    given: dict[str, Any] = {"images_per_identity": 4, "first_image": 1_000_000, **faces}
    return Classification(name, Cached(SyntheticFaces(seed=seed, **given), frozenset({"keypoints"})), flip)


def identification(
    dataset: FaceDataset | None = None,
    references: int | None = None,
    unknown_seed: int | None = None,
    flip: bool = True,
    name: str = "identification",
    **folder: Unpack[FolderArgs],
) -> Identification:
    """1:N on any labeled data set: rank-k, mAP, the closest of N references, the open set, and clustering.

    Args:
        dataset: Of people that training does not see.
        references: Identities that "closest of N references" chooses among; 5, or all where there are fewer, unless
            given.
        unknown_seed: Of the choice who is unknown; the folder's ``seed``, or 0, unless given.
        flip: Sum the embeddings of an image and of its mirror.
        name: Prefix of the numbers in logs.
        folder: In place of ``data`` the arguments of an ``image_folder``, by default of ``part="val"``.
    """
    seed = folder.get("seed", 0) if unknown_seed is None else unknown_seed
    return Identification(name, _given(dataset, folder, part="val"), references, seed, flip)


def _given(dataset: FaceDataset | None, folder: Mapping[str, Any], **defaults: str) -> FaceDataset:
    """The data set, or the folder of the short form. Raises ``ConfigError`` unless it is one of them."""
    if dataset is not None and folder:
        raise ConfigError(f"the images are said by data, and by args.{', args.'.join(folder)}; leave one of them out")
    if dataset is None and "root" not in folder:
        raise ConfigError("has no data to ask by: give data: {name: ..., args: {...}}, of any data set")
    return _folder(folder, **defaults) if dataset is None else dataset


def _folder(args: Mapping[str, Any], **defaults: str) -> ImageFolder:
    given: dict[str, Any] = {**defaults, **args}
    return ImageFolder(**given)


def _sampled(
    name: str,
    dataset: FaceDataset,
    folds: int | None,
    pairs_per_fold: int | None,
    seed: int,
    flip: bool,
    **most: int,
) -> PairVerification:
    drawn = sample_pairs(dataset.labels, folds, pairs_per_fold, seed, **most)
    ends = drawn.first, drawn.second
    return PairVerification(name, dataset, *ends, drawn.same, drawn.fold, flip, notes=drawn.notes)
