"""1:N on any labeled set: who is it, is it anyone known, and which images are of one person?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.embedding import embed_dataset
from facetx.evaluators.terms import Terms
from facetx.metrics.clustering import ClusterScores, bcubed, cluster_scores, single_linkage
from facetx.metrics.identification import (
    Ranking,
    TpirAtFpir,
    closest_of_references,
    rank_gallery,
    rank_leave_one_out,
    tpir_at_fpir,
)
from facetx.tables import Table

RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)
REFERENCES = 5
CLUSTERED = 5000
"""Images of each half of the identities that are clustered, at most: it takes their number squared."""

DEFINITIONS = {
    "similarity": "cosine of the embeddings; ties count against the system",
    "rank": "share of the images whose identity is among the k closest of all other images",
    "map": "mean over the images of the mean share of right ones down to each right one",
    "closest_of": "share of trials in which an image is closest to its own identity's, of one each of N identities",
    "tpir@fpir": "share of the images of known people whose closest gallery image is theirs and above the lowest "
    "threshold that at most that share of the unknown people's images exceeds; half of the identities are unknown, the "
    "first image of each of the others is the gallery",
    "pairwise_f, bcubed_f, nmi": "of single-linkage clusters of half of the identities, at the threshold that is best "
    "on the others",
}


@dataclass(frozen=True)
class IdentificationResult(Result):
    """What came out of one run on a labeled set.

    Attributes:
        name: Of the benchmark.
        ranking: Each image against all others.
        closest: How often an image is closest to its own identity's, of ``references`` images of as many identities.
        references: See ``closest``.
        open_set: TPIR at each of ``FPIRS``, with half of the identities left out of the gallery.
        clusters: Of the images of half of the identities that ``threshold`` joins.
        threshold: The cosine above which images are joined, chosen on the identities that ``clusters`` leaves out.
        images, identities: How many.
        flip: Whether mirrors were used.
    """

    name: str
    ranking: Ranking
    closest: float
    references: int
    open_set: list[TpirAtFpir]
    clusters: ClusterScores
    threshold: float
    images: int
    identities: int
    flip: bool

    def summary(self) -> dict[str, float]:
        """The named numbers, in 0..1."""
        return {
            **{f"rank{k}": self.ranking.rank_k(k) for k in RANKS},
            "map": self.ranking.mean_average_precision,
            f"closest_of_{self.references}": self.closest,
            **{f"tpir@fpir={point.target:g}": point.tpir for point in self.open_set},
            "pairwise_f": self.clusters.f,
            "bcubed_f": self.clusters.bcubed_f,
            "nmi": self.clusters.nmi,
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "summary": self.summary(),
            "open_set": [asdict(point) for point in self.open_set],
            "clusters": {**asdict(self.clusters), "threshold": self.threshold},
            "images": self.images,
            "identities": self.identities,
            "settings": {"flip": self.flip, "references": self.references},
            "definitions": DEFINITIONS,
        }

    def table(self) -> Table:
        """The summary in percent."""
        rows = [(name, f"{100 * value:.2f} %") for name, value in self.summary().items()]
        flip = "with" if self.flip else "without"
        return Table((self.name, f"{self.images} images, {self.identities} identities, {flip} flip"), rows)


class Identification(Evaluator):
    """The evaluator: embeds a labeled set once and asks it all of the questions of 1:N.

    Args:
        name: Prefix of its numbers in logs.
        dataset: Labeled images, at least four identities with two images or more.
        references: Identities that "closest of N references" chooses among; ``REFERENCES``, or all where there are
            fewer, unless given.
        seed: Which identities are unknown in the open set, and of the trials of the references.
        flip: Sum the embeddings of an image and of its mirror.

    Raises ``DataError`` for too few identities.
    """

    dataset: FaceDataset

    def __init__(
        self, name: str, dataset: FaceDataset, references: int | None = None, seed: int = 0, flip: bool = True
    ):
        super().__init__(name, dataset)
        if references is None:
            references = min(REFERENCES, dataset.num_classes)
        several = int((np.bincount(dataset.labels) > 1).sum())
        if several < 4 or not 2 <= references <= dataset.num_classes:
            raise DataError(
                f"{name}: identification needs four identities with two images or more, and as many identities as "
                f"references ({references}); {dataset.name} has {dataset.num_classes} identities, of which {several} "
                "have two images or more"
            )
        self.references, self.seed, self.flip = references, seed, flip

    def result(self, model: Model, how: How = HERE) -> IdentificationResult:
        """All of the result. Raises ``DataError`` as ``facetx.evaluators.embedding.embed_views`` does."""
        x = embed_dataset(model, self.dataset, how, flip=self.flip)  # (N, D)
        labels = self.dataset.labels
        known = self._half_of_identities()
        here, there = np.flatnonzero(known)[:CLUSTERED], np.flatnonzero(~known)[:CLUSTERED]
        threshold = best_threshold(x[here], labels[here])
        return IdentificationResult(
            name=self.name,
            ranking=rank_leave_one_out(x, labels),
            closest=closest_of_references(x, labels, self.references, seed=self.seed),
            references=self.references,
            open_set=tpir_at_fpir(self._open_set(x, known), FPIRS),
            clusters=cluster_scores(single_linkage(x[there]).clusters(threshold), labels[there]),
            threshold=threshold,
            images=len(labels),
            identities=self.dataset.num_classes,
            flip=self.flip,
        )

    def terms(self) -> Terms:
        """For the receipt."""
        return Terms(
            items=np.arange(len(self.dataset)),
            protocol=[(self.dataset.labels, "<i8"), ([self.references, self.seed, CLUSTERED], "<i8")],
            flip=self.flip,
            definitions=DEFINITIONS,
        )

    def _half_of_identities(self) -> NDArray[np.bool_]:
        """(N,) whether each image is of the half that may be known; both halves have identities of two images."""
        counts = np.bincount(self.dataset.labels)
        shuffled = np.random.default_rng(self.seed).permutation(len(counts))
        dealt = shuffled[np.argsort(-counts[shuffled], kind="stable")]  # so that both halves are about equally rich
        return np.isin(self.dataset.labels, dealt[::2])

    def _open_set(self, x: NDArray[np.float32], known: NDArray[np.bool_]) -> Ranking:
        """The first image of each known identity is the gallery; all other images are probes."""
        labels = self.dataset.labels
        gallery = np.zeros(len(labels), bool)
        gallery[np.unique(labels, return_index=True)[1]] = True
        gallery &= known
        return rank_gallery(x[~gallery], labels[~gallery], x[gallery], labels[gallery])


def best_threshold(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The cosine, of 0 to 0.98 by 0.02, whose clusters have the best BCubed F; the highest of equals."""
    linkage, grid = single_linkage(embeddings), np.round(np.arange(0.98, -0.01, -0.02), 2)
    return float(grid[int(np.argmax([bcubed(linkage.clusters(t), labels)[2] for t in grid]))])
