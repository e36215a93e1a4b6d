"""Rates by group, counted by hand."""

import pytest

from facetx.metrics.groups import group_rates
from facetx.metrics.roc import wilson


def test_rates_of_each_group_at_one_threshold():
    scores = [0.9, 0.4, 0.6, 0.2, 0.8, 0.7, 0.1]
    same = [True, True, False, False, True, False, True]
    groups = ["b", "b", "b", "b", "a", None, "a"]
    a, b = group_rates(scores, same, groups, 0.5)
    assert (a.name, a.same, a.different, a.accuracy, a.tar, a.far) == ("a", 2, 0, 0.5, 0.5, None)
    assert a.far_interval is None
    assert (b.name, b.same, b.different, b.accuracy, b.tar, b.far) == ("b", 2, 2, 0.5, 0.5, 0.5)
    assert b.accuracy_interval == wilson(2, 4)
    assert b.tar_interval == wilson(1, 2)
    with pytest.raises(ValueError, match="a group for each of 7 pairs"):
        group_rates(scores, same, groups[:3], 0.5)
