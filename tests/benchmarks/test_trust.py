"""Receipts, result files, the comparison of two, and embeddings from a cache."""

import base64
import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facetx.backbones import BACKBONES
from facetx.benchmarks.embedding_cache import EmbeddingCache
from facetx.benchmarks.paired import compare_results, mismatches
from facetx.benchmarks.receipts import make_receipt, network_digest, weights_digest
from facetx.benchmarks.results import read_result, write_result
from facetx.contract import InputContract
from facetx.data.sets.bins import write_bin
from facetx.data.sets.folder import ImageFolder
from facetx.errors import DataError
from facetx.evaluators import How
from facetx.evaluators.builders import bin_pairs
from facetx.evaluators.embedding import embed_views
from facetx.evaluators.sampling import sample_pairs
from facetx.evaluators.verification import PairVerification
from facetx.files import lock


class Linear(nn.Module):
    """A random projection of the pixels."""

    embedding_dim = 8
    needs_keypoints = False

    def __init__(self, scale=1.0, seed=0):
        super().__init__()
        self.contract = InputContract(size=32)
        torch.manual_seed(seed)
        self.proj = nn.Linear(3 * 32 * 32, 8)
        self.scale = scale
        self.seen = {"images": 0}

    def forward(self, images):
        self.seen["images"] += len(images)
        return self.scale * self.proj(images.flatten(1))


@pytest.fixture
def task(faces):
    data = ImageFolder(str(faces))
    p = sample_pairs(data.labels, folds=2, pairs_per_fold=12)
    return PairVerification("faces", data, p.first, p.second, p.same, p.fold)


def test_a_bin_of_the_same_files_has_the_same_receipt_and_scores(task, tmp_path):
    ends = np.stack([task.first, task.second], axis=1).ravel()
    write_bin(tmp_path / "faces.bin", [task.dataset.encoded(int(i)) for i in ends], task.same)
    other = bin_pairs(str(tmp_path / "faces.bin"), folds=2)
    a, b = make_receipt(task, Linear()), make_receipt(other, Linear())
    assert a == b
    np.testing.assert_allclose(task.result(Linear()).scores, other.result(Linear()).scores, atol=1e-6)


def test_each_change_changes_its_own_hash(task, faces, tmp_path):
    base = make_receipt(task, Linear(), seed=3)
    assert base.seed == 3
    assert make_receipt(task, Linear(seed=1)).weights != base.weights
    assert mismatches(base, make_receipt(task, Linear(seed=1), amp=True)) == []

    other = tmp_path / "faces"
    for path in task.dataset.paths:
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path))).save(other / path.parent.name / path.name)
    changed = PairVerification("faces", ImageFolder(str(other)), task.first, task.second, task.same, task.fold)
    found = make_receipt(changed, Linear())
    assert found.protocol == base.protocol  # the same protocol on other images
    assert [m.split(":")[0] for m in mismatches(base, found)] == ["images"]

    changed = PairVerification("faces", task.dataset, task.first, task.second, task.same, task.fold[::-1], flip=False)
    assert [m.split(":")[0] for m in mismatches(base, make_receipt(changed, Linear()))] == ["protocol", "flip"]
    changed = PairVerification("faces", task.dataset, task.first, task.first[::-1], task.same, task.fold)
    assert make_receipt(changed, Linear()).protocol != base.protocol


def test_weights_count_by_name_shape_and_value():
    a = nn.ModuleDict({"x": nn.Linear(2, 3), "y": nn.Linear(3, 2)})
    b = nn.ModuleDict({"y": a["y"], "x": a["x"]})
    assert weights_digest(a) == weights_digest(b)
    assert weights_digest(a) != weights_digest(a["x"])
    before = weights_digest(a)
    with torch.no_grad():
        a["x"].weight[0, 0] += 1e-6
    assert weights_digest(a) != before
    assert weights_digest(a.to(torch.bfloat16)) != weights_digest(b.float())


def test_a_network_counts_by_what_it_computes():
    build = partial(BACKBONES.create, "vit_p8s8_tiny", image_size=16, depth=1)
    base = network_digest(build())
    assert network_digest(build().eval()) == base
    assert network_digest(build(attention_scale=0.5)) != base
    assert network_digest(build(activation="relu6")) != base
    assert network_digest(build(heads=2, head_dim=64)) != base


def test_a_result_file_gives_back_every_number(task, tmp_path):
    result, receipt = task.result(Linear()), make_receipt(task, Linear())
    write_result(tmp_path / "r.json", result, receipt, model={"step": 7})
    again, its_receipt = read_result(tmp_path / "r.json")
    assert again.as_dict() == result.as_dict()
    assert its_receipt == receipt
    np.testing.assert_array_equal(again.scores, result.scores)
    assert json.loads((tmp_path / "r.json").read_text())["model"] == {"step": 7}
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"format": "other"}', b"\xff"])
def test_other_files_are_refused(tmp_path, damage):
    (tmp_path / "r.json").write_bytes(damage)
    with pytest.raises(DataError, match=r"r\.json: "):
        read_result(tmp_path / "r.json")


def test_damaged_scores_are_refused(task, tmp_path):
    write_result(tmp_path / "r.json", task.result(Linear()), make_receipt(task, Linear()))
    whole = json.loads((tmp_path / "r.json").read_text())
    for name, value in (("scores", whole["arrays"]["scores"][:-5]), ("scores", "AAAA"), ("same", "?"), ("fold", None)):
        (tmp_path / "r.json").write_text(json.dumps({**whole, "arrays": {**whole["arrays"], name: value}}))
        with pytest.raises(DataError, match="no result with its scores"):
            read_result(tmp_path / "r.json")
    with pytest.raises(DataError, match="none.json: no such file"):
        read_result(tmp_path / "none.json")


def test_other_values_beside_the_scores_are_refused(task, tmp_path):
    write_result(tmp_path / "r.json", task.result(Linear()), make_receipt(task, Linear()))
    whole = json.loads((tmp_path / "r.json").read_text())
    receipt, settings = whole["receipt"], whole["settings"]
    same = base64.b64decode(whole["arrays"]["same"])
    many_folds = {"scores": bytes(8 * 1002), "same": b"\0\1" * 501, "fold": np.arange(1002, dtype="<i4").tobytes()}
    for change in (
        {"name": None},
        {"summary": {"xnorm": float("nan")}},
        {"summary": {"xnorm": "1"}},
        {"settings": {**settings, "flip": 1}},
        {"settings": {**settings, "thresholds": "best"}},
        {"receipt": {**receipt, "weights": 7}},
        {"receipt": {**receipt, "input": {"mean": float("inf")}}},
        {"receipt": {**receipt, "more": 1}},
        {"arrays": {**whole["arrays"], "same": base64.b64encode(b"\7" + same[1:]).decode()}},
        {"arrays": {k: base64.b64encode(v).decode() for k, v in many_folds.items()}},
    ):
        (tmp_path / "r.json").write_text(json.dumps({**whole, **change}))
        with pytest.raises(DataError, match="no result with its scores"):
            read_result(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no result with its scores"):
        read_result(tmp_path / "r.json")


def test_compare_two_models_and_refuse_what_does_not_match(task):
    a, b = Linear(), Linear(seed=1)
    first, second = (task.result(a), make_receipt(task, a)), (task.result(b), make_receipt(task, b))
    found = compare_results(*first, *second)
    right = [(r.scores > r.accuracy.thresholds[r.fold]) == r.same for r in (first[0], second[0])]
    assert found.mcnemar.only_a == int((right[0] & ~right[1]).sum())
    assert found.accuracy.b == right[1].mean()
    assert found.notes == []
    assert "McNemar, exact" in found.text()
    assert json.loads(json.dumps(found.as_dict()))["accuracy"]["a"] == right[0].mean()
    assert compare_results(*first, *first).notes == ["both are of the same weights"]

    other = replace(second[1], flip=False, images="0" * 64, versions={**second[1].versions, "torch": "1.0"})
    with pytest.raises(DataError, match=r"(?s)images: .*\.\.\. and 000000000000\.\.\.\n  flip: True and False"):
        compare_results(*first, second[0], other)
    shifted = replace(second[1], input={**second[1].input, "alignment": "other"})
    with pytest.raises(DataError, match="alignment: arcface and other"):
        compare_results(*first, second[0], shifted)
    with pytest.raises(DataError, match="labels or folds: they differ though the receipts agree"):
        compare_results(*first, replace(second[0], same=~second[0].same), second[1])
    older = replace(second[1], versions={**second[1].versions, "torch": "1.0"})
    assert compare_results(*first, second[0], older).notes[0].startswith("version of torch: ")


def test_the_cache_computes_once_and_tells_changes(task, tmp_path):
    cache, model = EmbeddingCache(tmp_path / "c"), Linear()
    plain = task.result(model)
    first = task.result(model, How(embed=cache))
    before = model.seen["images"]
    np.testing.assert_array_equal(task.result(model, How(embed=cache)).scores, plain.scores)
    np.testing.assert_array_equal(first.scores, plain.scores)
    assert model.seen["images"] - before == 2  # the first image and its mirror, to see that it is the same network
    assert len(list((tmp_path / "c").glob("*.npy"))) == 1

    used = np.unique([task.first, task.second]).tolist()
    views = embed_views(Linear(scale=3.0), task.dataset, indices=used)
    np.testing.assert_array_equal(cache(Linear(scale=3.0), task.dataset, indices=used), views)  # the same weights
    cache(Linear(seed=1), task.dataset, indices=used)
    cache(model, task.dataset, indices=used[::-1])
    cache(model, task.dataset, indices=used, flip=False)
    assert len(list((tmp_path / "c").glob("*.npy"))) == 5

    for damage in (lambda data: data[:200], lambda data: data[:-4] + b"\0\0\0\0"):
        for file in (tmp_path / "c").glob("*.npy"):
            file.write_bytes(damage(file.read_bytes()))
        np.testing.assert_array_equal(task.result(model, How(embed=cache)).scores, plain.scores)
    assert not list((tmp_path / "c").glob("*.part"))


def test_two_processes_do_not_compute_the_same_embeddings(task, tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache(Linear(), task.dataset)
    (file,) = tmp_path.glob("*.npy")
    file.unlink()
    with lock(file):
        with pytest.raises(DataError, match=rf"{file}: is being written by process {os.getpid()} on "):
            cache(Linear(), task.dataset)
        cache(Linear(), task.dataset, flip=False)  # others are free
    cache(Linear(), task.dataset)
    assert not list(tmp_path.glob("*.lock"))
