"""Ranks, precision and open-set rates against a plain loop over sorted lists."""

import numpy as np
import pytest

from facetx.metrics import identification
from facetx.metrics.identification import closest_of_references, rank_gallery, rank_leave_one_out, tpir_at_fpir


def sample(people=12, images=4, dim=8, spread=0.7):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(people), images)
    return rng.normal(size=(people, dim))[label] + spread * rng.normal(size=(len(label), dim)), label


def by_loops(probe, label, gallery, labels):
    """Rank (0 without a mate), average precision, and closest score of one probe."""
    cosine = gallery @ probe / np.linalg.norm(gallery, axis=1) / np.linalg.norm(probe)
    order = sorted(range(len(labels)), key=lambda i: (-round(cosine[i], 12), labels[i] == label))
    hits = [place for place, i in enumerate(order, start=1) if labels[i] == label]
    precision = np.mean([(n + 1) / place for n, place in enumerate(hits)]) if hits else np.nan
    return hits[0] if hits else 0, precision, cosine.max()


@pytest.mark.parametrize("chunk", [1024, 5])
def test_ranking_equals_the_plain_loop(monkeypatch, chunk):
    monkeypatch.setattr(identification, "CHUNK", chunk)
    x, label = sample()
    known = label < 9
    a, b = known & (np.arange(len(x)) % 4 == 0), ~known | (np.arange(len(x)) % 4 > 0)
    got = rank_gallery(x[b], label[b], x[a], label[a])
    ranks, precisions, tops = zip(*(by_loops(p, q, x[a], label[a]) for p, q in zip(x[b], label[b])))
    assert got.rank.tolist() == list(ranks)
    assert (got.rank == 0).sum() == 12
    np.testing.assert_allclose(got.average_precision, precisions, rtol=1e-12)
    np.testing.assert_allclose(got.top, tops, rtol=1e-12)
    for k in (1, 3):
        assert got.rank_k(k) == np.mean([r <= k for r in ranks if r])

    whole = rank_leave_one_out(x, label)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        rank, precision, _ = by_loops(x[i], label[i], x[rest], label[rest])
        assert whole.rank[i] == rank
        assert whole.average_precision[i] == pytest.approx(precision)
    assert 0 < whole.mean_average_precision < 1


def test_constant_embeddings_identify_nobody():
    label = np.repeat(np.arange(5), 2)
    ranking = rank_leave_one_out(np.ones((10, 3)), label)
    assert (ranking.rank == 9).all()
    assert ranking.mean_average_precision == pytest.approx(1 / 9)
    assert closest_of_references(np.ones((10, 3)), label, 3, trials=20) == 0


def test_open_set_is_the_best_of_all_thresholds_that_keep_the_rate():
    x, label = sample(spread=0.9)
    known = label < 8
    gallery = known & (np.arange(len(x)) % 4 == 0)
    ranking = rank_gallery(x[~gallery], label[~gallery], x[gallery], label[gallery])
    mated = ranking.mated
    for got in tpir_at_fpir(ranking, [0, 0.1, 0.25, 0.5, 1]):
        rates = [
            (np.mean((ranking.rank[mated] == 1) & (ranking.top[mated] > t)), np.mean(ranking.top[~mated] > t))
            for t in [*ranking.top, -np.inf]
        ]
        assert got.tpir == max(tpir for tpir, fpir in rates if fpir <= got.target)
        assert got.fpir == np.mean(ranking.top[~mated] > got.threshold) <= got.target
    assert got.tpir == ranking.rank_k(1)
    with pytest.raises(ValueError, match="48 with and 0 without"):
        tpir_at_fpir(rank_leave_one_out(x, label), [0.1])


def test_closest_of_references_lies_between_chance_and_one():
    x, label = sample()
    assert closest_of_references(np.eye(12)[label] + 1e-3, label, 12, trials=50) == 1
    noise = np.random.default_rng(1).normal(size=(48, 64))
    assert closest_of_references(noise, label, 4, trials=1000) == pytest.approx(0.25, abs=0.1)
    assert closest_of_references(x, label, 4, seed=1) == closest_of_references(x, label, 4, seed=1) > 0.5
    with pytest.raises(ValueError, match="13 references among 12 identities"):
        closest_of_references(x, label, 13)
    with pytest.raises(ValueError, match="0 have two images"):
        closest_of_references(x[::4], label[::4], 3)


def test_embeddings_that_are_not_finite_are_refused():
    x, label = sample()
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 48 embeddings are not finite"):
        rank_leave_one_out(x, label)


def test_a_gallery_of_strangers_is_refused():
    x, label = sample()
    with pytest.raises(ValueError, match="no probe has an image of its identity"):
        rank_gallery(x, label, x, label + 100)
