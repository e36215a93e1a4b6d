"""Clustering of faces without labels, and how well it finds the people.

Legend: N images, D dimensions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetx.metrics.roc import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClusterScores:
    """Agreement of clusters with identities, all in 0..1.

    Attributes:
        nmi: Normalized mutual information of both partitions (arithmetic mean of their entropies).
        precision, recall, f: Of pairs of images: a pair in one cluster is right where it is of one person.
        bcubed_precision, bcubed_recall, bcubed_f: Means over the images: the share of its cluster that is of its
            person, and the share of its person's images that is in its cluster. Large people count less than by pairs.
    """

    precision: float
    recall: float
    f: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    nmi: float


@dataclass(frozen=True)
class Linkage:
    """Which images join as the threshold falls: single linkage, by the spanning tree of the highest cosines.

    Attributes:
        ends: (N - 1, 2) the two images of each link.
        scores: (N - 1,) their cosines.
    """

    ends: Ints
    scores: Floats

    def clusters(self, threshold: float) -> Ints:
        """Cluster (N,) of each image, 0, 1, ...: images are joined wherever their cosine is above the threshold.

        The connected components of that graph: one wrong link joins two people, so it suits embeddings that tell
        people apart well.
        """
        parent = list(range(len(self.ends) + 1))

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        for a, b in self.ends[self.scores > threshold].tolist():
            parent[root(a)] = root(b)
        return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1]


def single_linkage(embeddings: ArrayLike) -> Linkage:
    """The links of N images, embeddings (N, D) that need not be normalized. Takes 4 N^2 bytes.

    Prim's algorithm: the image that is closest to those in the tree comes next.
    """
    x = np.asarray(embeddings, dtype=np.float32)
    x = x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
    cosines = x @ x.T  # (N, N)
    closest, partner = cosines[0].copy(), np.zeros(len(x), np.int64)
    closest[0] = -np.inf  # in the tree
    inside = np.arange(len(x)) == 0
    ends = np.empty((len(x) - 1, 2), np.int64)
    scores = np.empty(len(x) - 1)
    for k in range(len(x) - 1):
        new = int(closest.argmax())
        ends[k], scores[k] = (new, partner[new]), closest[new]
        inside[new] = True
        nearer = (cosines[new] > closest) & ~inside
        closest[nearer], partner[nearer] = cosines[new][nearer], new
        closest[new] = -np.inf
    return Linkage(ends, scores)


def cluster_scores(clusters: Iterable[int], labels: Iterable[int]) -> ClusterScores:
    """Pairwise and BCubed scores (Amigo et al. 2009), and NMI, of clusters (N,) against identities (N,).

    Where no two images share a cluster, no pair is wrong: the precision is 1. Likewise the recall without mates.
    """
    from sklearn.metrics.cluster import normalized_mutual_info_score, pair_confusion_matrix

    cluster, label = _numbered(clusters, labels)
    (_, joined_alone), (mates_alone, both) = pair_confusion_matrix(label, cluster).tolist()
    precision, recall = _share(both, both + joined_alone), _share(both, both + mates_alone)
    nmi = float(normalized_mutual_info_score(label, cluster))
    return ClusterScores(precision, recall, _f(precision, recall), *bcubed(cluster, label), nmi)


def bcubed(clusters: Iterable[int], labels: Iterable[int]) -> tuple[float, float, float]:
    """BCubed precision, recall and F of clusters (N,) against identities (N,), see ``ClusterScores``."""
    cluster, label = _numbered(clusters, labels)
    _, cell, common = np.unique(np.stack([cluster, label]), axis=1, return_inverse=True, return_counts=True)
    overlap = common[cell.ravel()]  # (N,) images of its person in its cluster
    precision = float(np.mean(overlap / np.bincount(cluster)[cluster]))
    recall = float(np.mean(overlap / np.bincount(label)[label]))
    return precision, recall, _f(precision, recall)


def _numbered(clusters: Iterable[int], labels: Iterable[int]) -> tuple[Ints, Ints]:
    cluster, label = (np.unique(np.asarray(list(v)), return_inverse=True)[1] for v in (clusters, labels))
    if cluster.shape != label.shape or not len(cluster):
        raise ValueError(f"expected a cluster and a label for each image, got {len(cluster)} and {len(label)}")
    return cluster, label


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
