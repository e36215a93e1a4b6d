"""The detector: its points are where they should be, and ``align`` by it puts faces on the template."""

import json
import sys

import numpy as np
import pytest
from conftest import shared

from facetx.data.align import ARCFACE, align, alignment_statistics, similarity, transform, warp
from facetx.data.formats.codec import encode_png
from facetx.data.lists.landmarks import read_landmarks
from facetx.data.sets.folder import read_image
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import ConfigError, DataError
from facetx.inference import detect
from facetx.inference.detect import Detected, MtcnnDetector
from facetx.prepare.align import align_set
from facetx.prepare.sources import open_source

CANVAS = 300


@pytest.fixture(scope="module")
def detector():
    return MtcnnDetector()


def photo(number, scale=1.5, degrees=0.0, center=(150.0, 150.0)):
    """A synthetic face, turned and scaled, on a larger canvas; and its true keypoints in pixels."""
    face = SyntheticFaces(number + 1, 1).face(number)
    turn = np.radians(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
    matrix[:, 2] = np.array(center) - matrix[:, :2] @ [55.5, 55.5]
    return warp(face.image, matrix, CANVAS), transform(matrix, face.keypoints)


POSES = [(0, 1.5, 0, (150, 150)), (1, 2.0, 12, (140, 160)), (3, 1.2, -15, (180, 120)), (4, 2.2, 6, (150, 140))]


@pytest.mark.parametrize(("number", "scale", "degrees", "center"), POSES)
def test_points_are_near_the_truth(detector, number, scale, degrees, center):
    image, truth = photo(number, scale, degrees, center)
    found = detector(image)
    distance = np.linalg.norm(found.points - truth, axis=1) / scale
    assert distance.mean() < 4  # of 112 pixels; other orders of the points are some 20 off
    assert distance.max() < 8
    assert found.faces == 1
    assert 0.9 <= found.probability <= 1
    assert (found.points > found.box[:2]).all()
    assert (found.points < found.box[2:]).all()


def test_a_face_that_fills_the_image_needs_the_border(monkeypatch, detector):
    faces = SyntheticFaces(12, 1)

    def distance():
        found = [(detector(faces[i]["image"]), faces.face(i).keypoints) for i in range(12)]
        return [np.linalg.norm(f.points - truth, axis=1).mean() for f, truth in found if f is not None]

    framed = distance()
    monkeypatch.setattr(detect, "BORDER", 0)
    bare = distance()
    assert len(framed) >= 10
    assert np.max(framed) < 5
    assert np.mean(framed) < np.mean(bare) - 0.5


def test_no_face(detector):
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    for image in (noise, np.zeros((64, 64, 3), np.uint8), noise[:19], noise[:, :5], noise[:1, :1]):
        assert detector(image) is None


def test_faces_of_any_shape_of_image_raise_nothing(detector):
    face = np.tile(SyntheticFaces(1, 1)[0]["image"], (3, 3, 1))
    for height, width in ((20, 20), (20, 300), (300, 21), (112, 40), (61, 61)):
        found = detector(face[30 : 30 + height, 20 : 20 + width])
        assert found is None or found.points.shape == (5, 2)


def test_of_several_faces_the_middle_one_unless_another_is_much_larger(detector):
    middle, truth = photo(0, 1.0)
    middle[:80, :80] = photo(1, 0.7, center=(40, 40))[0][:80, :80]
    found = detector(middle)
    assert found.faces == 2
    assert np.linalg.norm(found.points - truth, axis=1).mean() < 5
    boxes = np.array([[100, 100, 200, 200], [0, 0, 110, 110], [250, 250, 260, 260]], np.float32)
    assert detect._subject(boxes, 300, 300) == 0
    boxes[1] = [0, 0, 250, 250]
    assert detect._subject(boxes, 300, 300) == 1


def test_unlikely_faces_count_as_none(detector):
    image, _ = photo(3, 1.2, -15, (180, 120))
    probability = detector(image).probability
    assert MtcnnDetector(probability - 1e-4)(image) is not None
    assert MtcnnDetector(probability + 1e-6)(image) is None
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="min_probability must be in 0..1"):
            MtcnnDetector(wrong)


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(ConfigError, match=r"pip install 'facetx\[align\]'"):
        MtcnnDetector()


@pytest.fixture
def photos(tmp_path):
    """``POSES`` as photos, one of noise, one damaged, and one with two faces."""
    root = tmp_path / "photos"
    root.mkdir()
    truth = {}
    for person, pose in enumerate(POSES):
        image, truth[f"p{person}/0.png"] = photo(*pose)
        (root / f"p{person}").mkdir()
        (root / f"p{person}/0.png").write_bytes(encode_png(image))
    (root / "p0/1.png").write_bytes(encode_png(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)))
    (root / "p1/1.png").write_bytes(b"no image")
    two, truth["p2/1.png"] = photo(0, 1.0)
    two[:80, :80] = photo(1, 0.7, center=(40, 40))[0][:80, :80]
    (root / "p2/1.png").write_bytes(encode_png(two))
    return root, truth


def test_align_by_the_detector(detector, photos, tmp_path):
    root, truth = photos
    report = align_set(open_source(root), tmp_path / "out", detector=detector)
    assert report.dropped["p0/1.png"] == "no face found"
    assert "cannot be read as an image" in report.dropped["p1/1.png"]
    assert report.facts["several_faces"] == {"images": 1, "list": ["p2/1.png"]}
    assert report.facts["detector"].startswith("mtcnn of facenet-pytorch 2.5.3, probability >= 0.9")
    assert report.facts["alignment"]["distance_max"] < 6
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["landmarks.csv", "p0", "p1", "p2", "p3"]
    rows = read_landmarks(tmp_path / "out/landmarks.csv")
    assert sorted(rows) == sorted(truth)
    for name, points in truth.items():
        image = read_image(root / name)
        goal = transform(similarity(points, ARCFACE), points)
        assert np.linalg.norm(rows[name] - goal, axis=1).mean() < 4
        written = read_image(tmp_path / "out" / name).astype(int)
        assert abs(written - align(image, points)).mean() < abs(written - warp(image, np.eye(3)[:2])).mean() / 2


def test_align_does_not_detect_again(photos, tmp_path):
    class Counting:
        name = "counting"

        def __init__(self, stop=None):
            self.calls, self.stop = 0, stop

        def __call__(self, image):
            if self.calls == self.stop:
                raise KeyboardInterrupt
            self.calls += 1
            points = (ARCFACE + self.calls / 7).astype(np.float32)  # so that it shows which call made them
            return None if image.shape[0] == 80 else Detected(points, np.zeros(4, np.float32), 1.0, 1)

    source = open_source(photos[0])
    whole = align_set(source, tmp_path / "whole", detector=Counting())
    with pytest.raises(KeyboardInterrupt):
        align_set(source, tmp_path / "cut", detector=Counting(stop=3))
    lines = (tmp_path / "cut.part/.detected").read_text()
    assert lines.count("\n") == 4  # three calls and one damaged image
    (tmp_path / "cut.part/.detected").write_text(lines + '{"points": [[1')
    later = Counting()
    later.calls = 3
    report = align_set(source, tmp_path / "cut", detector=later)
    assert later.calls == 6
    assert list(report.dropped) == list(whole.dropped) == ["p0/1.png", "p1/1.png"]
    assert json.dumps(report.facts) == json.dumps(whole.facts)
    for file in (tmp_path / "whole").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "cut" / file.relative_to(tmp_path / "whole")).read_bytes()


def test_another_detector_starts_anew(photos, tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/.source").write_text(f"{photos[0]} 7 112 None other")
    (tmp_path / "out.part/.detected").write_text('{"why": "no face found"}\n' * 7)
    report = align_set(open_source(photos[0]), tmp_path / "out", detector=MtcnnDetector(0.5))
    assert len(report.dropped) == 2
    nothing = tmp_path / "nothing/a"
    nothing.mkdir(parents=True)
    (nothing / "0.png").write_bytes(encode_png(np.zeros((50, 50, 3), np.uint8)))
    with pytest.raises(DataError, match="no image is left; the first was dropped because: no face found"):
        align_set(open_source(tmp_path / "nothing"), tmp_path / "none", detector=MtcnnDetector())


def test_on_aligned_faces_of_celeba(detector):
    """Against the keypoints that these images were aligned by."""
    root = shared("data/celeba_identity")
    rows = read_landmarks(root / "landmarks.csv")
    names = sorted(rows)[::600]
    found = [detector(read_image(root / "images" / name)) for name in names]
    distance = [np.linalg.norm(f.points - rows[n], axis=1).mean() for f, n in zip(found, names) if f is not None]
    assert len(distance) >= len(names) - 1
    assert np.median(distance) < 1.5
    assert np.max(distance) < 5


def test_on_aligned_faces_of_lfw(detector):
    """These images lie on the template, though the file of landmarks beside them says otherwise."""
    root = shared("data/lfw")
    names = sorted(read_landmarks(root / "landmarks.csv"))[::300]
    found = [detector(read_image(root / "images" / name)) for name in names]
    statistics = alignment_statistics([face.points for face in found if face is not None])
    assert abs(np.array(statistics["offset"])).max() < 1.5
    assert 0.96 < statistics["scale_mean"] < 1.05
    assert abs(statistics["rotation_mean"]) < 1
