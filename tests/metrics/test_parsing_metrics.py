"""Numbers of masks: by hand, by scikit-learn, by distance transforms, and what resampling makes of them."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from sklearn import metrics as sk

from facetx.metrics.parsing import (
    KINDS,
    boundary_f1,
    compare,
    confusion,
    count,
    f1,
    image_f1,
    intervals,
    iou,
    numbers,
    resampled,
)

IGNORED = 255


@pytest.fixture
def drawn():
    """A label of four areas with an ignored strip, and an answer that is a moved and spotted copy of it."""
    rng = np.random.default_rng(0)
    label = np.zeros((40, 50), np.uint8)
    label[5:25, 8:30], label[10:18, 12:22], label[28:36, 20:44] = 1, 2, 4
    said = np.roll(label, (2, -1), (0, 1))
    spots = rng.random(label.shape) < 0.02
    said[spots] = rng.integers(0, 5, int(spots.sum()))
    label[:, 33:36] = IGNORED
    return label, said


def test_the_confusion_matrix_is_that_of_scikit_learn(drawn):
    label, said = drawn
    known = label != IGNORED
    expected = sk.confusion_matrix(label[known], said[known], labels=range(5))
    np.testing.assert_array_equal(confusion(label, said, 5), expected)


def test_shares_are_those_of_scikit_learn(drawn):
    label, said = drawn
    known = label != IGNORED
    _, counts = count(label, said, 5, 2.0)
    there = [0, 1, 2, 4]
    expected = sk.f1_score(label[known], said[known], labels=there, average=None)
    np.testing.assert_allclose(f1(counts)[there], expected)
    expected_iou = sk.jaccard_score(label[known], said[known], labels=there, average=None)
    np.testing.assert_allclose(iou(counts)[there], expected_iou)
    found = numbers(counts)
    assert found["mean_f1"] == pytest.approx(expected[1:].mean())  # neither background nor class 3, which has no label
    assert found["mean_iou"] == pytest.approx(expected_iou.mean())
    assert found["pixel_accuracy"] == pytest.approx(sk.accuracy_score(label[known], said[known]))
    assert np.isnan(f1(counts)[3])
    with_3 = sk.f1_score(label[known], said[known], labels=[1, 2, 3, 4], average=None)
    assert (said[known] == 3).any()
    assert image_f1(counts) == pytest.approx(with_3.mean())  # of one image, what is said wrongly counts


def slow_boundary(label, said, kind, tolerance):
    """F1 of one class's boundary by distance transforms."""
    known = label != IGNORED
    edges = []
    for mask in (label, said):
        edge = np.zeros(mask.shape, bool)
        for y, x in np.argwhere((mask == kind) & known):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]
                edge[y, x] |= bool(inside and known[v, u] and mask[v, u] != kind)
        edges.append(edge)
    met = [(distance_transform_edt(~b)[a] <= tolerance).mean() for a, b in (edges, edges[::-1])]
    return 2 * met[0] * met[1] / sum(met)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2.2, 4])
def test_boundaries_are_met_as_distances_say(drawn, tolerance):
    _, counts = count(*drawn, 5, tolerance)
    found = boundary_f1(counts)
    for kind in (0, 1, 2, 4):
        assert found[kind] == pytest.approx(slow_boundary(*drawn, kind, tolerance)), kind
    assert np.isnan(found[3])
    assert 0 < numbers(counts)["mean_boundary_f1"] < 1


def test_a_set_is_the_sum_of_its_images():
    first, second = np.array([[1, 1, 0, 0]], np.uint8), np.array([[1, 2, 2, 2]], np.uint8)
    _, one = count(first, np.array([[1, 0, 0, 0]], np.uint8), 3, 1)
    _, two = count(second, np.array([[2, 2, 2, 2]], np.uint8), 3, 1)
    found = f1(one + two)
    assert found[1] == pytest.approx(2 * 1 / (3 + 1))
    assert found[2] == pytest.approx(2 * 3 / (3 + 4))
    assert numbers(one + two)["mean_f1"] == pytest.approx((0.5 + 6 / 7) / 2)
    assert image_f1(np.stack([one, two])) == pytest.approx([2 / 3, (0 + 6 / 7) / 2])


def test_perfect_answers_and_answers_of_one_class():
    label = np.zeros((8, 8), np.uint8)
    label[2:6, 2:6] = 1
    _, counts = count(label, label, 2, 0)
    assert {name: float(value) for name, value in numbers(counts).items()} == {
        "mean_f1": 1.0,
        "mean_iou": 1.0,
        "pixel_accuracy": 1.0,
        "mean_boundary_f1": 1.0,
    }
    _, counts = count(label, np.zeros_like(label), 2, 0)
    assert numbers(counts)["mean_f1"] == 0
    assert numbers(counts)["mean_boundary_f1"] == 0
    empty = np.zeros((8, 8), np.uint8)
    assert np.isnan(image_f1(count(empty, empty, 2, 0)[1]))


def test_what_is_no_class_or_no_pair_of_masks_is_told():
    zeros = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="not of one image"):
        confusion(zeros, zeros.T, 2)
    with pytest.raises(ValueError, match="2 pixels are labeled 7, and there are 3 classes"):
        confusion(np.array([[0, 7, 7]], np.uint8), zeros[:1], 3)
    with pytest.raises(ValueError, match="class 3 is said, and there are 3 classes"):
        confusion(zeros, zeros + np.uint8(3), 3)
    assert confusion(zeros + np.uint8(254), zeros + np.uint8(254), 255).sum() == 6
    assert confusion(zeros + np.uint8(IGNORED), zeros, 3).sum() == 0


def some_counts(images=60, quality=0.8, seed=0):
    """Counts of small random masks; the same labels whatever the quality."""
    rng, answers = np.random.default_rng(1), np.random.default_rng(seed)
    found = []
    for _ in range(images):
        label = rng.integers(0, 4, (12, 12)).astype(np.uint8)
        said = np.where(answers.random(label.shape) < quality, label, answers.integers(0, 4, label.shape))
        found.append(count(label, said.astype(np.uint8), 4, 1)[1])
    return np.stack(found)


def test_resampling_is_that_of_plain_loops():
    counts = some_counts(images=9)
    times = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), size=20)
    slow = np.array([sum(int(t) * image for t, image in zip(row, counts)) for row in times])
    np.testing.assert_array_equal(resampled(counts, 20, seed=3), slow)


def test_intervals_hold_the_number_and_shrink_with_images():
    widths = []
    for images in (20, 180):
        counts = some_counts(images)
        low, high = intervals(numbers(resampled(counts))["mean_f1"])
        assert low < numbers(counts.sum(axis=0))["mean_f1"] < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.4)


def test_intervals_of_a_class_that_few_or_no_images_have():
    counts = some_counts(6)
    counts[1:, :, 3] = 0
    counts[:, :, 2] = 0
    low, high = intervals(f1(resampled(counts)))
    assert low[3] == high[3] == f1(counts.sum(axis=0))[3]
    assert np.isnan(low[2])


def test_models_are_compared_image_by_image():
    a, better, again = some_counts(), some_counts(quality=0.85, seed=5), some_counts(seed=9)
    found = compare(a, better)
    assert set(found) == {"mean_f1", "mean_iou", "pixel_accuracy", "mean_boundary_f1"}
    assert found["mean_f1"].difference == pytest.approx(found["mean_f1"].b - found["mean_f1"].a)
    assert found["mean_f1"].p < 0.01
    low, high = found["mean_f1"].difference_interval
    assert 0 < low < found["mean_f1"].difference < high
    assert compare(a, again)["mean_f1"].p > 0.05
    same = compare(a, a)["mean_f1"]
    assert (same.difference, same.p) == (0, 1)
    with pytest.raises(ValueError, match="not of the same images"):
        compare(a, better[:-1])
    with pytest.raises(ValueError, match="not of the same images"):
        compare(a, better[::-1])


def test_kinds_are_seven():
    assert len(KINDS) == some_counts(1).shape[1]
