"""From images to named numbers: the evaluator, its pairs, and the benchmarks of the table."""

import json

import numpy as np
import pytest
import torch
from conftest import shared
from PIL import Image
from torch import nn

from facetx.contract import InputContract
from facetx.data import DATASETS
from facetx.data.base import FaceDataset
from facetx.data.formats.codec import encode_png
from facetx.data.lists.pairs import Pairs, write_key_pairs, write_pairs
from facetx.data.sets.bins import write_bin
from facetx.errors import ConfigError, DataError
from facetx.evaluators import EVALUATORS, args_with_size, build_evaluator
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


class Colored(FaceDataset):
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
    good = evaluator(Colored()).result(Color()).summary()
    assert list(good) == NUMBERS
    assert all(isinstance(v, float) for v in good.values())
    assert good["accuracy"] > 0.9
    assert good["auc"] > 0.95
    chance = evaluator(Colored()).result(Noise()).summary()
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
    table, folds = result.tables()
    assert table == result.table()
    assert table.head == ("colors", "300 pairs, 5 folds, without flip")
    assert dict(table.rows)["accuracy"] == f"{100 * result.accuracy.mean:.2f} %"
    assert [("too few pairs" in cell) for _, cell in table.rows] == [False] * 8 + [True] * 2
    assert [row[0] for row in folds.rows] == list("12345")
    assert folds.rows[4][2] == f"{result.accuracy.thresholds[4]:.4f}"


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


def test_small_sets_get_what_they_allow_and_say_so():
    usual = sample_pairs(np.repeat(np.arange(400), 20))
    assert (usual.fold.max() + 1, len(usual.same), usual.notes) == (10, 6000, ())
    few = sample_pairs(np.repeat(np.arange(12), 2))  # two identities a fold, of one same pair each
    assert (few.fold.max() + 1, few.same.tolist()) == (6, [True, True, False, False] * 6)
    assert "6 folds of 2 + 2 pairs, for 12 identities with 24 images allow no more" in few.notes[0]
    thin = sample_pairs(np.repeat(np.arange(40), 3), pairs_per_fold=30)  # what ten identities of three images have
    assert (thin.fold.max() + 1, len(thin.same)) == (4, 240)
    assert sample_pairs(np.repeat(np.arange(60), 8), most=60).notes == ()
    with pytest.raises(DataError, match="cannot draw 1 same pairs for each of 2 folds from 3 identities"):
        sample_pairs(np.repeat(np.arange(3), 1))
    task = EVALUATORS["synthetic_pairs"](identities=5, images_per_identity=3, size=16)
    assert task.notes == task.result(Color(size=16)).notes
    assert "2 folds of 6 + 6 pairs" in task.notes[0]
    assert task.result(Color(size=16)).as_dict()["notes"] == list(task.notes)


def test_what_is_given_draws_the_same_pairs_as_the_usual():
    labels = np.repeat(np.arange(400), 20)
    for field in ("first", "second"):
        given = getattr(sample_pairs(labels, 10, 300, seed=5), field)
        np.testing.assert_array_equal(getattr(sample_pairs(labels, seed=5), field), given)


def one_fold(dataset, **how):
    p = sample_pairs(dataset.labels, 2, 40)
    return PairVerification("view1", dataset, p.first, p.second, p.same, np.zeros(len(p.same), int), **how)


@pytest.mark.parametrize("mode", ["grid", "exact"])
def test_one_fold_gives_all_but_the_accuracy_over_folds(mode):
    task = one_fold(Colored(), thresholds=mode)
    assert task.notes[0].startswith("one fold: no accuracy")  # before anything is measured
    result = task.result(Color())
    assert list(result.summary()) == [n for n in NUMBERS if not n.startswith("accuracy")]
    shares = [np.mean((result.scores > t) == result.same) for t in np.append(result.scores, -2)]
    assert result.right.mean() >= max(shares) - (0.02 if mode == "grid" else 0)
    assert result.right.mean() == np.mean((result.scores > result.threshold) == result.same)
    assert len(result.tables()) == 1
    assert dict(result.table().rows)["accuracy"].startswith("none")
    json.dumps(result.as_dict(), allow_nan=False)


def test_folds_of_one_kind_are_told_before_anything_is_measured():
    dataset, p = Colored(), sample_pairs(Colored().labels, 2, 30)
    order = np.argsort(~p.same, kind="stable")  # all same pairs first
    ends = p.first[order], p.second[order], p.same[order]
    sorted_ = PairVerification("list", dataset, *ends, np.repeat(np.arange(10), 12))
    assert sorted_.notes[0].startswith("10 of 10 folds, fold 1 the first, have pairs of one kind alone")
    assert sorted_.result(Color()).notes == sorted_.notes
    with pytest.raises(DataError, match="list: without fold 1 the pairs are of one kind alone"):
        PairVerification("list", dataset, *ends, np.repeat([0, 1], 60))
    with pytest.raises(DataError, match="all 60 pairs are of one person"):
        PairVerification("list", dataset, *(end[:60] for end in ends), np.repeat([0, 1], 30))


def test_constant_embeddings_verify_nobody():
    """Whatever a machine adds up: rows that differ in their last bits are equal."""

    class Constant(Color):
        embedding_dim = 500

        def forward(self, images):
            return torch.full((len(images), 500), 0.1) * (1 + 1e-7 * torch.rand(len(images), 500))

    found = evaluator(Colored()).result(Constant()).summary()
    assert (found["auc"], found["eer"]) == (0.5, 0.5)
    assert [found[n] for n in NUMBERS[-3:]] == [0, 0, 0]


def test_pairs_of_any_data_set_by_two_seeds(folder):
    dataset = Colored()
    task = build_evaluator("pairs", dataset, {"folds": 3, "pairs_per_fold": 9, "seed": 4}, size=8)
    drawn = sample_pairs(dataset.labels, 3, 9, 4)
    np.testing.assert_array_equal(task.first, drawn.first)
    assert task.result(Color()).summary()["accuracy"] > 0.9

    args = {"root": str(folder), "val_identities": 0.5, "pairs_per_fold": 20, "folds": 2, "seed": 3}
    split, other = (build_evaluator("folder_pairs", None, {**args, **more}) for more in ({}, {"pairs_seed": 4}))
    assert list(split.dataset.identities) == list(other.dataset.identities)
    for task, seed in ((split, 3), (other, 4)):
        np.testing.assert_array_equal(task.first, sample_pairs(split.dataset.labels, 2, 20, seed).first)
    faces = {"identities": 12, "images_per_identity": 3, "size": 16}
    a, b = (build_evaluator("synthetic_pairs", None, {**faces, **more}) for more in ({}, {"pairs_seed": 1}))
    np.testing.assert_array_equal(a.dataset[0]["image"], b.dataset[0]["image"])
    assert (a.first != b.first).any()


def test_the_models_size_unless_another_is_given(folder):
    args = {"root": str(folder), "val_identities": 0.5}
    assert build_evaluator("folder_pairs", None, args, size=16).dataset[0]["image"].shape == (16, 16, 3)
    assert build_evaluator("folder_pairs", None, {**args, "size": 12}, size=16).dataset.size == 12
    assert build_evaluator("synthetic_pairs", None, {}, size=16).dataset.size == 16
    assert args_with_size(DATASETS, "image_folder", {"root": "x"}, 16) == {"root": "x", "size": 16}
    assert args_with_size(DATASETS, "image_folder", {"root": "x", "size": None}, 16) == {"root": "x", "size": None}
    assert args_with_size(EVALUATORS, "pairs", {"seed": 1}, 16) == {"seed": 1}  # its data set has a size


@pytest.mark.parametrize(
    ("name", "dataset", "args", "words"),
    [
        ("pairs", None, {}, "evaluator pairs: has no data to ask by: give data:"),
        ("identification", None, {}, "has no data to ask by"),
        (
            "lfw",
            "colored",
            {},
            "lfw: brings its own images, .* any data set are attributes, classification, .*, pairs",
        ),
        ("identification", "colored", {"root": "x", "part": "all"}, "said by data, and by args.root, args.part"),
        ("pairs", "colored", {"name": "../../trav"}, r"args.name: '../../trav' names .* such as 'trav'"),
        ("pairs", "colored", {"name": ".."}, "letters, digits and"),
        ("pairs", "colored", {"name": "a b"}, "such as 'a_b'"),
    ],
)
def test_what_does_not_fit_is_refused(name, dataset, args, words):
    with pytest.raises(ConfigError, match=words):
        build_evaluator(name, Colored() if dataset else None, args)


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


def test_a_bin_has_the_folds_that_stand_beside_it(tmp_path):
    images, labels = colors()
    p = sample_pairs(labels, folds=3, pairs_per_fold=4)
    order = np.random.default_rng(0).permutation(24)
    ends = np.stack([p.first, p.second], 1)[order]
    write_bin(tmp_path / "x.bin", [encode_png(images[i]) for i in ends.ravel()], p.same[order])
    path = str(tmp_path / "x.bin")
    assert EVALUATORS["bin_pairs"](path).fold.max() == 9  # contiguous ones, as InsightFace takes them
    write_key_pairs(
        tmp_path / "x.pairs.txt", Pairs(*([f"a/{i}" for i in end] for end in ends.T), p.same[order], p.fold[order])
    )
    np.testing.assert_array_equal(EVALUATORS["bin_pairs"](path).fold, p.fold[order])
    assert EVALUATORS["bin_pairs"](path, folds=4).fold.tolist() == [k // 6 for k in range(24)]


def test_folder_pairs_use_held_out_identities(folder):
    task = EVALUATORS.create("folder_pairs", root=str(folder), val_identities=0.5, folds=2, pairs_per_fold=20)
    used = {task.dataset.paths[i].parent.name for i in (*task.first, *task.second)}
    assert 2 < len(used) < 40
    assert task.result(Color()).summary()["accuracy"] > 0.9


def test_synthetic_pairs_need_no_files():
    task = EVALUATORS.create("synthetic_pairs", identities=6, images_per_identity=3, size=32, folds=2, pairs_per_fold=5)
    found = task.result(Color(size=32)).summary()
    assert list(found) == NUMBERS
    assert np.isfinite(list(found.values())).all()


def test_lfw_itself():
    task = EVALUATORS.create("lfw", images=str(shared("data/lfw/images")), pairs=str(shared("data/lfw/pairs.txt")))
    assert (len(task.same), len(task.dataset), task.fold.max()) == (6000, 7701, 9)
    names = [
        (task.dataset.paths[a].parent.name, task.dataset.paths[b].parent.name) for a, b in zip(task.first, task.second)
    ]
    assert [a == b for a, b in names] == task.same.tolist()
