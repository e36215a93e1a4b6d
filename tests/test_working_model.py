"""What a network that knows faces shows of the parts around it: MobileFaceNet's published weights on real photos."""

import shutil

import numpy as np
import pytest
from conftest import shared

from facetx.data.formats.codec import decode_image, encode_jpeg
from facetx.data.lists.pairs import Pairs, read_pairs
from facetx.data.sets.folder import ImageFolder
from facetx.evaluators.identification import Identification
from facetx.inference.detect import MtcnnDetector
from facetx.inference.model import FaceModel
from facetx.metrics.verification import best_threshold, cosine_scores
from facetx.prepare.align import align_set
from facetx.prepare.overlap import find_overlap
from facetx.prepare.sources import open_source

pytestmark = pytest.mark.slow
PEOPLE, IMAGES = 60, 4


@pytest.fixture(scope="module")
def model(trained_mobilefacenet):
    return FaceModel(trained_mobilefacenet, "cpu")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The first 60 people of LFW who have four images or more, four each."""
    root = tmp_path_factory.mktemp("people")
    folders = [f for f in sorted(shared("data/lfw/images").iterdir()) if len([*f.glob("*.jpg")]) >= IMAGES]
    for folder in folders[:PEOPLE]:
        copy(folder, slice(IMAGES), root / folder.name)
    return root


def copy(folder, which, to, quality=None):
    """Images of a person, as they are or encoded again."""
    to.mkdir(parents=True)
    for path in sorted(folder.glob("*.jpg"))[which]:
        if quality is None:
            shutil.copy(path, to / path.name)
        else:
            (to / path.name).write_bytes(encode_jpeg(decode_image(path.read_bytes(), str(path)), quality))


def test_a_threshold_holds_on_people_that_it_was_not_chosen_by(model, people):
    x = model.embed(sorted(people.rglob("*.jpg")))
    labels = np.repeat(np.arange(PEOPLE), IMAGES)
    first, second = np.triu_indices(len(x), 1)
    scores, same = (x @ x.T)[first, second], labels[first] == labels[second]
    half = PEOPLE // 2
    here = (labels[first] < half) & (labels[second] < half)
    there = (labels[first] >= half) & (labels[second] >= half)
    threshold = np.quantile(scores[here & ~same], 0.99)  # one in a hundred of the first half's strangers is accepted
    assert 0 < (scores[there & ~same] > threshold).mean() < 0.03
    assert (scores[there & same] > threshold).mean() > 0.95


def test_identification_finds_people(model, people):
    found = Identification("people", ImageFolder(people, size=112), references=PEOPLE).result(model.model).summary()
    assert found["rank1"] > 0.97
    assert found["bcubed_f"] > 0.9


def test_an_overlap_is_found_and_hardly_anybody_else(model, people, tmp_path):
    """Ten of 50 people are tested too: five by another photo, five by one of their own, encoded again."""
    folders = sorted(people.iterdir())
    for number, folder in enumerate(folders[:50]):
        copy(folder, slice(3), tmp_path / f"train/{number:04}")
    for number, folder in enumerate([*folders[:10], *folders[50:]]):
        which = slice(3, 4) if number < 5 else slice(1) if number < 10 else slice(IMAGES)
        copy(folder, which, tmp_path / f"test/{1000 + number}", quality=60)
    report = find_overlap(model.backbone, open_source(tmp_path / "train"), open_source(tmp_path / "test"))
    found = [tuple(row[:2]) for row in report.facts["same_people"]["list"]]  # closest first
    assert set(found[:10]) == {(f"{number:04}", f"{1000 + number}") for number in range(10)}
    assert len(found) <= 12  # the threshold is one of too few people, and the report says so
    assert not report.facts["same_people"]["threshold"]["supported"]
    again = report.facts["near_duplicates"]["list"][:5]
    assert sorted(row[0][:4] for row in again) == [f"{number:04}" for number in range(5, 10)]
    assert min(row[2] for row in again) > 0.95 > report.facts["near_duplicates"]["list"][5][2]


def test_photos_are_aligned_as_the_network_wants_them(model, tmp_path):
    """Some pairs of LFW's photos before alignment, aligned by a detector, against the photos as they are."""
    raw = shared("data/lfw_raw")
    whole = read_pairs(raw / "pairs.txt")
    rows = np.r_[0:300:10, 300:600:10]
    pairs = Pairs([whole.first[r] for r in rows], [whole.second[r] for r in rows], whole.same[rows], whole.fold[rows])
    for key in pairs.images:
        (tmp_path / "photos" / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / f"images/{key}.jpg", tmp_path / f"photos/{key}.jpg")
    report = align_set(open_source(tmp_path / "photos"), tmp_path / "aligned", detector=MtcnnDetector())
    assert len(report.dropped) <= 0.05 * len(pairs.images)

    def accuracy(folder, suffix):
        seen = [k for k in pairs.images if (folder / f"{k}{suffix}").exists()]
        x = dict(zip(seen, model.embed([folder / f"{k}{suffix}" for k in seen]), strict=True))
        kept = [i for i in range(len(rows)) if pairs.first[i] in x and pairs.second[i] in x]
        scores = cosine_scores([x[pairs.first[i]] for i in kept], [x[pairs.second[i]] for i in kept])
        threshold = best_threshold(scores, pairs.same[kept])
        return ((scores > threshold) == pairs.same[kept]).mean()

    aligned, photos = accuracy(tmp_path / "aligned", ".png"), accuracy(tmp_path / "photos", ".jpg")
    assert aligned >= 0.96
    assert photos < 0.9
