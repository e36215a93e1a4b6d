"""Significance against tables, exact enumeration, and a plain bootstrap."""

from math import comb

import numpy as np
import pytest

from facetx.metrics.significance import bootstrap_shares, bootstrap_tar, mcnemar


def decisions(both, only_a, only_b, none):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, none])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, none])
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (6, 16), (59, 6), (40, 40), (300, 380)])
def test_mcnemar_is_the_two_sided_binomial(only_a, only_b):
    found = mcnemar(*decisions(100, only_a, only_b, 7))
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(min(1, 2 * tail), rel=1e-9)


def test_lfw_cannot_tell_a_few_hundredths_of_a_percent():
    assert mcnemar(*decisions(5980, 10, 8, 2)).p > 0.5  # 99.83 against 99.80 on 6,000 pairs
    assert mcnemar(*decisions(5800, 20, 120, 60)).p < 1e-10


def test_bootstrap_of_shares_agrees_with_drawing_pairs_one_by_one():
    a, b = decisions(150, 10, 25, 15)
    found = bootstrap_shares(a, b)
    rng = np.random.default_rng(1)
    drawn = rng.integers(200, size=(4000, 200))
    plain = b[drawn].mean(axis=1) - a[drawn].mean(axis=1)
    assert found.difference == pytest.approx(15 / 200)
    np.testing.assert_allclose(found.difference_interval, np.quantile(plain, (0.025, 0.975)), atol=0.006)
    np.testing.assert_allclose(found.a_interval, np.quantile(a[drawn].mean(axis=1), (0.025, 0.975)), atol=0.006)
    assert found.p == pytest.approx(2 * np.mean(plain <= 0), abs=0.01)
    assert found == bootstrap_shares(a, b)
    assert bootstrap_shares(a, a).p == 1
    assert bootstrap_shares(a, a).difference_interval == (0, 0)


def test_bootstrap_of_tar_sees_a_better_system_and_no_difference_in_one():
    rng = np.random.default_rng(0)
    same = np.repeat([True, False], 400)
    a = rng.normal(same * 1.0, 1)
    b = a + rng.normal(same * 1.5, 0.1)
    found = bootstrap_tar(a, b, same, 0.05, resamples=200)
    threshold = np.sort(a[~same])[-21]  # 20 of 400 different pairs lie above
    assert found.a == np.mean(a[same] > threshold)
    assert found.difference_interval[0] > 0
    assert found.p < 0.05
    assert found.a_interval[0] < found.a < found.a_interval[1]
    alike = bootstrap_tar(a, a, same, 0.05, resamples=50)
    assert (alike.difference, alike.p) == (0, 1)


def test_decisions_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="one decision of each system a pair"):
        mcnemar([True, False], [True])
