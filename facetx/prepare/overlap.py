"""Identities and faces that a training set shares with a test set, by names, by pixels, and by embedding.

The embeddings are a model's opinion: a weak one finds people that are none, and misses some that are. And one that was
trained on the training set keeps its people further apart than people that it never saw, so that more than the stated
rate of the comparisons with the test set are false; take a model that was trained on neither, where there is one.

Legend: N and M images of the training and the test set, C and T their identities, D dimensions.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset, Sample
from facetx.data.formats.codec import resize
from facetx.data.lists.landmarks import relative
from facetx.errors import DataError
from facetx.evaluators.base import HERE, How
from facetx.evaluators.embedding import embed_dataset
from facetx.metrics.overlap import Threshold, closest, identity_means, impostor_threshold
from facetx.nn.backbone import Backbone
from facetx.prepare.convert import NOT_SQUARE, check_target, convert, kind_of, subset
from facetx.prepare.report import Report, track
from facetx.prepare.sources import Source

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Reasons = dict[int, list[str]]
"""Identity of the training set -> in what ways it matched."""

SIDE = 20_000
"""Images, or identities, on each side of the impostor comparisons, at most."""
LISTED = 1000
"""Matches of each kind that the report lists; it counts all."""
NUMBERED = re.compile(r"(person)?[\W_]*[0-9]+")
"""Names of identities that are no names of people: numbers, and what ``open_source`` calls those of a ``.bin``."""


def find_overlap(
    backbone: Backbone,
    train: Source,
    test: Source,
    *,
    threshold: float | None = None,
    out: str | Path | None = None,
    report_file: str | Path | None = None,
    flip: bool = True,
    how: How = HERE,
) -> Report:
    """Looks for people of ``test`` in ``train``. Facts of the report, with the closest or first ``LISTED`` of each:

    - ``same_names``: identities of one name; case, and _ for a space, make no difference. Numbers are no names.
    - ``identical_images``: images with equal pixels.
    - ``near_duplicates``: images whose cosine is above a threshold, each with the closest one of the test set.
    - ``same_people``: identities whose mean embeddings are so, each with the closest one. Of some, the mean is that
      of one image, which says less: ``one_image`` counts these matches.

    The two thresholds come from the training set's own impostors (``impostor_threshold``), on images and on identities.
    People who are in the training set under two names raise them.

    Args:
        backbone: Lives on ``how.device``. The sets should be aligned as it was trained; images of other
            sizes are resized to its own.
        train, test: The sets, with landmarks where the backbone needs them.
        threshold: The cosine for both, in place of those chosen.
        out: Where to write the training set without the images of identities that matched in any way, by its ending
            one of ``prepare_convert.KINDS`` but "bin"; must not exist. The report's ``dropped`` says of each why.
        report_file: Where the report goes, before ``out`` appears.
        flip: Sum the embeddings of each image and of its mirror.
        how: To run the model.

    Images that cannot be read, are not square, or lack landmarks that are needed, are left out and named. Raises
    ``DataError`` where none is left, landmarks are needed and not given, or embeddings are not finite.
    """
    target = None if out is None else Path(out)
    if target is not None:
        if kind_of(target) == "bin":
            raise DataError(f"{target}: a .bin holds the pairs of a benchmark; choose .txt, .rec, .packed or a folder")
        check_target(train, target, kind_of(target))
    a, b = (_open(source, backbone.needs_keypoints, which) for source, which in ((train, "TRAIN"), (test, "TEST")))
    for side in (a, b):
        faces = SourceFaces(side.source, backbone.contract.size)
        summed = embed_dataset(backbone, faces, how, flip=flip)  # (N, D)
        side.embeddings = _unit(summed, side.source)
        side.means = identity_means(side.embeddings, side.source.labels)

    report = Report.of("overlap", train, None, report_file)
    report.facts |= {
        "test": str(test.path),
        "test_images": len(test),
        "identities": {"train": len(a.means), "test": len(b.means)},
        "identities_with_one_image": {"train": int((a.counts == 1).sum()), "test": int((b.counts == 1).sum())},
        "not_compared": {"train": a.unreadable, "test": b.unreadable},
    }
    why: Reasons = {}
    report.facts["same_names"] = _same_names(a, b, why)
    report.facts["identical_images"] = _identical_images(a, b, why)
    if threshold is None:
        images = _image_threshold(a, len(a.embeddings) * len(b.embeddings))
        people = _identity_threshold(a, b.counts)
    else:
        images = people = Threshold(threshold)
    for name, used in (("near duplicates", images), ("same people", people)):
        if (doubt := used.doubt()) is not None:
            report.warnings.append(f"{name}: {doubt}")
    report.facts["near_duplicates"] = _near_duplicates(a, b, images, why)
    report.facts["same_people"] = _same_people(a, b, people, why)
    matched = np.isin(a.source.labels, list(why))
    report.facts["matched"] = {"identities": len(why), "images": int(matched.sum())}
    if target is not None:
        reasons = {label: "; ".join(texts) for label, texts in why.items()}
        names, labels = a.source.names, a.source.labels.tolist()
        report.dropped = {**a.unreadable, **{names[i]: reasons[labels[i]] for i in np.flatnonzero(matched).tolist()}}
        if matched.all():
            report.facts["out"] = f"{target} is not written: every identity matched"
        else:
            report.out = str(target)
            convert(subset(a.source, np.flatnonzero(~matched).tolist()), target, report=report)
    report.save()
    return report


class SourceFaces(FaceDataset):
    """A source of square images as a data set, resized to ``size`` pixels a side."""

    def __init__(self, source: Source, size: int):
        self.source = source
        self.size: int = size
        self.name, self.labels, self.num_classes = str(source.path), source.labels, len(source.identities)
        self.identities = source.identities

    def __getitem__(self, index: int, /) -> Sample:
        image = self.source.image(index)
        height, width = image.shape[:2]
        item: Sample = {"image": resize(image, self.size), "label": int(self.labels[index])}
        if self.source.landmarks is not None:
            item["keypoints"] = relative(self.source.landmarks[index], width, height)
        return item

    def describe(self, index: int) -> str:
        """Its file."""
        return self.source.where(index)

    def encoded(self, index: int) -> bytes:
        """The bytes of its file."""
        return self.source.encoded(index)

    def key(self, index: int) -> str:
        """Its name, ``identity/file``."""
        return self.source.names[index]


@dataclass(eq=False)
class _Side:
    """One of the two sets: what could be read of it, and its embeddings."""

    source: Source
    digests: list[bytes]  # of the pixels
    unreadable: dict[str, str]  # image -> why
    embeddings: Floats  # (N, D) of length 1
    means: Floats  # (C, D) of length 1

    @property
    def counts(self) -> Ints:
        """(C,) images of each identity."""
        return np.bincount(self.source.labels)


def _open(source: Source, keypoints: bool, which: str) -> _Side:
    if keypoints and source.landmarks is None:
        option = "--landmarks" if which == "TRAIN" else "--test-landmarks"
        raise DataError(f"{source.path}: this model needs five keypoints; name the file that has {which}'s ({option})")
    kept, digests, unreadable = [], [], {}
    for i in track(len(source), f"read {which}"):
        try:
            image = source.image(i)
        except DataError as error:
            unreadable[source.names[i]] = str(error)
            continue
        if image.shape[0] != image.shape[1]:
            unreadable[source.names[i]] = f"{image.shape[1]}x{image.shape[0]} pixels: {NOT_SQUARE}"
            continue
        if keypoints and source.landmarks is not None and not np.isfinite(source.landmarks[i]).all():
            unreadable[source.names[i]] = "no landmarks, and this model needs them"
            continue
        kept.append(i)
        digests.append(hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest())
    if not kept:
        raise DataError(f"{source.path}: no image is left; the first: {next(iter(unreadable.values()))}")
    none = np.empty((0, 0), np.float32)
    return _Side(subset(source, kept), digests, unreadable, none, none)


def _unit(x: Floats, source: Source) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise DataError(f"{source.path}: {bad} of {len(x)} embeddings are not finite; the checkpoint is of no use")
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


def _image_threshold(train: _Side, comparisons: int) -> Threshold:
    """By two samples of the training set's images that share none; equal images count once."""
    once = np.unique(np.array(train.digests), return_index=True)[1]
    drawn = np.random.default_rng(0).permutation(once)[: 2 * SIDE]
    first, second = np.array_split(drawn, 2)
    x, labels = train.embeddings, train.source.labels
    if len(second) == 0:
        raise DataError(f"{train.source.path}: holds one image only; a threshold cannot be chosen by it (--threshold)")
    return impostor_threshold(x[first], labels[first], x[second], labels[second], comparisons)


def _identity_threshold(train: _Side, test_counts: Ints) -> Threshold:
    """Each training identity in the place of a test identity, with as many images as one of these (T,) has; any two
    identities meet twice, in both roles."""
    rng, counts = np.random.default_rng(0), train.counts
    order, ends = np.argsort(train.source.labels, kind="stable"), np.cumsum(counts)
    drawn = rng.permutation(len(counts))[:SIDE]
    probes = np.empty((len(drawn), train.embeddings.shape[1]), np.float32)
    for row, (identity, size) in enumerate(zip(drawn, rng.choice(test_counts, len(drawn)))):
        images = order[ends[identity] - counts[identity] : ends[identity]]
        probes[row] = train.embeddings[rng.permutation(images)[:size]].sum(axis=0)
    comparisons = len(counts) * len(test_counts)
    return impostor_threshold(_unit(probes, train.source), drawn, train.means[drawn], drawn, comparisons)


def _same_names(a: _Side, b: _Side, why: Reasons) -> dict[str, Any]:
    train, test = (
        {label: name for label, name in enumerate(side.source.identities) if not NUMBERED.fullmatch(name)}
        for side in (a, b)
    )
    known = {_plain(name): name for name in test.values()}
    found = {label: (name, known[_plain(name)]) for label, name in train.items() if _plain(name) in known}
    _note(why, ((label, f"the test set has {other}") for label, (_, other) in found.items()))
    return {
        "names": {"train": len(train), "test": len(test)},
        "identities": len(found),
        "list": [list(names) for names in found.values()][:LISTED],
    }


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _identical_images(a: _Side, b: _Side, why: Reasons) -> dict[str, Any]:
    other = dict(zip(reversed(b.digests), reversed(b.source.names)))  # the first of equal ones
    labels, names = a.source.labels.tolist(), a.source.names
    found = [(i, other[digest]) for i, digest in enumerate(a.digests) if digest in other]
    identities = _note(why, ((labels[i], f"{names[i]} has the pixels of the test set's {name}") for i, name in found))
    return {
        "images": len(found),
        "identities": identities,
        "list": [[names[i], name] for i, name in found[:LISTED]],
    }


def _near_duplicates(a: _Side, b: _Side, threshold: Threshold, why: Reasons) -> dict[str, Any]:
    index, cosine, pairs = closest(a.embeddings, b.embeddings, threshold.cosine)
    labels, found = a.source.labels.tolist(), _above(cosine, threshold)
    rows = [[a.source.names[i], b.source.names[index[i]], round(float(cosine[i]), 4)] for i in found]
    texts = (f"{name} has the cosine {score:.4f} to the test set's {other}" for name, other, score in rows)
    identities = _note(why, zip((labels[i] for i in found), texts))
    return {
        "threshold": threshold.as_dict(),
        "pairs": pairs,
        "images": len(rows),
        "identities": identities,
        "list": rows[:LISTED],
    }


def _same_people(a: _Side, b: _Side, threshold: Threshold, why: Reasons) -> dict[str, Any]:
    index, cosine, pairs = closest(a.means, b.means, threshold.cosine)
    found = _above(cosine, threshold)
    images = np.stack([a.counts, b.counts[index]], axis=1)  # (C, 2)
    rows = [[a.source.identities[i], b.source.identities[index[i]], round(float(cosine[i]), 4)] for i in found]
    _note(why, ((i, f"the mean has the cosine {row[2]:.4f} to the test set's {row[1]}") for i, row in zip(found, rows)))
    return {
        "threshold": threshold.as_dict(),
        "pairs": pairs,
        "identities": len(rows),
        "one_image": int((images[found] == 1).any(axis=1).sum()),
        "list": [[*row, *images[i].tolist()] for i, row in zip(found, rows)][:LISTED],
    }


def _above(cosine: Floats, threshold: Threshold) -> list[int]:
    """Where the cosine is above, highest first."""
    order = np.argsort(-cosine, kind="stable")
    return order[cosine[order] > threshold.cosine].tolist()


def _note(why: Reasons, found: Iterable[tuple[int, str]]) -> int:
    """Adds the first reason of each identity to those that it has; returns how many identities have one here."""
    first: dict[int, str] = {}
    for label, text in found:
        first.setdefault(label, text)
    for label, text in first.items():
        why.setdefault(label, []).append(text)
    return len(first)
