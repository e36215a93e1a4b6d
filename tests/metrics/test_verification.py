"""The fold protocol against the field's numbers, and against loops over folds and thresholds."""

from itertools import pairwise

import numpy as np
import pytest
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st

from facetx.metrics.verification import (
    GRID,
    contiguous_folds,
    cosine_scores,
    cosine_to_distance,
    distance_to_cosine,
    fold_rates,
    tenfold_accuracy,
)

PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 3)), min_size=4, max_size=40).filter(
    lambda pairs: len({same for _, same, _ in pairs}) == 2 and len({fold for _, _, fold in pairs}) >= 2
)

PROPERTY = settings(deadline=None, derandomize=True, max_examples=50)


def split(pairs):
    scores, same, fold = (np.array(column) for column in zip(*pairs))
    return scores / 4, same, fold


def sample(pairs, seed=0, spread=0.2):
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 60 < 30
    return np.clip(rng.normal(np.where(same, 0.5, 0.1), spread), -1, 1), same


def test_equals_the_field_s_evaluation():
    known = np.load(shared("fixtures/verification_10fold.npz"), allow_pickle=False)
    scores = cosine_scores(known["embedding"][0::2], known["embedding"][1::2])
    got = tenfold_accuracy(scores, known["issame"])
    np.testing.assert_allclose(got.accuracies, known["accuracy_per_fold"], rtol=0, atol=1e-9)
    assert got.mean == pytest.approx(float(known["accuracy_mean"]), abs=1e-9)
    assert got.std == pytest.approx(float(known["accuracy_std"]), abs=1e-9)
    np.testing.assert_array_equal(GRID, known["thresholds"])
    tpr, fpr = fold_rates(scores, known["issame"])
    np.testing.assert_allclose(tpr.mean(axis=0), known["tpr"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(fpr.mean(axis=0), known["fpr"], rtol=0, atol=1e-9)


def by_loops(scores, same, fold, candidates):
    """For each fold, every threshold on the others, strictest first; the first best one on the fold."""
    accuracies, thresholds = [], []
    for f in np.unique(fold):
        train, test = fold != f, fold == f
        limits = candidates(scores[train])
        best = max(limits, key=lambda t: np.sum((scores[train] > t) == same[train]))  # max() keeps the first
        thresholds.append(best)
        accuracies.append(np.mean((scores[test] > best) == same[test]))
    return accuracies, thresholds


def grid(_):
    return list(1 - GRID / 2)


def midpoints(scores):
    s = sorted(set(scores), reverse=True)
    return [s[0], *((a + b) / 2 for a, b in pairwise(s)), np.nextafter(s[-1], -np.inf)]


@PROPERTY
@given(PAIRS)
@pytest.mark.parametrize(("mode", "candidates"), [("grid", grid), ("exact", midpoints)])
def test_equals_the_plain_loops(mode, candidates, pairs):
    scores, same, fold = split(pairs)
    got = tenfold_accuracy(scores, same, fold, mode)
    accuracies, thresholds = by_loops(scores, same, fold, candidates)
    np.testing.assert_array_equal(got.accuracies, accuracies)
    np.testing.assert_array_equal(got.thresholds, thresholds)


@PROPERTY
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_count(pairs, random):
    mixed = list(pairs)
    random.shuffle(mixed)
    for mode in ("grid", "exact"):
        a, b = tenfold_accuracy(*split(pairs), mode), tenfold_accuracy(*split(mixed), mode)
        np.testing.assert_array_equal(a.accuracies, b.accuracies)
        np.testing.assert_array_equal(a.thresholds, b.thresholds)


def test_a_fold_has_no_say_in_its_own_threshold():
    scores, same = sample(600)
    fold = contiguous_folds(600)
    spoilt = np.where(fold == 3, -scores, scores)
    for mode in ("grid", "exact"):
        assert (
            tenfold_accuracy(scores, same, fold, mode).thresholds[3]
            == tenfold_accuracy(spoilt, same, fold, mode).thresholds[3]
        )


def test_mean_and_both_spreads():
    scores, same = sample(600, spread=0.4)
    got = tenfold_accuracy(scores, same)
    a = got.accuracies
    assert len(set(a)) > 1
    assert got.mean == pytest.approx(sum(a) / 10)
    assert got.std == pytest.approx(np.sqrt(sum((x - got.mean) ** 2 for x in a) / 10))
    assert got.se == pytest.approx(np.sqrt(sum((x - got.mean) ** 2 for x in a) / 9) / np.sqrt(10))


def test_fold_rates_of_every_threshold():
    scores, same = sample(120)
    distances = [0.0, 0.5, 1.0, 1.7]
    tpr, fpr = fold_rates(scores, same, 2, distances)
    d, fold = cosine_to_distance(scores), contiguous_folds(120, 2)
    for f in range(2):
        for j, t in enumerate(distances):
            assert tpr[f, j] == np.mean(d[(fold == f) & same] < t)
            assert fpr[f, j] == np.mean(d[(fold == f) & ~same] < t)


def test_constant_scores_accept_none():
    same = np.arange(40) % 4 == 0
    for mode in ("grid", "exact"):
        got = tenfold_accuracy(np.full(40, 0.3), same, 5, mode)
        assert got.mean == 0.75
        assert (got.thresholds >= 0.3).all()


def test_neighboring_floats_still_come_apart():
    low = 0.3
    high = np.nextafter(low, 1)
    same = np.tile([True, False], 10)
    assert tenfold_accuracy(np.where(same, high, low), same, 5, "exact").mean == 1


def test_folds_are_contiguous_and_named_by_any_label():
    np.testing.assert_array_equal(contiguous_folds(7, 3), [0, 0, 0, 1, 1, 2, 2])
    scores, same = sample(300)
    ids = np.array(["north", "south", "west"])[contiguous_folds(300, 3)]
    np.testing.assert_array_equal(
        tenfold_accuracy(scores, same, ids).accuracies, tenfold_accuracy(scores, same, 3).accuracies
    )


def test_cosine_and_distance_of_unit_vectors():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 8))
    u, v = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    distance = ((u - v) ** 2).sum(axis=1)
    np.testing.assert_allclose(cosine_to_distance(cosine_scores(a, b)), distance, atol=1e-12)
    np.testing.assert_allclose(distance_to_cosine(distance), cosine_scores(a, b), atol=1e-12)
    assert cosine_scores(np.zeros((1, 3)), np.ones((1, 3))) == 0
    x = rng.normal(size=(200, 5)).astype(np.float32)
    assert cosine_scores(x, x).max() <= 1


def test_bad_arguments_are_refused():
    scores, same = sample(60)
    with pytest.raises(ValueError, match="1 folds for 60 pairs"):
        tenfold_accuracy(scores, same, 1)
    with pytest.raises(ValueError, match="61 folds for 60 pairs"):
        tenfold_accuracy(scores, same, 61)
    with pytest.raises(ValueError, match="at least 2 folds"):
        tenfold_accuracy(scores, same, np.zeros(60))
    with pytest.raises(ValueError, match=r"each of 60 pairs, got shape \(59,\)"):
        tenfold_accuracy(scores, same, np.zeros(59))
    with pytest.raises(ValueError, match="'grid' or 'exact', got 'best'"):
        tenfold_accuracy(scores, same, mode="best")
    with pytest.raises(ValueError, match="60 same and 0 different"):
        tenfold_accuracy(scores, np.ones(60, bool))
    with pytest.raises(ValueError, match="1 of 60 scores are NaN"):
        tenfold_accuracy(np.where(np.arange(60) == 7, np.nan, scores), same)
    with pytest.raises(ValueError, match="fold 1 has no pairs of the same kind"):
        fold_rates(scores, same, np.arange(60) >= 30)
