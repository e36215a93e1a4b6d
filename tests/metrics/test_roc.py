"""Each curve and number is recomputed naively, by trying every threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetx.metrics.roc import auc, check_pairs, eer, roc, tar_at_far, wilson

# Few distinct values, so that ties within and between the classes are common.
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)

PROPERTY = settings(deadline=None, derandomize=True)


def split(pairs):
    return np.array([s / 4 for s, _ in pairs]), np.array([same for _, same in pairs])


@PROPERTY
@given(PAIRS)
def test_roc_has_the_rates_of_every_threshold(pairs):
    scores, same = split(pairs)
    curve = roc(scores, same)
    for fpr, tpr, t in zip(curve.fpr, curve.tpr, curve.thresholds):
        assert fpr == np.mean(scores[~same] > t)
        assert tpr == np.mean(scores[same] > t)
    assert curve.thresholds.tolist() == [*sorted(set(scores), reverse=True), -np.inf]
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert (curve.same, curve.different) == (same.sum(), (~same).sum())


@PROPERTY
@given(PAIRS)
def test_auc_is_the_share_of_ordered_pairs_with_ties_half(pairs):
    scores, same = split(pairs)
    a, b = scores[same][:, None], scores[~same][None, :]
    assert auc(scores, same) == pytest.approx(np.mean((a > b) + 0.5 * (a == b)), abs=1e-15)


@PROPERTY
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_count(pairs, random):
    mixed = list(pairs)
    random.shuffle(mixed)
    assert auc(*split(pairs)) == auc(*split(mixed))
    assert eer(*split(pairs)) == eer(*split(mixed))
    assert tar_at_far(*split(pairs), [0, 0.1, 0.5, 1]) == tar_at_far(*split(mixed), [0, 0.1, 0.5, 1])


@PROPERTY
@given(PAIRS)
def test_eer_lies_on_the_curve_where_both_errors_are_equal(pairs):
    scores, same = split(pairs)
    curve, rate = roc(scores, same), eer(scores, same)
    # On the curve: between two neighboring points, at FAR = rate and TAR = 1 - rate.
    distances = []
    for k in range(len(curve.fpr) - 1):
        (x0, x1), (y0, y1) = curve.fpr[k : k + 2], curve.tpr[k : k + 2]
        share = ((rate - x0) * (x1 - x0) + (1 - rate - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        share = min(max(share, 0), 1)
        distances.append(np.hypot(x0 + share * (x1 - x0) - rate, y0 + share * (y1 - y0) - (1 - rate)))
    assert min(distances) < 1e-12


def test_eer_of_separated_swapped_and_constant_scores():
    same = np.array([True, True, False, False])
    assert eer([0.9, 0.8, 0.1, 0.2], same) == 0
    assert eer([0.1, 0.2, 0.9, 0.8], same) == 1
    assert eer([0.5] * 4, same) == 0.5
    assert auc([0.5] * 4, same) == 0.5


@PROPERTY
@given(PAIRS, st.sampled_from([0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 1]))
def test_tar_at_far_is_the_best_of_all_thresholds_that_keep_the_far(pairs, target):
    scores, same = split(pairs)
    (got,) = tar_at_far(scores, same, [target])
    rates = [(np.mean(scores[same] > t), np.mean(scores[~same] > t)) for t in [*scores, -np.inf]]
    assert got.tar == max(tar for tar, far in rates if far <= target)
    assert got.far == np.mean(scores[~same] > got.threshold) <= target
    assert got.tar == np.mean(scores[same] > got.threshold)
    assert got.low <= got.tar <= got.high


def test_a_far_that_is_a_whole_number_of_pairs_is_reached_in_spite_of_rounding():
    scores = np.arange(200.0)
    same = scores >= 100
    targets = [k / 100 for k in range(101)]
    assert [t.far for t in tar_at_far(scores, same, targets)] == targets


def test_a_far_that_the_pairs_cannot_support_is_flagged():
    same = np.repeat([True, False], 1000)
    found = tar_at_far(np.linspace(1, 0, 2000), same, [1e-1, 1e-2, 1e-3, 1e-4])
    assert [f.supported for f in found] == [True, True, False, False]
    assert [f.far for f in found] == [0.1, 0.01, 0.001, 0]


def test_wilson_interval_solves_its_equation():
    z = 1.959963984540054
    for successes, trials in ((1, 10), (81, 263), (2990, 3000)):
        for end in wilson(successes, trials):
            assert abs(successes / trials - end) == pytest.approx(z * np.sqrt(end * (1 - end) / trials), rel=1e-9)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_bad_pairs_are_refused():
    with pytest.raises(ValueError, match="2 of 3 scores are NaN or infinite"):
        auc([np.nan, 1, np.inf], [True, False, True])
    with pytest.raises(ValueError, match="3 same and 0 different"):
        roc([1, 2, 3], [True] * 3)
    with pytest.raises(ValueError, match="0 same and 2 different"):
        eer([1, 2], [False] * 2)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        check_pairs([1, 2], [True, False, True])
    with pytest.raises(ValueError, match=r"0 \(different\) and 1 \(same\)"):
        check_pairs([1, 2], [-1, 1])
    with pytest.raises(ValueError, match=r"a rate lies in 0\.\.1"):
        tar_at_far([1, 2], [True, False], [10])
