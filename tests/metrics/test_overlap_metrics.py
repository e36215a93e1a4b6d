"""Thresholds by impostors, and the closest of another set, against all scores at once."""

import numpy as np
import pytest

from facetx.metrics import overlap
from facetx.metrics.overlap import Threshold, closest, identity_means, impostor_threshold
from facetx.metrics.roc import thresholds_at


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("comparisons", "rate", "supported"),
    [(10_000, 1e-4, True), (10**9, 10 / 239_584, True)],
)
def test_the_threshold_is_that_of_the_step_function(monkeypatch, comparisons, rate, supported):
    """In chunks, and without all scores at once, it is ``thresholds_at`` of all of them."""
    monkeypatch.setattr(overlap, "CHUNK", 100)
    rng = np.random.default_rng(0)
    probes, gallery = unit(rng, 600, 8), unit(rng, 400, 8)
    a, b = np.arange(600) % 590, np.arange(400)
    found = impostor_threshold(probes, a, gallery, b, comparisons)
    scores = (probes @ gallery.T)[a[:, None] != b]
    assert found.impostor_comparisons == scores.size == 240_000 - 410
    expected = min(max(1 / comparisons, 10 / scores.size), 1e-4)
    assert found.false_rate == expected
    assert found.cosine == pytest.approx(thresholds_at(scores, [expected * (1 + 1e-9)])[0], abs=1e-6)
    assert found.supported is supported
    assert (scores > found.cosine + 1e-6).mean() <= expected * (1 + 1e-9)
    assert found.false_matches == pytest.approx(expected * comparisons)


def test_few_impostors_support_no_rate_and_give_their_highest_score():
    rng = np.random.default_rng(0)
    x, labels = unit(rng, 30, 8), np.arange(30)
    found = impostor_threshold(x, labels, x, labels, 300)
    assert (found.false_rate, found.impostor_comparisons, found.supported) == (1e-4, 870, False)
    scores = x @ x.T
    assert found.cosine == pytest.approx(scores[~np.eye(30, dtype=bool)].max(), abs=1e-6)


def test_the_stated_rate_holds_on_other_people():
    """Half of a world of people chooses the threshold, the other half is the test set."""
    rng = np.random.default_rng(1)
    centers = unit(rng, 600, 16)
    x = np.concatenate([centers + 0.1 * unit(rng, 600, 16) for _ in range(4)])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = np.tile(np.arange(600), 4)
    here = labels < 300
    found = impostor_threshold(x[here], labels[here], x[here], labels[here], 10_000)
    _, _, above = closest(x[here], x[~here], found.cosine)
    assert above / (here.sum() * (~here).sum()) < 5 * found.false_rate


def test_closest_is_that_of_all_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = unit(rng, 50, 8), unit(rng, 33, 8)
    scores = a @ b.T
    for chunk in (7, 1000):
        monkeypatch.setattr(overlap, "CHUNK", chunk)
        index, best, above = closest(a, b, 0.5)
        assert index.tolist() == scores.argmax(axis=1).tolist()
        np.testing.assert_allclose(best, scores.max(axis=1), rtol=1e-5)
        assert above == int((scores > 0.5).sum())


def test_means_are_of_length_one():
    x = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    np.testing.assert_allclose(identity_means(x, np.array([1, 1, 0])), [[0, 1], [0.5**0.5] * 2], rtol=1e-6)


def test_a_threshold_that_rests_on_too_few_is_doubted():
    rest = "the threshold rests on 870 impostor comparisons, and a false rate of 0.0001 takes 100000: "
    assert Threshold(0.5, 1e-4, 870, False, 84, 0.0084).doubt().startswith(rest)
    assert Threshold(0.5, 1e-4, 100_000, True, 84, 0.0084).doubt() is None
    assert Threshold(0.5).doubt() is None  # it was given
