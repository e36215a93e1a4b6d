"""1:N identification: whose face is it, and is it anyone's in the gallery?

Similarity is the cosine of embeddings. A tie counts against the system everywhere: a wrong gallery image that is as
close as the right one stands before it, so that constant embeddings identify nobody. Cosines that differ by no more
than ``TIE`` are a tie, for equal rows give slightly different products where a machine adds up in another order.

Legend: P probes, G gallery images, D dimensions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.metrics.roc import Bools, Floats, thresholds_at

CHUNK = 1024
"""Probes that are compared with the whole gallery at once; bounds the memory to CHUNK x G scores."""
TIE = 1e-9
"""Of products in float64."""
TIE_32 = 2e-6
"""Of products in float32."""


def tie_of(scores: NDArray[Any]) -> float:
    """By how much cosines of this type may differ and still be a tie."""
    return TIE_32 if scores.dtype == np.float32 else TIE


@dataclass(frozen=True)
class Ranking:
    """Where each probe's own identity stands among the gallery images, closest first.

    Attributes:
        rank: (P,) place of the closest image of the probe's identity, from 1 on; 0 if the gallery has none.
        average_precision: (P,) mean, over its images, of the share of right ones down to each; NaN if there are none.
        top: (P,) score of the closest gallery image, whoever it shows.
        tie: Scores that differ by no more are equal.
    """

    rank: NDArray[np.int64]
    average_precision: Floats
    top: Floats
    tie: float = TIE

    @property
    def mated(self) -> Bools:
        """(P,) whether the gallery holds the probe's identity."""
        return self.rank > 0

    def rank_k(self, k: int) -> float:
        """Closed-set identification rate: share of the mated probes with their identity among the k closest images."""
        return float(np.mean(self.rank[self.mated] <= k))

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the mated probes (mAP)."""
        return float(self.average_precision[self.mated].mean())


def rank_gallery(
    probes: ArrayLike,
    probe_labels: Sequence[int] | NDArray[np.int64],
    gallery: ArrayLike,
    gallery_labels: Sequence[int] | NDArray[np.int64],
) -> Ranking:
    """Compares probes (P, D) with gallery images (G, D), each with its identity. Embeddings need not be normalized.

    Raises ``ValueError`` for embeddings that are not finite, or where no probe has a mate in the gallery.
    """
    return _rank(_unit(probes), np.asarray(probe_labels), _unit(gallery), np.asarray(gallery_labels), leave_out=False)


def rank_leave_one_out(embeddings: ArrayLike, labels: Sequence[int] | NDArray[np.int64]) -> Ranking:
    """Compares each image (P, D) with all the others of the same set."""
    unit, label = _unit(embeddings), np.asarray(labels)
    return _rank(unit, label, unit, label, leave_out=True)


@dataclass(frozen=True)
class TpirAtFpir:
    """Open-set identification at one false positive identification rate.

    Attributes:
        target: The FPIR asked for.
        fpir: The FPIR realized, <= target: share of the probes without a mate that are taken for somebody.
        tpir: Share of the mated probes whose closest image is of their identity and above the threshold.
        threshold: A probe is identified where the score of its closest image is above.
    """

    target: float
    fpir: float
    tpir: float
    threshold: float


def tpir_at_fpir(ranking: Ranking, fpirs: Iterable[float]) -> list[TpirAtFpir]:
    """TPIR at each FPIR, by the step function: the lowest threshold whose FPIR <= target, never interpolated.

    Raises ``ValueError`` unless there are probes with and without a mate in the gallery.
    """
    mated = ranking.mated
    if mated.all() or not mated.any():
        raise ValueError(
            f"open-set identification needs probes with and without a mate in the gallery, got {int(mated.sum())} with "
            f"and {int((~mated).sum())} without"
        )
    strangers, known, first = ranking.top[~mated], ranking.top[mated], ranking.rank[mated] == 1
    targets = list(fpirs)
    return [
        TpirAtFpir(target, float(np.mean(strangers > t)), float(np.mean(first & (known - ranking.tie > t))), float(t))
        for target, t in zip(targets, thresholds_at(strangers, targets))
    ]


def closest_of_references(
    embeddings: ArrayLike, labels: Sequence[int] | NDArray[np.int64], references: int, trials: int = 1000, seed: int = 0
) -> float:
    """How often an image is closest to its own identity's, of ``references`` images of as many identities: 0..1.

    Each trial draws a probe among the identities that have two images or more, another image of its identity, and one
    image each of ``references - 1`` other identities. Chance is 1 / references.

    Raises ``ValueError`` where there are fewer identities than references, or none has two images.
    """
    unit, label = _unit(embeddings), np.asarray(labels)
    identities, counts = np.unique(label, return_counts=True)
    if not 2 <= references <= len(identities) or counts.max() < 2:
        raise ValueError(
            f"cannot compare with {references} references among {len(identities)} identities, of which "
            f"{int((counts > 1).sum())} have two images or more"
        )
    images = [np.flatnonzero(label == identity) for identity in identities]
    rng = np.random.default_rng(seed)
    right = 0
    for _ in range(trials):
        person = rng.choice(np.flatnonzero(counts > 1))
        probe, mate = rng.choice(images[person], size=2, replace=False)
        others = rng.choice(np.delete(np.arange(len(identities)), person), size=references - 1, replace=False)
        wrong = [rng.choice(images[other]) for other in others]
        scores = unit[[mate, *wrong]] @ unit[probe]
        right += int(scores[0] - TIE > scores[1:].max())
    return right / trials


def _unit(embeddings: ArrayLike) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    x = np.asarray(embeddings, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).any(axis=1).sum())} of {len(x)} embeddings are not finite")
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm == 0, 1, norm)


def _chunks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))


def _rank(probes: Floats, probe_labels: NDArray, gallery: Floats, gallery_labels: NDArray, leave_out: bool) -> Ranking:
    ranks, precisions, tops = [], [], []
    places = np.arange(1, len(gallery) + 1)
    for chunk in _chunks(len(probes)):
        scores = probes[chunk] @ gallery.T  # (C, G)
        mate = probe_labels[chunk, None] == gallery_labels[None, :]
        if leave_out:
            rows = np.arange(len(scores))
            own = rows + chunk.start
            scores[rows, own] = -np.inf  # behind all others, and nobody's mate
            mate[rows, own] = False
        order = np.lexsort((mate, TIE * mate - scores))  # by score, and of equal scores the wrong ones first
        hit = np.take_along_axis(mate, order, axis=1)
        count = hit.sum(axis=1)
        ranks.append(np.where(count > 0, hit.argmax(axis=1) + 1, 0))
        precision = (hit * hit.cumsum(axis=1) / places).sum(axis=1)
        precisions.append(np.divide(precision, count, out=np.full(len(count), np.nan), where=count > 0))
        tops.append(scores.max(axis=1))
    rank = np.concatenate(ranks)
    if not rank.any():
        raise ValueError("no probe has an image of its identity in the gallery; check the labels of both")
    return Ranking(rank, np.concatenate(precisions), np.concatenate(tops))
