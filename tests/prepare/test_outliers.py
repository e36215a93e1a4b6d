"""Alignments that went wrong are left out, and said to be."""

import numpy as np
import pytest

from facetx.data.align import ARCFACE, template
from facetx.data.formats.codec import encode_png
from facetx.data.lists.landmarks import read_landmarks, write_landmarks
from facetx.errors import ConfigError, DataError
from facetx.prepare.align import align_set
from facetx.prepare.outliers import Bounds, Geometry
from facetx.prepare.sources import open_source

SIDE = 160


def face(scale=1.0, degrees=0.0, at=(80, 80)):
    """Landmarks (5, 2) of a face ``scale`` times the template's size, turned about its middle, which is ``at``."""
    a = scale * np.exp(1j * np.radians(degrees))
    z = (ARCFACE - 56) @ [1, 1j] * a
    return np.stack([z.real, z.imag], -1) + at


def photos(tmp_path, landmarks):
    """A set of one photo a row of ``landmarks``, and the rows' names."""
    (tmp_path / "photos/a").mkdir(parents=True)
    names = [f"a/{i:02d}.png" for i in range(len(landmarks))]
    for name in names:
        (tmp_path / "photos" / name).write_bytes(encode_png(np.zeros((SIDE, SIDE, 3), np.uint8)))
    write_landmarks(tmp_path / "points.csv", names, np.float32(landmarks))
    return open_source(tmp_path / "photos", tmp_path / "points.csv"), names


def test_each_way_of_going_wrong_is_told(tmp_path):
    nostril, swapped = face(0.4), face()[[1, 0, 2, 4, 3]]
    wrong = [nostril, face(degrees=70), swapped, face(at=(10, 80)), np.tile([[5.0, 5.0]], (5, 1))]
    source, names = photos(tmp_path, [face(1 + 0.01 * i, degrees=i) for i in range(25)] + wrong)
    report = align_set(source, tmp_path / "out", report_file=tmp_path / "report.json")
    said = [report.dropped[name] for name in names[25:]]
    for words, why in zip(
        [
            "an outlier: scaled by 2.5 where 0.9",
            "an outlier: turned by 70 degrees, above 45",
            "an outlier: the points are 0.181 of the side",
            "of the picture lies outside of the photo, above 0.3",
            "the landmarks are all at one point",
        ],
        said,
    ):
        assert words in why
    assert list(report.facts["outliers"]["images"]) == names[25:29]
    assert report.facts["outliers"]["bounds"] == {"residual": 0.1, "rotation": 45.0, "scale": 5.0, "outside": 0.3}
    assert list(read_landmarks(tmp_path / "out/landmarks.csv")) == names[:25]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 25

    everything = Bounds(*[float("inf")] * 4)
    assert len(align_set(source, tmp_path / "all", bounds=everything).dropped) == 1
    assert report.facts["alignment"]["distance_max"] < 0.01


def test_bounds_are_what_they_say():
    moved_eye = face()
    moved_eye[0, 0] += 3
    points = np.float32([face(2, degrees=-30), face(0.5), moved_eye])
    found = Geometry.of(points, 56)
    assert found.rotation == pytest.approx([30, 0, 0], abs=2)
    assert found.rotation[:2] == pytest.approx([30, 0], abs=1e-3)
    assert found.usual_scale == pytest.approx(0.5, rel=0.05)
    assert found.scale.tolist() == [0, 0, 0]  # too few faces
    moved = points[2] @ found.matrix[2, :, :2].T + found.matrix[2, :, 2]
    assert found.residual[2] == pytest.approx(np.linalg.norm(moved - template(56), axis=1).mean() / 56)
    half = Geometry.of(np.float32([face(at=(0, 56))]), 112)  # the middle of the face on the left edge
    assert half.outside(0, 112, 112) == pytest.approx(0.5)
    assert half.outside(0, 112, 28) == pytest.approx(0.875)
    many = np.float32([face(s) for s in [*np.geomspace(0.9, 1.1, 41), 3]])
    logs = np.log([*np.geomspace(0.9, 1.1, 41), 3])
    deviation = max(1.4826 * np.median(abs(logs - np.median(logs))), np.log(1.1))
    assert Geometry.of(many, 112).scale[-1] == pytest.approx(abs(logs[-1] - np.median(logs)) / deviation, rel=1e-3)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="the bound of the rotation must be 0 or more"):
            Bounds(rotation=bad)


def test_nothing_is_left_where_all_are_outliers(tmp_path):
    source, _ = photos(tmp_path, [face(degrees=90)] * 3)
    with pytest.raises(DataError, match="no image is left; the first was dropped because: .* turned by 90 degrees"):
        align_set(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
