"""Templates: several images and video frames of one person as one feature, as IJB-B and IJB-C want.

Legend: N images, T templates, P pairs of templates, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.metrics.identification import Ranking, TpirAtFpir, tie_of, tpir_at_fpir

Ints = NDArray[np.int64]

BLOCK = 1024
"""Templates that are compared with all others at once; bounds the memory to BLOCK x T scores."""
DECIMALS = 6
"""Places of a cosine of float32 features: fewer than the order of its sum disturbs, so that ties are told as ties."""


@dataclass(frozen=True)
class Templates:
    """T templates with features of unit length.

    Attributes:
        ids: (T,) rising.
        features: (T, D) float32.
        norm: Whether an image counts by the length of its embedding; else all count alike.
        detector: Whether it counts by its detector score too.
    """

    ids: Ints
    features: NDArray[np.float32]
    norm: bool
    detector: bool

    @property
    def flags(self) -> str:
        """ "N1D1" where norm and detector score count; the field's names of the settings that move the result."""
        return f"N{int(self.norm)}D{int(self.detector)}"

    def of(self, ids: ArrayLike) -> Ints:
        """Rows of these templates. Raises ``ValueError`` for one that there is not."""
        wanted = np.asarray(ids)
        rows = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        missing = self.ids[rows] != wanted
        if missing.any():
            raise ValueError(
                f"no image belongs to {int(missing.sum())} templates, the first of them {wanted[missing][0]}"
            )
        return rows


def pool_templates(
    features: NDArray[np.float32],
    templates: ArrayLike,
    media: ArrayLike,
    detector_scores: ArrayLike | None = None,
    norm: bool = True,
) -> Templates:
    """Images are averaged within each medium (a video, or a still of its own), and the media are summed.

    The pooling of the IJB protocols as the field's code has it (Crosswhite et al. 2017; InsightFace), so that a video
    of many frames counts as one image.

    Args:
        features: (N, D), those of an image and of its mirror summed where mirrors are used.
        templates: (N,) template of each image.
        media: (N,) medium of each image, numbered within its template or throughout.
        detector_scores: (N,) weights of the images; all count alike unless given.
        norm: Keep the length of the features; else they are scaled to 1 first.
    """
    template = np.asarray(templates)
    medium = np.unique(media, return_inverse=True)[1]
    _, of, counts = np.unique(template * (medium.max() + 1) + medium, return_inverse=True, return_counts=True)
    weight = 1 / counts[of]  # the sum of the media's means is one weighted sum of the images
    if detector_scores is not None:
        weight *= np.asarray(detector_scores)
    if not norm:
        weight /= np.sqrt(np.einsum("nd,nd->n", features, features)).clip(1e-12)
    order = np.argsort(template, kind="stable")
    ids, first = np.unique(template[order], return_index=True)
    pooled = np.stack([weight[rows].astype(np.float32) @ features[rows] for rows in np.split(order, first[1:])])
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True).clip(1e-12)
    return Templates(ids, pooled, norm, detector_scores is not None)


def template_scores(templates: Templates, first: ArrayLike, second: ArrayLike) -> NDArray[np.float32]:
    """Cosines (P,) float32 of pairs of templates by their ids, first (P,) and second (P,), to ``DECIMALS`` places.

    A block of templates is multiplied with all from there on in one matrix product, which is faster than P dot products
    where the pairs are as dense as IJB's.
    """
    a, b = templates.of(first), templates.of(second)
    a, b = np.minimum(a, b), np.maximum(a, b)  # the cosine is symmetric, so half of the products do
    order = np.argsort(a, kind="stable")
    edges = np.searchsorted(a[order], np.arange(0, len(templates.ids) + BLOCK, BLOCK))
    scores = np.empty(len(a), np.float32)
    for block, (lo, hi) in enumerate(pairwise(edges)):
        if lo < hi:
            start = block * BLOCK
            products = templates.features[start : start + BLOCK] @ templates.features[start:].T  # (BLOCK, T - start)
            pairs = order[lo:hi]
            scores[pairs] = products[a[pairs] - start, b[pairs] - start]
    return scores.round(DECIMALS)


@dataclass(frozen=True)
class TemplateSearch:
    """1:N search of probe templates in galleries, each number the mean over the galleries.

    Attributes:
        ranks: Rank -> closed-set identification rate over the probes whose subject the gallery holds.
        open_set: TPIR at each FPIR, of each gallery; strangers to a gallery are the probes that it does not hold.
        mated, strangers: Probes of each kind, of each gallery.
    """

    ranks: dict[int, float]
    open_set: list[list[TpirAtFpir]]
    mated: list[int]
    strangers: list[int]

    def tpir(self) -> dict[float, float]:
        """FPIR -> mean TPIR over the galleries."""
        return {points[0].target: float(np.mean([p.tpir for p in points])) for points in zip(*self.open_set)}


def search_templates(
    probes: tuple[ArrayLike, ArrayLike],
    galleries: Sequence[tuple[ArrayLike, ArrayLike]],
    ranks: Sequence[int] = (1, 5, 10),
    fpirs: Sequence[float] = (0.01, 0.1),
) -> TemplateSearch:
    """Searches each probe template in each gallery, one template a subject.

    Args:
        probes: Features (P, D) and subjects (P,).
        galleries: Features (G, D) and subjects (G,) of each; IJB-B and IJB-C have two, without a common subject.
        ranks: Of the closed-set identification.
        fpirs: Of the open-set identification, by the step function.

    Features are of unit length. Raises ``ValueError`` for a gallery with two templates of one subject.
    """
    found = [_rank_subjects(*probes, *gallery) for gallery in galleries]
    return TemplateSearch(
        ranks={k: float(np.mean([ranking.rank_k(k) for ranking in found])) for k in ranks},
        open_set=[tpir_at_fpir(ranking, fpirs) for ranking in found],
        mated=[int(ranking.mated.sum()) for ranking in found],
        strangers=[int((~ranking.mated).sum()) for ranking in found],
    )


def _rank_subjects(probes: ArrayLike, subjects: ArrayLike, gallery: ArrayLike, gallery_subjects: ArrayLike) -> Ranking:
    """``rank_gallery`` for one gallery template a subject: without sorting, for the rank is a count."""
    probe, subject, known = np.asarray(probes), np.asarray(subjects), np.asarray(gallery_subjects)
    order = np.argsort(known)
    if (np.diff(known[order]) == 0).any():
        raise ValueError("the gallery holds two templates of one subject; pool all of a subject's images into one")
    place = np.searchsorted(known[order], subject).clip(max=len(known) - 1)
    mate = np.where(known[order][place] == subject, order[place], -1)  # (P,), -1 for none
    rank, top, tie = np.empty(len(probe), np.int64), np.empty(len(probe)), 0.0
    for start in range(0, len(probe), BLOCK):
        part = slice(start, start + BLOCK)
        scores = probe[part] @ np.asarray(gallery).T  # (B, G)
        own = scores[np.arange(len(scores)), mate[part]]
        tie = tie_of(scores)
        rank[part] = (scores >= own[:, None] - tie).sum(axis=1)  # itself, and whoever is as close
        top[part] = scores.max(axis=1)
    rank[mate < 0] = 0
    precision = np.divide(1, rank, out=np.full(len(rank), np.nan), where=rank > 0)
    return Ranking(rank, precision, top, tie)
