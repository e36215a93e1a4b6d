"""Numbers of attributes, by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from facetx.metrics.attributes import (
    Rates,
    average_precision,
    best_thresholds,
    bootstrap,
    calibration,
    cross_entropy,
    pooled,
    rates,
)

NAN = np.nan


@pytest.fixture
def drawn():
    """200 images of three attributes, of which one in eight labels is not known."""
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < [0.5, 0.1, 0.8]).astype(np.float64)
    probabilities = np.clip(0.3 + 0.3 * labels + rng.normal(0, 0.2, labels.shape), 0.01, 0.99)
    labels[rng.random(labels.shape) < 1 / 8] = NAN
    return probabilities, labels


def test_rates_are_those_of_scikit_learn(drawn):
    probabilities, labels = drawn
    for a, found in enumerate(rates(probabilities, labels)):
        known = np.isfinite(labels[:, a])
        y, said = labels[known, a], probabilities[known, a] > 0.5
        assert (found.known, found.positives) == (known.sum(), y.sum())
        assert found.accuracy == pytest.approx(sk.accuracy_score(y, said))
        assert found.recall == pytest.approx(sk.recall_score(y, said))
        assert found.specificity == pytest.approx(sk.recall_score(1 - y, ~said))
        assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(y, said))
        assert found.f1 == pytest.approx(sk.f1_score(y, said))
        assert found.majority == pytest.approx(max(y.mean(), 1 - y.mean()))
        low, high = found.interval
        assert low < found.accuracy < high
        ap = average_precision(probabilities, labels)[a]
        assert ap == pytest.approx(sk.average_precision_score(y, probabilities[known, a]))


def test_micro_is_of_all_labels_as_one_heap(drawn):
    probabilities, labels = drawn
    known = np.isfinite(labels)
    y, said = labels[known], probabilities[known] > 0.5
    all_of_them = pooled(rates(probabilities, labels))
    assert all_of_them.known == known.sum()
    assert all_of_them.recall == pytest.approx(sk.recall_score(y, said))
    assert all_of_them.f1 == pytest.approx(sk.f1_score(y, said))


def test_what_there_is_none_of_is_none():
    labels = np.array([[0.0, NAN], [0.0, NAN]])
    constant, unknown = rates(np.array([[0.1, 0.9], [0.2, 0.9]]), labels)
    assert (constant.recall, constant.balanced_accuracy, constant.f1) == (None, None, None)
    assert (constant.specificity, constant.accuracy, constant.majority) == (1, 1, 1)
    assert (unknown.accuracy, unknown.interval, unknown.majority) == (None, None, None)
    assert average_precision(np.full((2, 2), 0.5), labels) == [None, None]
    assert best_thresholds(np.full((2, 2), 0.2), labels).tolist() == [0.5, 0.5]


def test_each_attribute_has_its_threshold():
    probabilities = np.array([[0.3, 0.3], [0.6, 0.6]])
    found = rates(probabilities, np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([0.2, 0.7]))
    assert found == [Rates(2, 0, 0, 0), Rates(0, 0, 2, 0)]


def test_cross_entropy_by_hand_and_of_great_logits():
    found = cross_entropy(np.array([[0.0, 2.0, -800.0, 1.0]]), np.array([[1.0, 0.0, 1.0, NAN]]))
    assert found[0, :3].tolist() == pytest.approx([np.log(2), np.log1p(np.exp(2)), 800.0])
    assert np.isnan(found[0, 3])


@pytest.mark.parametrize("goal", ["accuracy", "balanced_accuracy", "f1"])
def test_no_threshold_is_better_than_the_best(drawn, goal):
    probabilities, labels = drawn
    best = best_thresholds(probabilities, labels, goal)
    found = [getattr(r, goal) for r in rates(probabilities, labels, best)]
    tried = np.unique(np.concatenate([[0, 1], probabilities.ravel()]))
    for a in range(3):
        others = [getattr(rates(probabilities[:, [a]], labels[:, [a]], t)[0], goal) or 0 for t in tried]
        assert found[a] == pytest.approx(max(others))


def test_of_equal_thresholds_the_one_closest_to_a_half():
    p = np.array([[0.1], [0.2], [0.8], [0.9]])
    assert best_thresholds(p, np.array([[0.0], [0.0], [1.0], [1.0]]))[0] == pytest.approx(0.5)
    assert best_thresholds(p, np.array([[0.0], [1.0], [1.0], [1.0]]))[0] == pytest.approx(0.15)


def test_calibration_by_hand():
    p = np.array([[0.1, 0.15], [0.6, 1.0], [0.6, 0.3]])
    labels = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, NAN]])
    found = calibration(p, labels, bins=4)
    assert found.counts.tolist() == [2, 0, 2, 1]
    np.testing.assert_allclose(found.said, [0.125, NAN, 0.6, 1.0])
    np.testing.assert_allclose(found.there, [0.5, NAN, 0.5, 1.0])
    assert found.error == pytest.approx((2 * 0.375 + 2 * 0.1) / 5)


def test_intervals_hold_the_number_and_narrow_with_more_images(drawn):
    probabilities, labels = drawn
    found = rates(probabilities, labels)
    values = {
        "accuracy_micro": pooled(found).accuracy,
        "accuracy_macro": np.mean([r.accuracy for r in found]),
        "balanced_accuracy": np.mean([r.balanced_accuracy for r in found]),
    }
    narrow = bootstrap(np.tile(probabilities, (9, 1)), np.tile(labels, (9, 1)))
    for name, (low, high) in bootstrap(probabilities, labels).items():
        assert low < values[name] < high
        assert narrow[name][1] - narrow[name][0] == pytest.approx((high - low) / 3, rel=0.15)
    width = np.subtract(*bootstrap(probabilities, labels)["accuracy_micro"][::-1])
    known = pooled(found).known
    a = values["accuracy_micro"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(a * (1 - a) / known), rel=0.15)  # labels are independent here


def test_nothing_known_has_no_interval():
    assert bootstrap(np.full((2, 2), 0.5), np.full((2, 2), NAN)) == {}
