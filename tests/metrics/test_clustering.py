"""Clusters and their scores, by plain loops."""

from itertools import combinations

import numpy as np
import pytest

from facetx.metrics.clustering import cluster_scores, single_linkage


def components(x, threshold):
    """Connected components of the threshold graph, by flooding."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = unit @ unit.T > threshold
    cluster = -np.ones(len(x), int)
    for i in range(len(x)):
        wave = [i] if cluster[i] < 0 else []
        while wave:
            j = wave.pop()
            if cluster[j] < 0:
                cluster[j] = i
                wave += np.flatnonzero(near[j]).tolist()
    return cluster


@pytest.mark.parametrize("threshold", [-1.1, 0.0, 0.5, 0.7, 0.9, 0.99, 1.0])
def test_clusters_are_the_components_of_the_graph(threshold):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    found, expected = single_linkage(x).clusters(threshold), components(x, threshold)
    assert found.max() == len(set(expected.tolist())) - 1
    for a, b in combinations(range(60), 2):
        assert (found[a] == found[b]) == (expected[a] == expected[b])


def test_scores_are_those_of_all_pairs_and_images():
    rng = np.random.default_rng(1)
    cluster, label = rng.integers(5, size=40), rng.integers(7, size=40)
    found = cluster_scores(cluster, label)
    pairs = [(cluster[a] == cluster[b], label[a] == label[b]) for a, b in combinations(range(40), 2)]
    both = sum(c and s for c, s in pairs)
    assert found.precision == pytest.approx(both / sum(c for c, _ in pairs))
    assert found.recall == pytest.approx(both / sum(s for _, s in pairs))
    assert found.f == pytest.approx(2 * both / (sum(c for c, _ in pairs) + sum(s for _, s in pairs)))
    precisions = [np.mean(label[cluster == cluster[i]] == label[i]) for i in range(40)]
    recalls = [np.mean(cluster[label == label[i]] == cluster[i]) for i in range(40)]
    assert found.bcubed_precision == pytest.approx(np.mean(precisions))
    assert found.bcubed_recall == pytest.approx(np.mean(recalls))


def test_perfect_single_and_one_cluster():
    label = [0, 0, 1, 1, 2]
    assert cluster_scores([4, 4, 2, 2, 9], label) == cluster_scores(label, label)
    assert cluster_scores(label, label).f == 1
    apart = cluster_scores(range(5), label)
    assert (apart.precision, apart.recall, apart.f, apart.bcubed_precision) == (1, 0, 0, 1)
    assert cluster_scores([0] * 5, label).bcubed_recall == 1
    with pytest.raises(ValueError, match="a cluster and a label for each image"):
        cluster_scores([0, 1], [0])


def test_nmi_is_mutual_information_over_mean_entropy():
    rng = np.random.default_rng(2)
    cluster, label = rng.integers(4, size=50), rng.integers(3, size=50)
    joint = np.array([[np.mean((cluster == c) & (label == k)) for k in range(3)] for c in range(4)])
    by_cluster, by_label = joint.sum(1), joint.sum(0)
    seen = joint > 0
    mutual = (joint[seen] * np.log(joint / np.outer(by_cluster, by_label))[seen]).sum()
    entropies = [-(p * np.log(p)).sum() for p in (by_cluster, by_label)]
    assert cluster_scores(cluster, label).nmi == pytest.approx(mutual / np.mean(entropies))
