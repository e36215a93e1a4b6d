"""Numbers of masks: a label and what a model says, class by class, in; counts of pixels, then shares out.

Every share of a set is of pixels that are summed over all its images first, so a large image weighs more than a small
one; that is the field's mean F1. Counts of an image are one array (7, M), see ``KINDS``, and all functions below take
any number of axes before these two: an image, the images of a set, or resampled sets. M classes, N images, R resamples.
Class 0 is the background.
"""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from facetx.metrics.significance import Bootstrapped, bootstrapped

Mask = NDArray[np.uint8]
Floats = NDArray[np.float64]
Counts = NDArray[np.integer] | Floats

KINDS = ("both", "labeled", "said", "labeled_edge", "labeled_edge_met", "said_edge", "said_edge_met")
"""Pixels of a class: those that are labeled and said; labeled; said; and of the boundary of each of these two areas the
pixels, and those that have a pixel of the other's boundary of the same class within the tolerance."""
IGNORED = 255
BACKGROUND = 0
RESAMPLES = 1000


def confusion(label: Mask, said: Mask, classes: int) -> NDArray[np.int64]:
    """How many pixels of each labeled class are said to be of each class: (M, M), a row a labeled class.

    Args:
        label: (H, W) classes, 255 where a pixel counts for nothing.
        said: (H, W) classes.
        classes: M, at most 255.

    Raises ``ValueError`` for two sizes, and for a class that is not one of the M, with its number of pixels.
    """
    if label.shape != said.shape:
        raise ValueError(f"a label of shape {label.shape} and an answer of shape {said.shape} are not of one image")
    pairs = np.multiply(label, classes, dtype=np.uint16) + said  # at most 255 * 255 + 254, so it fits
    found = np.bincount(pairs.ravel(), minlength=(IGNORED + 1) * classes)
    if said.size and int(said.max()) >= classes:
        raise ValueError(f"class {said.max()} is said, and there are {classes} classes")
    rows = found.reshape(-1, classes)[:IGNORED]
    if rows[classes:].any():
        wrong = int(np.flatnonzero(rows[classes:].any(axis=1))[0]) + classes
        raise ValueError(f"{rows[wrong].sum()} pixels are labeled {wrong}, and there are {classes} classes")
    return rows[:classes].astype(np.int64)


def count(label: Mask, said: Mask, classes: int, tolerance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The confusion matrix (M, M) of one image, and its counts (7, M).

    A pixel is of its area's boundary where one of its four neighbors is of another class, both with a label. The
    image's edge is no boundary.

    Args:
        label, said, classes: As in ``confusion``.
        tolerance: Pixels, between the middles of two pixels.
    """
    matrix = confusion(label, said, classes)
    known = label != IGNORED
    edges = [np.where(_edge(mask, known), mask, IGNORED).astype(np.uint8) for mask in (label, said)]
    found = [np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)]
    for own, other in (edges, edges[::-1]):
        places = np.nonzero(own != IGNORED)
        kinds = own[places]
        found += [
            np.bincount(each, minlength=classes) for each in (kinds, kinds[_near(places, kinds, other, tolerance)])
        ]
    return matrix, np.stack(found)


def _edge(mask: Mask, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge = np.zeros(mask.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (mask[one] != mask[other]) & known[one] & known[other]
        edge[one] |= differ
        edge[other] |= differ
    return edge


def _near(places: tuple[NDArray[np.intp], ...], kinds: Mask, edges: Mask, tolerance: float) -> NDArray[np.bool_]:
    """Of each of these pixels, whether ``edges`` (H, W) has its class within the tolerance."""
    reach = max(ceil(tolerance), 0)
    padded = np.pad(edges, reach, constant_values=IGNORED)
    width = padded.shape[1]
    start = (places[0] + reach) * width + places[1] + reach
    near = np.zeros(len(kinds), bool)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            if x * x + y * y <= tolerance * tolerance:
                near |= padded.ravel()[start + y * width + x] == kinds
    return near


def _kind(counts: Counts, name: str) -> Counts:
    kind: Counts = counts[..., KINDS.index(name), :]
    return kind


def _share(part: Counts, whole: Counts, there: NDArray[np.bool_]) -> Floats:
    """NaN where a class is not there; 0 where there is nothing that the part could be a share of."""
    found: Floats = np.where(there, part / np.maximum(whole, 1), np.nan)
    return found


def f1(counts: Counts) -> Floats:
    """(..., M) F1 of each class, 2 both / (labeled + said); NaN where no pixel is labeled so."""
    labeled = _kind(counts, "labeled")
    return _share(2 * _kind(counts, "both"), labeled + _kind(counts, "said"), labeled > 0)


def iou(counts: Counts) -> Floats:
    """(..., M) intersection over union of each class; NaN where no pixel is labeled so."""
    both, labeled = _kind(counts, "both"), _kind(counts, "labeled")
    return _share(both, labeled + _kind(counts, "said") - both, labeled > 0)


def boundary_f1(counts: Counts) -> Floats:
    """(..., M) harmonic mean of the share of the said boundary that is met and that of the labeled one (Csurka et al.,
    BMVC 2013, but of pixels summed over the images); NaN where a class has no labeled boundary."""
    there = _kind(counts, "labeled_edge") > 0
    recall = _share(_kind(counts, "labeled_edge_met"), _kind(counts, "labeled_edge"), there)
    precision = _share(_kind(counts, "said_edge_met"), _kind(counts, "said_edge"), there)
    with np.errstate(invalid="ignore"):
        both: Floats = 2 * precision * recall / (precision + recall)
    return np.where(there & (precision + recall == 0), 0.0, both)


def image_f1(counts: Counts) -> Floats:
    """(...) the mean F1 of single images, over the classes that are labeled or said there, the background left out; NaN
    where there is none."""
    whole = (_kind(counts, "labeled") + _kind(counts, "said"))[..., BACKGROUND + 1 :]
    return _mean(_share(2 * _kind(counts, "both")[..., BACKGROUND + 1 :], whole, whole > 0))


def numbers(counts: Counts) -> dict[str, Floats]:
    """Named numbers (...), each in 0..1: means over the classes that have a labeled pixel; NaN where none has.

    ``mean_f1`` and ``mean_boundary_f1`` leave the background out, as the field does; ``mean_iou`` has it, as in
    semantic segmentation.
    """
    labeled = _kind(counts, "labeled").sum(axis=-1)
    return {
        "mean_f1": _mean(f1(counts)[..., BACKGROUND + 1 :]),
        "mean_iou": _mean(iou(counts)),
        "pixel_accuracy": _share(_kind(counts, "both").sum(axis=-1), labeled, labeled > 0),
        "mean_boundary_f1": _mean(boundary_f1(counts)[..., BACKGROUND + 1 :]),
    }


def _mean(values: Floats) -> Floats:
    """(..., M) -> (...) over those that there are."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(there, values, 0).sum(axis=-1) / there.sum(axis=-1)
    return mean


def resampled(counts: Counts, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(N, 7, M) -> (R, 7, M): the sums over as many images drawn with replacement, the same draws for the same N."""
    images = len(counts)
    times = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)  # (R, N)
    sums: Floats = times.astype(np.float64) @ counts.reshape(images, -1).astype(np.float64)
    return sums.reshape(resamples, *counts.shape[1:])


def intervals(values: Floats) -> Floats:
    """(R, ...) -> (2, ...): 95 % percentile intervals over the resamples, those left out that lack a class; NaN where
    all do."""
    found = np.full((2, *values.shape[1:]), np.nan)
    there = np.isfinite(values).any(axis=0)
    found[:, there] = np.nanquantile(values[:, there], (0.025, 0.975), axis=0)
    return found


def compare(a: Counts, b: Counts, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Bootstrapped]:
    """The paired bootstrap (Efron 1979) of two models' ``numbers`` on the same images, which are drawn together.

    Args:
        a, b: (N, 7, M) of each model.
        resamples, seed: As in ``resampled``.

    Raises ``ValueError`` for counts of two shapes, or labels that differ.
    """
    both, drawn = _drawn(a, b, resamples, seed)
    return _bootstrapped(numbers(both), numbers(drawn))


def compare_classes(
    a: Counts, b: Counts, names: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Bootstrapped]:
    """As ``compare``, the F1 of each class by its name, without those that no label has."""
    found, values = (dict(zip(names, np.moveaxis(f1(counts), -1, 0))) for counts in _drawn(a, b, resamples, seed))
    return _bootstrapped(found, values)


def _drawn(a: Counts, b: Counts, resamples: int, seed: int) -> tuple[Counts, Counts]:
    """Of both models the sums over all images (2, 7, M), and over those drawn (R, 2, 7, M)."""
    labeled = KINDS.index("labeled")
    if a.shape != b.shape or not np.array_equal(a[:, labeled], b[:, labeled]):
        raise ValueError(f"counts of shapes {a.shape} and {b.shape} are not of the same images")
    sums = np.stack([each.sum(axis=0, dtype=np.int64) for each in (a, b)])
    return sums, np.stack([resampled(each, resamples, seed) for each in (a, b)], axis=1)


def _bootstrapped(found: Mapping[str, Floats], drawn: Mapping[str, Floats]) -> dict[str, Bootstrapped]:
    """From (2,) and (R, 2) of each name; without resamples that lack a class, and names that all do."""
    there = {name: values[np.isfinite(values).all(axis=1)] for name, values in drawn.items()}
    return {name: bootstrapped(found[name], values) for name, values in there.items() if len(values)}
