"""1:N on a folder: embeddings that know the person, and ones that do not."""

import json

import numpy as np
import pytest
import torch
from conftest import Blocks

from facetx.data.sets.folder import ImageFolder
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import DataError
from facetx.evaluators import EVALUATORS, build_evaluator
from facetx.evaluators.identification import Identification, best_threshold
from facetx.metrics.clustering import cluster_scores, single_linkage


class Noise(Blocks):
    def forward(self, images):
        return torch.randn(len(images), 48)


def test_patterns_are_told_apart_and_noise_not(faces):
    task = EVALUATORS["identification"](root=str(faces), part="all", references=4, flip=False)
    result = task.result(Blocks())
    good = result.summary()
    names = [
        "rank1",
        "rank5",
        "rank10",
        "map",
        "closest_of_4",
        "tpir@fpir=0.01",
        "tpir@fpir=0.1",
        "pairwise_f",
        "bcubed_f",
        "nmi",
    ]
    assert list(good) == names
    assert all(value == 1 for value in good.values())
    poor = task.result(Noise()).summary()
    assert poor["rank1"] < 0.5
    assert 0.1 < poor["closest_of_4"] < 0.4
    assert poor["tpir@fpir=0.01"] < 0.5
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert plain["summary"] == good
    assert (plain["images"], plain["identities"]) == (30, 6)
    assert result.table().rows[-2:] == [("bcubed_f", "100.00 %"), ("nmi", "100.00 %")]


def test_the_open_set_knows_half_of_the_identities_by_one_image(faces):
    task = Identification("x", ImageFolder(str(faces)), references=3)
    known = task._half_of_identities()
    assert known.sum() == 15
    ranking = task._open_set(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32), known)
    assert len(ranking.rank) == 27
    assert ranking.mated.sum() == 12


def test_the_threshold_is_the_best_of_the_grid():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 6)
    x = (rng.normal(size=(8, 16))[labels] + rng.normal(size=(48, 16)) * 0.4).astype(np.float32)
    best = best_threshold(x, labels)
    scores = {t: cluster_scores(single_linkage(x).clusters(t), labels).bcubed_f for t in np.arange(0, 99, 2) / 100}
    assert scores[best] == max(scores.values())
    assert not any(scores[t] == scores[best] for t in scores if t > best)


def test_too_few_identities_are_named(faces):
    with pytest.raises(DataError, match=r"references \(9\); .* has 6 identities, of which 6"):
        Identification("x", ImageFolder(str(faces)), references=9)


def test_small_sets_are_asked_with_fewer_references(faces):
    few = Identification("x", ImageFolder(str(faces)))
    assert few.references == 5
    assert Identification("x", SyntheticFaces(4, 2, size=16)).references == 4


def test_who_is_unknown_has_a_seed_of_its_own(faces):
    args = {"root": str(faces), "part": "all", "seed": 3}
    assert EVALUATORS["identification"](**args).seed == 3
    assert EVALUATORS["identification"](**args, unknown_seed=0).seed == 0
    assert build_evaluator("identification", ImageFolder(str(faces)), {"unknown_seed": 2}).seed == 2


def test_constant_embeddings_identify_nobody(faces):
    class Constant(Blocks):
        def forward(self, images):
            return torch.full((len(images), 48), 0.1) * (1 + 1e-7 * torch.rand(len(images), 48))

    found = EVALUATORS["identification"](root=str(faces), part="all").result(Constant()).summary()
    assert [found[n] for n in ("rank1", "rank5", "rank10", "closest_of_5", "tpir@fpir=0.1")] == [0] * 5
