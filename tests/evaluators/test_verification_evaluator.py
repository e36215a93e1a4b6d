"""From images to named numbers: the evaluator, its pairs, and the benchmarks of the table."""

import json

import numpy as np
import pytest
import torch
from conftest import shared
from PIL import Image
from torch import nn

from facetx.contract import InputContract
from facetx.data.lists.pairs import Pairs, write_pairs
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS
from facetx.evaluators.sampling import sample_pairs
from facetx.evaluators.verification import PairVerification
from facetx.metrics.verification import tenfold_accuracy

NUMBERS = ["accuracy", "accuracy_std", "accuracy_se", "threshold", "xnorm", "auc", "eer"]
NUMBERS += ["tar@far=1e-1", "tar@far=1e-2", "tar@far=1e-3"]


class Color(nn.Module):
    """The mean color of an image."""

    embedding_dim = 3
    needs_keypoints = False

    def __init__(self, size=8):
        super().__init__()
        self.contract = InputContract(size=size)

    def forward(self, images):
        return images.mean(dim=(2, 3))


class Noise(nn.Module):
    """An embedding that knows nothing of identity."""

    contract = InputContract(size=8)
    embedding_dim = 16
    needs_keypoints = False

    def forward(self, images):
        return torch.randn(len(images), 16)


def colors(identities=40, images=5, spread=6.0):
    """One color an identity, images a little off: uint8 (identities * images, 8, 8, 3), labels."""
    rng = np.random.default_rng(0)
    base = np.repeat(rng.integers(30, 226, (identities, 3)), images, axis=0)
    noisy = base[:, None, None] + rng.normal(0, spread, (identities * images, 8, 8, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.repeat(np.arange(identities), images)


class Colored:
    name = "colors"

    def __init__(self, **how):
        self.images, self.labels = colors(**how)
        self.num_classes = int(self.labels.max()) + 1
        self.read = set()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.add(index)
        return {"image": self.images[index], "label": int(self.labels[index])}


def evaluator(dataset, folds=5, pairs_per_fold=30, **how):
    p = sample_pairs(dataset.labels, folds, pairs_per_fold)
    return PairVerification("colors", dataset, p.first, p.second, p.same, p.fold, **how)


def test_tells_colors_apart_and_noise_not(capsys):
    good = dict(evaluator(Colored())(Color()))
    assert list(good) == NUMBERS
    assert all(isinstance(v, float) for v in good.values())
    assert good["accuracy"] > 0.9
    assert good["auc"] > 0.95
    chance = dict(evaluator(Colored())(Noise()))
    assert 0.3 < chance["accuracy"] < 0.7
    assert capsys.readouterr() == ("", "")


def test_scores_are_the_cosines_of_the_pairs():
    dataset = Colored()
    task = evaluator(dataset, flip=False)
    result = task.result(Color())
    e = (dataset.images.astype(np.float64).mean(axis=(1, 2)) - 127.5) / 127.5
    norm = np.linalg.norm(e, axis=1)
    a, b = task.first, task.second
    np.testing.assert_allclose(result.scores, (e[a] * e[b]).sum(axis=1) / norm[a] / norm[b], atol=1e-5)
    assert result.xnorm == pytest.approx((norm[a].mean() + norm[b].mean()) / 2, rel=1e-5)
    known = tenfold_accuracy(result.scores, task.same, task.fold)
    assert result.summary()["accuracy"] == known.mean
    # A mirror has the same mean color: the norm of one view stays, and so do the cosines.
    flipped = evaluator(dataset, flip=True).result(Color())
    assert flipped.xnorm == pytest.approx(result.xnorm, rel=1e-5)
    np.testing.assert_allclose(flipped.scores, result.scores, atol=1e-5)


def test_reads_the_images_of_the_pairs_only():
    dataset = Colored()
    task = evaluator(dataset, folds=2, pairs_per_fold=3)
    task.result(Color())
    assert dataset.read == {*task.first.tolist(), *task.second.tolist()}


def test_the_result_as_json_and_as_a_table():
    result = evaluator(Colored(), flip=False).result(Color())
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert plain["summary"] == result.summary()
    assert [f["accuracy"] for f in plain["folds"]] == result.accuracy.accuracies.tolist()
    assert plain["settings"] == {"flip": False, "thresholds": "grid"}
    assert plain["pairs"] == {"same": 150, "different": 150}
    assert [t["supported"] for t in plain["tar_at_far"]] == [True, False, False]
    table = result.table().splitlines()
    assert f"{100 * result.accuracy.mean:.2f} %" in table[2]
    assert "without flip" in table[0]
    assert table[-1].split()[1] == "5"
    assert len({len(row) for row in table[:12]}) == 1
    assert "too few pairs" in table[11]


def test_sampled_pairs_keep_their_promises():
    labels = np.random.default_rng(1).integers(0, 60, 700)
    p = sample_pairs(labels, folds=4, pairs_per_fold=50, seed=3)
    assert p.same.tolist() == ([True] * 50 + [False] * 50) * 4
    assert p.fold.tolist() == [f for f in range(4) for _ in range(100)]
    np.testing.assert_array_equal(labels[p.first] == labels[p.second], p.same)
    assert len({frozenset(pair) for pair in zip(p.first.tolist(), p.second.tolist())}) == 400
    owner = {}
    for f, a, b in zip(p.fold, labels[p.first], labels[p.second]):
        assert owner.setdefault(a, f) == f
        assert owner.setdefault(b, f) == f
    again, other = sample_pairs(labels, 4, 50, 3), sample_pairs(labels, 4, 50, 4)
    np.testing.assert_array_equal(p.first, again.first)
    assert (p.first != other.first).any()


def test_every_possible_pair_can_be_drawn():
    labels = np.repeat(np.arange(4), 3)  # two identities a fold: 6 same and 9 different pairs
    p = sample_pairs(labels, folds=2, pairs_per_fold=6)
    assert len({frozenset(pair) for pair in zip(p.first[p.same].tolist(), p.second[p.same].tolist())}) == 12
    drawn = set()
    for seed in range(60):
        p = sample_pairs(labels, folds=2, pairs_per_fold=6, seed=seed)
        drawn |= {frozenset(pair) for pair in zip(p.first[~p.same].tolist(), p.second[~p.same].tolist())}
    assert len(drawn) == 6 * 9  # each two of the four identities meet, three images by three


def test_too_few_identities_or_images_are_named():
    with pytest.raises(
        DataError, match=r"7 same pairs for each of 2 folds from 4 identities with 12 images: fold 1 has 2 "
    ):
        sample_pairs(np.repeat(np.arange(4), 3), 2, 7)
    with pytest.raises(DataError, match=r"5 different pairs .* fold 1 has 1 identities with 30 images, which make 0"):
        sample_pairs(np.repeat(np.arange(2), 30), 2, 5)
    with pytest.raises(DataError, match="at least 2 folds"):
        sample_pairs(np.zeros(5, int), 1, 1)


@pytest.fixture
def folder(tmp_path):
    """The colors as image files: Name/Name_0001.png, five each."""
    images, labels = colors()
    for i, (image, label) in enumerate(zip(images, labels)):
        name = f"P{label:02d}"
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / name / f"{name}_{i % 5 + 1:04d}.png")
    return tmp_path / "images"


def test_lfw_reads_its_files(folder, tmp_path):
    _, labels = colors()
    p = sample_pairs(labels, folds=4, pairs_per_fold=20)

    def keys(items):
        return [f"P{labels[i]:02d}/P{labels[i]:02d}_{i % 5 + 1:04d}" for i in items]

    write_pairs(tmp_path / "pairs.txt", Pairs(keys(p.first), keys(p.second), p.same, p.fold))
    task = EVALUATORS["lfw"](images=str(folder), pairs=str(tmp_path / "pairs.txt"), name="mine")
    assert task.name == "mine"
    direct = PairVerification("direct", Colored(), p.first, p.second, p.same, p.fold)
    np.testing.assert_array_equal(task.result(Color()).scores, direct.result(Color()).scores)

    (folder / "P03" / "P03_0002.png").unlink()
    with pytest.raises(DataError, match=r"1 of .* images that the pairs name are not there: P03/P03_0002"):
        EVALUATORS.create("lfw", images=str(folder), pairs=str(tmp_path / "pairs.txt"))


def test_folder_pairs_use_held_out_identities(folder):
    task = EVALUATORS.create("folder_pairs", root=str(folder), val_identities=0.5, folds=2, pairs_per_fold=20)
    used = {task.dataset.paths[i].parent.name for i in (*task.first, *task.second)}
    assert 2 < len(used) < 40
    assert dict(task(Color()))["accuracy"] > 0.9


def test_synthetic_pairs_need_no_files():
    task = EVALUATORS.create("synthetic_pairs", identities=6, images_per_identity=3, size=32, folds=2, pairs_per_fold=5)
    found = dict(task(Color(size=32)))
    assert list(found) == NUMBERS
    assert np.isfinite(list(found.values())).all()


def test_lfw_itself():
    task = EVALUATORS.create("lfw", images=str(shared("data/lfw/images")), pairs=str(shared("data/lfw/pairs.txt")))
    assert (len(task.same), len(task.dataset), task.fold.max()) == (6000, 7701, 9)
    names = [
        (task.dataset.paths[a].parent.name, task.dataset.paths[b].parent.name) for a, b in zip(task.first, task.second)
    ]
    assert [a == b for a, b in names] == task.same.tolist()
