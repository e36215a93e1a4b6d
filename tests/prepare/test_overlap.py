"""What a training set shares with a test set: found by names, pixels and embeddings, and left out of a clean list."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import Blocks
from PIL import Image

from facetx.data.lists.landmarks import COLUMNS, write_landmarks
from facetx.data.sets.image_list import ImageList
from facetx.data.sets.packed import Packed, PackWriter
from facetx.data.sets.records import RecordFaces
from facetx.errors import DataError
from facetx.evaluators import How
from facetx.prepare.convert import convert
from facetx.prepare.overlap import SourceFaces, find_overlap
from facetx.prepare.sources import open_source


class Points(Blocks):
    needs_keypoints = True

    def forward(self, images, keypoints):
        return super().forward(images) + keypoints.mean()


def copy(faces, root, rows):
    """``rows``: (person, image, new identity), each written as ``root/<identity>/<person>_<image>.png``."""
    for person, image, identity in rows:
        (root / identity).mkdir(parents=True, exist_ok=True)
        shutil.copy(faces / f"person_{person}/{image}.png", root / identity / f"{person}_{image}.png")
    return root


@pytest.fixture
def train(faces, tmp_path):
    """Persons 0 to 3, three images each, as "Ann Lee", "0001", "0002", "0003"."""
    names = ["Ann Lee", "0001", "0002", "0003"]
    return copy(faces, tmp_path / "train", [(p, i, names[p]) for p in range(4) for i in range(3)])


@pytest.fixture
def test(faces, tmp_path):
    """Other images of persons 2 and 3, person 4 with one image, an "ann_LEE" and a "0001" who are person 5, and one
    image of person 1 that the training set has too, under another identity."""
    rows = [(2, 3, "x"), (2, 4, "x"), (3, 3, "y"), (4, 0, "z"), (5, 0, "ann_LEE"), (5, 1, "0001"), (1, 0, "z")]
    return copy(faces, tmp_path / "test", rows)


def test_each_kind_of_overlap_is_found(train, test, tmp_path):
    report = find_overlap(Blocks(16), open_source(train), open_source(test), threshold=0.8, out=tmp_path / "clean.txt")
    facts = report.facts
    assert facts["identities"] == {"train": 4, "test": 5}
    assert facts["identities_with_one_image"] == {"train": 0, "test": 3}
    assert facts["same_names"] == {
        "names": {"train": 1, "test": 4},
        "identities": 1,
        "list": [["Ann Lee", "ann_LEE"]],
    }
    assert facts["identical_images"] == {"images": 1, "identities": 1, "list": [["0001/1_0.png", "z/1_0.png"]]}
    near = facts["near_duplicates"]
    assert near["list"][0] == ["0001/1_0.png", "z/1_0.png", 1.0]
    assert {row[0].split("/")[0] for row in near["list"]} == {"0001", "0002", "0003"}
    assert near["images"] == 9
    assert near["pairs"] == 3 + 3 * 2 + 3  # each with the one image of person 1, the two of 2, the one of 3
    people = facts["same_people"]
    assert sorted([*row[:2], *row[3:]] for row in people["list"]) == [["0002", "x", 3, 2], ["0003", "y", 3, 1]]
    assert people["one_image"] == 1
    assert facts["matched"] == {"identities": 4, "images": 12}
    assert facts["out"].endswith("clean.txt is not written: every identity matched")
    assert report.out is None
    assert len(report.dropped) == 12
    assert not list(tmp_path.glob("clean*"))
    assert json.loads(json.dumps(vars(report)))["facts"] == facts


def test_the_clean_set_is_the_rest(faces, test, tmp_path):
    names = ["Ann Lee", "0001", "0002", "0003", "", "0005"]
    rows = [(p, i, names[p]) for p in (0, 1, 2, 3, 5) for i in range(2, 5)]
    train = copy(faces, tmp_path / "train", rows)
    (train / "0001/broken.png").write_bytes(b"no image")
    shutil.rmtree(test / "ann_LEE")
    shutil.rmtree(test / "0001")
    out = tmp_path / "lists/clean.txt"
    report = find_overlap(Blocks(16), open_source(train), open_source(test), threshold=0.8, out=out)
    data = ImageList(str(out))
    assert [p.relative_to(out.parent / "../train").as_posix() for p in data.paths] == [
        *(f"0005/5_{i}.png" for i in range(2, 5)),
        *(f"Ann Lee/0_{i}.png" for i in range(2, 5)),
    ]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert report.out == str(out)
    assert "cannot be read as an image" in report.dropped["0001/broken.png"]
    assert "has the pixels of the test set's x/2_3.png" in report.dropped["0002/2_4.png"]
    assert "the mean has the cosine" in report.dropped["0003/3_2.png"]
    assert len(report.dropped) == 10
    assert [p.name for p in out.parent.iterdir()] == ["clean.txt"]


def test_a_record_file_is_cleaned_into_another(train, test, tmp_path):
    shutil.rmtree(test / "ann_LEE")
    convert(open_source(train), tmp_path / "train.rec")
    source = open_source(tmp_path / "train.rec")

    def early(*args, **how):
        raise AssertionError("found out too late")

    for out, words in (
        ("clean.txt", "a list names image files, and these images are in one file"),
        ("clean.bin", "a .bin holds the pairs of a benchmark"),
        ("train.rec", "exists; name another place"),
    ):
        with pytest.raises(DataError, match=words):
            find_overlap(Blocks(16), source, open_source(test), out=tmp_path / out, how=How(embed=early))
    report = find_overlap(Blocks(16), source, open_source(test), threshold=0.8, out=tmp_path / "clean/train.rec")
    assert len(RecordFaces(tmp_path / "clean/train.rec")) == 12 - len(report.dropped) == 3


def test_a_given_threshold_is_used_for_both(train, test):
    sources = open_source(train), open_source(test)
    facts = find_overlap(Blocks(16), *sources, threshold=-1.1).facts
    assert facts["near_duplicates"]["threshold"] == {"cosine": -1.1, "given": True}
    assert facts["near_duplicates"]["pairs"] == 12 * 7
    assert facts["same_people"]["pairs"] == 4 * 5
    facts = find_overlap(Blocks(16), *sources, threshold=1.1).facts
    assert facts["near_duplicates"]["images"] == facts["same_people"]["identities"] == 0
    assert facts["identical_images"]["images"] == 1


def test_the_thresholds_come_from_the_training_sets_impostors(train, test):
    """Six images meet six of other samples, of other people; and each of four people meets three others."""
    facts = find_overlap(Blocks(16), open_source(train), open_source(test)).facts
    near, people = (facts[name]["threshold"] for name in ("near_duplicates", "same_people"))
    assert 36 - 12 <= near["impostor_comparisons"] < 36
    assert near["comparisons"] == 12 * 7
    assert (people["impostor_comparisons"], people["comparisons"]) == (4 * 3, 4 * 5)
    for threshold in (near, people):
        assert -0.5 < threshold["cosine"] < 0.8
        assert (threshold["false_rate"], threshold["supported"]) == (1e-4, False)
    assert {"0002", "0003"} <= {row[0] for row in facts["same_people"]["list"]}


def test_keypoints_are_asked_for_where_the_model_takes_them(train, test, tmp_path):
    rows = [f"{folder.name}/{file.name}{',16' * 10}" for root in (train, test) for folder in sorted(root.iterdir())
            for file in sorted(folder.iterdir())]  # fmt: skip
    csv = tmp_path / "points.csv"
    csv.write_text("\n".join([",".join(COLUMNS), *(row for row in rows if "Ann Lee/0_1" not in row)]))
    with pytest.raises(DataError, match=r"train: this model needs five keypoints; .* \(--landmarks\)"):
        find_overlap(Points(16), open_source(train), open_source(test))
    with pytest.raises(DataError, match=r"test: this model needs five keypoints; .* \(--test-landmarks\)"):
        find_overlap(Points(16), open_source(train, csv), open_source(test))
    report = find_overlap(Points(16), open_source(train, csv), open_source(test, csv))
    left_out = {"Ann Lee/0_1.png": "no landmarks, and this model needs them"}
    assert report.facts["not_compared"] == {"train": left_out, "test": {}}


def test_keypoints_are_shares_of_the_width_and_the_height(tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "train/a/0.png")
    write_landmarks(tmp_path / "points.csv", ["a/0.png"], np.tile(np.float32([10, 15]), (1, 5, 1)))
    item = SourceFaces(open_source(tmp_path / "train", tmp_path / "points.csv"), 16)[0]
    assert item["keypoints"].tolist() == [[0.25, 0.75]] * 5


def test_the_report_has_what_the_clean_set_could_not_hold(faces, test, tmp_path, monkeypatch):
    train = copy(faces, tmp_path / "train", [(p, i, f"000{p}") for p in (0, 1, 2) for i in range(3)])
    for name in ("ann_LEE", "0001"):
        shutil.rmtree(test / name)
    Image.new("RGB", (8, 8)).save(train / "0000/8x8.png")
    rows = [f"{p.parent.name}/{p.name}" for p in sorted(train.rglob("*.png"))]
    write_landmarks(tmp_path / "points.csv", rows[1:], np.full((len(rows) - 1, 5, 2), 16, np.float32))
    source, report = open_source(train, tmp_path / "points.csv"), tmp_path / "report.json"
    options = {"threshold": 0.99, "report_file": report}
    find_overlap(Blocks(16), source, open_source(test), out=tmp_path / "a.txt", **options)
    facts = json.loads(report.read_text())["facts"]
    assert facts["landmarks"] == "left out: the format holds none"
    assert (facts["from"], facts["to"]) == ("folder", "list")
    report.unlink()

    def finish(writer, identities, whole=PackWriter.finish):
        said = json.loads(report.read_text())
        assert said["facts"]["landmarks"] == f"left out: 1 images have none, {rows[0]}"
        assert said["dropped"]["0000/8x8.png"] == "8x8 pixels, the first image has 32x32"
        assert "has the pixels of the test set's" in said["dropped"]["0001/1_0.png"]
        whole(writer, identities)

    monkeypatch.setattr(PackWriter, "finish", finish)
    found = find_overlap(Blocks(16), source, open_source(test), out=tmp_path / "a.packed", **options)
    assert len(Packed(tmp_path / "a.packed")) == len(rows) - len(found.dropped) == 3


def test_thresholds_by_too_few_impostors_are_warned_of(train, test):
    report = find_overlap(Blocks(16), open_source(train), open_source(test))
    near, people = report.warnings
    assert near.startswith("near duplicates: the threshold rests on ")
    assert people.startswith("same people: the threshold rests on 12 impostor comparisons")
    assert f"\nwarning: {people}" in report.text()
    assert find_overlap(Blocks(16), open_source(train), open_source(test), threshold=0.9).warnings == []


def test_mistakes_are_named(train, test, faces, tmp_path):
    class Broken(Blocks):
        def forward(self, images):
            return super().forward(images) * torch.nan

    with pytest.raises(DataError, match="embeddings of 12 images are NaN or infinite: .*train/0001/1_0.png"):
        find_overlap(Broken(16), open_source(train), open_source(test))
    one = copy(faces, tmp_path / "one", [(0, 0, "a"), (0, 1, "a")])
    with pytest.raises(DataError, match="no two identities to choose a threshold by"):
        find_overlap(Blocks(16), open_source(one), open_source(test))
    (tmp_path / "bad/a").mkdir(parents=True)
    (tmp_path / "bad/a/0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="bad: no image is left; the first: .*cannot be read as an image"):
        find_overlap(Blocks(16), open_source(train), open_source(tmp_path / "bad"))
