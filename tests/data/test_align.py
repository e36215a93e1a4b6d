"""The alignment against Umeyama's singular value form, and the warp against known pictures."""

import numpy as np
import pytest

from facetx.data.align import ARCFACE, align, alignment_statistics, similarity, template, transform, warp
from facetx.errors import DataError


def umeyama(source, target):
    """Umeyama 1991, eq. 38 to 42, written out."""
    mx, my = source.mean(0), target.mean(0)
    covariance = (target - my).T @ (source - mx) / len(source)
    u, d, vt = np.linalg.svd(covariance)
    s = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(s) @ vt
    scale = (d * s).sum() / ((source - mx) ** 2).sum(1).mean()
    return np.column_stack([scale * rotation, my - scale * rotation @ mx])


def test_similarity_is_umeyamas():
    rng = np.random.default_rng(0)
    sources = rng.uniform(0, 500, (50, 5, 2))
    sources[0] = ARCFACE[:, ::-1]  # a reflection would fit best, and is not taken
    found = similarity(sources, ARCFACE)
    for source, matrix in zip(sources, found):
        expected = umeyama(source, ARCFACE)
        np.testing.assert_allclose(matrix, expected, atol=1e-10)
        moved = source @ expected[:, :2].T + expected[:, 2]
        assert abs(transform(matrix, source) - moved).max() < 5e-6


def test_similarity_finds_the_transform_that_was_applied():
    angle, scale, shift = 0.3, 1.7, np.array([20, -8])
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(
        similarity(ARCFACE @ rotation.T + shift, ARCFACE)[:, :2], np.linalg.inv(rotation), atol=1e-12
    )


def test_points_at_one_place():
    with pytest.raises(DataError, match="the landmarks are all at one point"):
        similarity(np.ones((5, 2)), ARCFACE)
    with pytest.raises(DataError, match="not finite"):
        similarity(np.full((5, 2), np.nan), ARCFACE)


def test_warp_by_whole_pixels_and_back_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    assert np.array_equal(warp(image, np.eye(2, 3), 20), image)
    moved = warp(image, np.array([[1, 0, 3], [0, 1, -2]], float), 20)
    assert np.array_equal(moved[:18, 3:], image[2:, :17])
    assert not moved[:, :3].any()


def test_warp_is_bilinear_at_half_a_pixel():
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 200
    moved = warp(image, np.array([[1, 0, 0.5], [0, 1, 0]]), 5)
    assert moved[2, :, 0].tolist() == [0, 0, 100, 100, 0]


def test_warp_is_the_bilinear_formula():
    """A turned and scaled smooth picture, against the formula in float."""
    y, x = np.mgrid[0:60, 0:60]
    picture = (120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)
    image = np.repeat(picture[..., None], 3, 2)
    matrix = similarity(np.array([[10, 12], [48, 17], [25, 50]]), np.array([[5, 5], [35, 8], [18, 36]]))
    out = warp(image, matrix, 40)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    v, u = np.mgrid[0:40, 0:40]
    sx, sy = np.tensordot(inverse[:2, :2], np.stack([u, v]), 1) + inverse[:2, 2, None, None]
    inside = (sx > 1) & (sx < 58) & (sy > 1) & (sy < 58)
    x0, y0 = np.clip(np.floor(sx), 0, 58).astype(int), np.clip(np.floor(sy), 0, 58).astype(int)
    fx, fy = sx - x0, sy - y0
    p = picture.astype(float)
    top, bottom = (p[r, x0] * (1 - fx) + p[r, x0 + 1] * fx for r in (y0, y0 + 1))
    expected = top * (1 - fy) + bottom * fy
    assert inside.sum() > 500
    assert abs(out[..., 0] - expected)[inside].max() <= 1


def test_align_puts_the_landmarks_on_the_template():
    """Dots at the landmarks of a turned face lie on the template's points afterwards."""
    turn = np.array([[1.2, -0.5], [0.5, 1.2]])
    landmarks = (ARCFACE @ turn.T + [40, 10]).round()
    image = np.zeros((250, 200, 3), np.uint8)
    for x, y in landmarks.astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    out = align(image, landmarks, 56)
    assert out.shape == (56, 56, 3)
    for x, y in template(56).round().astype(int):
        assert out[y, x, 0] > 120
    assert (out[..., 0] > 120).mean() < 0.05


def test_statistics_say_how_far_off():
    lower = ARCFACE + np.array([0, 3])
    facts = alignment_statistics(np.stack([lower, lower]))
    assert facts["offset"] == [0, 3]
    assert facts["distance_mean"] == 3
    assert facts["scale_mean"] == 1
    assert alignment_statistics(ARCFACE[None] * 2, 224)["distance_max"] == 0
