"""Several processes train as one: the same losses, weights and checkpoints at the same batch, by Gloo on the CPU."""

import copy
import json
import os
import shutil
import signal
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from worlds import in_processes, rows_without_time, run, with_

import facetx
from facetx import processes
from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.errors import ConfigError, DataError
from facetx.evaluators import How, build_evaluator
from facetx.nn.batch_norm import SyncedBatchNorm, sync_batch_norm
from facetx.processes import ProcessError, rank
from facetx.training import build, loop

FACES = {"identities": 10, "images_per_identity": 4, "size": 32}
PAIRS = {"sampler": {"name": "identities", "args": {"images": 2}}}


@pytest.fixture(autouse=True)
def _own_parts(monkeypatch):
    """They are known here alone; other tests list all parts."""
    for table, part in (
        (facetx.BACKBONES, normed),
        (facetx.DATASETS, half_known),
        (facetx.DATASETS, with_a_broken_file),
        (facetx.TASKS, with_a_rest),
    ):
        monkeypatch.setattr(table, "_table", dict(table._table))
        table.register(part)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)


@pytest.fixture
def tiny(small) -> dict:
    """Six steps of ten identities without dropout, which every process draws for itself."""
    args = {**small["model"]["args"], "dropout": 0.0, "depth": 2}
    raw = with_(
        small, model={"args": args}, train={"steps": 6, "batch_size": 12, "log_every": 1, "checkpoint_every": 6}
    )
    raw["data"] = {"name": "synthetic_faces", "args": FACES, "transforms": ["flip"], "workers": 0}
    raw["evaluators"] = []
    del raw["select"]
    return raw


def head(name, **args):
    return {"head": {"name": name, "args": args}}


CASES = {
    "full": head("cosface", scale=16.0),
    "chunked": head("arcface", scale=16.0, engine="chunked"),
    "sampled": head("cosface", scale=16.0, engine="sampled", sample_rate=0.5),
    "sharded": head("cosface", scale=16.0, engine="sharded"),
    "sharded statistics": head("adaface", scale=16.0, engine="sharded"),
    "statistics": head("adaface", scale=16.0),
    "bias": head("softmax", engine="sharded"),
    "triplet": {**head("triplet"), "data": PAIRS},
    "contrastive": {**head("contrastive", normalize=True), "data": PAIRS},
    "center": {"head": [head("softmax")["head"], {"name": "center_loss", "weight": 0.1}]},
    "joint": {"head": [head("cosface", scale=16.0, engine="sharded")["head"], head("circle")["head"]], "data": PAIRS},
    "parts": {
        **head("cosface", scale=16.0, engine="sharded"),
        "optim": {"accumulate": 3, "ema": 0.9, "clip_norm": 0.1},
    },
    "parts of pairs": {
        "head": [head("curricularface", scale=16.0)["head"], head("triplet")["head"]],
        "data": PAIRS,
        "optim": {"accumulate": 3, "ema": 0.9},
    },
    "sgd": {**head("cosface", scale=16.0, engine="sharded"), "optim": {"name": "sgd", "lr": 0.01}},
    "fsdp": {**head("cosface", scale=16.0), "train": {"parallel": "fsdp"}, "optim": {"ema": 0.9, "clip_norm": 0.1}},
    "fsdp, sharded, parts": {
        "head": [head("adaface", scale=16.0, engine="sharded")["head"], head("triplet")["head"]],
        "data": PAIRS,
        "train": {"parallel": "fsdp"},
        "optim": {"accumulate": 3},
    },
    "head first": {**head("cosface", scale=16.0), "train": {"head_first_steps": 2}},
}

PARSING = {"task": {"name": "parsing"}, "head": [], "optim": {"name": "sgd", "lr": 0.01}}
TASKS = {
    "attributes": {"task": {"name": "attributes", "args": {"layers": [8]}}, "head": []},
    "balanced": {"task": {"name": "attributes", "args": {"layers": [8], "loss": "balanced"}}, "head": []},
    # By SGD: a bias before batch norm has no gradient but rounding errors, of which Adam makes whole steps.
    "parsing": {**PARSING, "train": {"sync_batch_norm": True}},
    "parsing, fsdp": {**PARSING, "train": {"parallel": "fsdp", "sync_batch_norm": True}},
    "identities and parsing": {
        **PARSING,
        "task": {"name": "joint_parsing"},
        **head("cosface", scale=16.0, engine="sharded"),
        "train": {"parallel": "fsdp", "sync_batch_norm": True},
    },
    "two sets": {
        "task": {"name": "joint", "args": {"layers": [8]}},
        **head("cosface", scale=16.0, engine="sharded"),
        "data": {
            "identities": False,
            "beside": [{"name": "synthetic_faces", "args": {**FACES, "identities": 7}, "share": 0.5}],
        },
    },
    "identities and attributes": {"task": {"name": "joint", "args": {"layers": [8]}}, **head("triplet"), "data": PAIRS},
}


class half_known(facetx.FaceDataset):
    """Synthetic faces, of which the more attributes are not known the later they come."""

    def __init__(self, size: int = 32):
        self.own = facetx.DATASETS.create("synthetic_faces", **{**FACES, "size": size})
        self.name, self.labels, self.num_classes = "half_known", self.own.labels, self.own.num_classes
        self.identities, self.attribute_names = self.own.identities, self.own.attribute_names

    def __getitem__(self, index):
        sample = self.own[index]
        attributes = sample["attributes"].astype(np.float32)
        attributes[: index % 20] = np.nan
        return {**sample, "attributes": attributes}


NORMS = {
    "batch norm": {**head("cosface", scale=16.0), "train": {"sync_batch_norm": True}, "optim": {"ema": 0.9}},
    "batch norm, fsdp": {**head("triplet"), "train": {"sync_batch_norm": True, "parallel": "fsdp"}, "data": PAIRS},
}


class normed(facetx.Backbone):
    """Two layers with batch norm, of maps and of vectors."""

    embedding_dim = 12

    def __init__(self, image_size: int = 32):
        super().__init__()
        self.contract = InputContract(size=image_size)
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 8, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(8 * 16, 12, bias=False), nn.BatchNorm1d(12))

    def forward(self, images, keypoints=None):
        return self.neck(self.maps(images))

    def features(self, images, keypoints=None):
        raise AssertionError("not needed here")


def case(tiny: dict, name: str) -> dict:
    raw = copy.deepcopy(tiny)
    if name in TASKS:
        raw["data"] = {"name": "half_known", "transforms": ["flip"], "workers": 0}
    if "parsing" in name:
        raw["data"] = {**tiny["data"], "args": {**FACES, "size": 32}}
    if name in NORMS:
        raw["model"] = {"name": "normed"}
    for section, changes in {**CASES, **TASKS, **NORMS}[name].items():
        raw[section] = {**raw[section], **changes} if section in ("data", "optim", "train") else changes
    return raw


def assert_close_runs(one, many):
    """Rows, weights and state agree within what another order of float32 sums makes."""
    first, second = (rows_without_time(folder) for folder in (one, many))
    assert [row.keys() for row in first] == [row.keys() for row in second]
    for a, b in zip(first, second):
        assert b == pytest.approx(a, rel=2e-4, abs=2e-5)
    a, b = (find_checkpoint(folder, state=True) for folder in (one, many))
    assert a.step == b.step
    torch.testing.assert_close(b.weights(), a.weights(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(b.state(), a.state(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("names", [CASES, {**TASKS, **NORMS}], ids=["heads", "tasks"])
def test_two_processes_train_as_one(tiny, tmp_path, names):
    def work():
        for name in names:
            run(case(tiny, name), tmp_path / "two" / name)

    (tmp_path / "two").mkdir()
    assert in_processes(2, work) == [0, 0]
    for name in names:
        run(case(tiny, name), tmp_path / "one" / name)
        assert_close_runs(tmp_path / "one" / name, tmp_path / "two" / name)


def test_all_ask_a_task_together(tiny, tmp_path):
    """Five batches of 4 are shared by 1, 2 and 3 processes, and all get the same answers."""
    faces = facetx.DATASETS.create("synthetic_faces", **FACES)
    others = facetx.DATASETS.create("synthetic_faces", identities=19, images_per_identity=1, size=32)
    asked = [build_evaluator(name, others, {}) for name in ("attributes", "parsing")]
    asked.append(build_evaluator("classification", faces, {"name": "top"}))

    def work(folder):
        found = []
        for task, evaluator in zip(("attributes", "parsing", "recognition"), asked):
            raw = {**tiny, "task": {"name": task}, "head": [] if task != "recognition" else tiny["head"]}
            model = build(check_settings(raw)).task
            result = evaluator.result(model, How("cpu", 4))
            found.append({**result.as_dict(), **{k: str(np.asarray(v)) for k, v in vars(result).items()}})
            if task == "parsing":
                found.append({item: mask.tolist() for item, mask in result.said.items()})
        (folder / f"{rank()}.json").write_text(json.dumps(found, default=str))

    for number in (1, 2, 3):
        (tmp_path / f"{number}").mkdir()
        assert in_processes(number, partial(work, tmp_path / f"{number}")) == [0] * number
    alone = json.loads((tmp_path / "1/0.json").read_text())
    assert len(alone[2]) == 15  # shown: eight in even steps and the ten worst, some of them both
    for path in (*tmp_path.glob("2/*"), *tmp_path.glob("3/*")):
        for one, other in zip(alone, json.loads(path.read_text()), strict=True):
            assert other == one


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_signal_to_one_stops_all_and_any_number_goes_on(tiny, tmp_path, parallel, faces):
    """Head rows, moments and averages are dealt anew; evaluations, which all share, give the same numbers."""
    raw = with_(tiny, optim={"ema": 0.9}, train={"parallel": parallel, "steps": 7, "checkpoint_every": 100})
    asked = {"name": "val", "root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5}
    raw |= head("cosface", scale=16.0, engine="sharded")
    raw |= {"evaluators": [{"name": "folder_pairs", "every": 3, "args": asked}], "select": "val/auc"}

    def until_then():
        own = loop.training_step

        def step_and_signal(r, batch, step):
            if (step, rank()) == (3, 1):
                os.kill(os.getpid(), signal.SIGTERM)
            return own(r, batch, step)

        loop.training_step = step_and_signal
        outcome = run(raw, tmp_path / "2")
        assert (outcome.signal, outcome.step) == (signal.SIGTERM, 4)

    assert in_processes(2, until_then) == [0, 0]
    assert find_checkpoint(tmp_path / "2").step == 4
    run(raw, tmp_path / "one")
    for number in (1, 3, 4):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "2", folder)
        assert in_processes(number, partial(run, raw, folder)) == [0] * number
        assert_close_runs(tmp_path / "one", folder)


def test_four_processes_train_as_one_and_a_bad_step_of_one_is_none_for_all(tiny, tmp_path):
    raw = case(tiny, "parts of pairs") | head("adaface", scale=16.0, engine="sharded")
    raw = with_(raw, optim={"accumulate": 1}, train={"stop_after_bad_steps": 3})

    def poisoned(bad_rank):
        own = loop.training_step

        def step_with_nan(r, batch, step):
            head = r.task.head
            spoil = head.register_forward_pre_hook(lambda _, given: (given[0] * float("nan"), given[1]))
            if step != 2 or rank() != bad_rank:
                spoil.remove()
            found = own(r, batch, step)
            spoil.remove()
            return found

        loop.training_step = step_with_nan
        outcome = run(raw, tmp_path / ("one" if bad_rank == 0 else "four"))
        assert outcome.step == 6

    assert in_processes(4, partial(poisoned, 3)) == [0] * 4
    assert in_processes(1, partial(poisoned, 0)) == [0]
    assert_close_runs(tmp_path / "one", tmp_path / "four")
    assert rows_without_time(tmp_path / "four")[-1]["train/skipped"] == 1


class with_a_rest(facetx.Task):
    """Has weights that its loss leaves out, and does not say so."""

    def __init__(self, backbone, data):
        super().__init__(backbone)
        self.rest = nn.Linear(2, 2)

    def predict(self, batch):
        return {"embedding": self.embed(batch)}

    def forward(self, batch):
        return {"loss": self.embed(batch).square().mean()}


def test_weights_without_a_gradient_are_told(tiny, tmp_path):
    def work():
        raw = tiny | {"task": "with_a_rest", "head": []}
        with pytest.raises(ConfigError, match="task with_a_rest: the loss leaves out some of its weights"):
            run(raw, tmp_path / "run")
        with_a_rest.leaves_out = True
        assert run(raw, tmp_path / "other").step == 6

    assert in_processes(2, work) == [0, 0]


@pytest.mark.parametrize("what", ["settings", "data"])
def test_all_must_have_the_same(tiny, tmp_path, what):
    def work():
        raw = tiny | head("cosface", scale=16.0)
        if what == "settings":
            raw["seed"] = rank()
        elif rank():
            known = half_known.digest
            half_known.digest = lambda self: known(self) | {"sizes": "others"}
        raw["data"] = {"name": "half_known", "workers": 0}
        with pytest.raises(ConfigError, match=f"not all processes have the same {what}"):
            run(raw, tmp_path / "run")

    assert in_processes(2, work) == [0, 0]


class with_a_broken_file(half_known):
    """The last image cannot be read, and there is no other one of its identity."""

    def __init__(self, size: int = 32):
        super().__init__(size)
        self.labels = self.labels.copy()
        self.labels[-4:-1] = self.labels[-5]

    def __getitem__(self, index):
        if index == len(self) - 1:
            raise DataError("a.png: is no image")
        return {**self.own[index], "label": int(self.labels[index])}


def test_an_error_of_one_ends_all_with_a_checkpoint(tiny, tmp_path):
    raw = with_(tiny | head("cosface", scale=16.0), data={"name": "with_a_broken_file", "args": {}})

    def work():
        with pytest.raises((DataError, ProcessError)) as ended:
            run(raw, tmp_path / "run")
        (tmp_path / f"{rank()}.txt").write_text(str(ended.value))

    assert in_processes(2, work) == [0, 0]
    words = sorted((tmp_path / f"{number}.txt").read_text() for number in (0, 1))
    assert "a.png: is no image" in words[0] + words[1]
    assert words[1] == "training ends by an error of another process, which tells it"
    assert find_checkpoint(tmp_path / "run").step > 0


def test_what_cannot_be_is_said(tiny, tmp_path):
    wrong = {
        "train.batch_size: 12 images a step cannot be dealt to 5 processes; make it a multiple, such as 15": {},
        "optim.accumulate: 2 does not divide train.batch_size 15 / 5 processes": {
            "train": {**tiny["train"], "batch_size": 15},
            "optim": {"lr": 1e-3, "accumulate": 2},
        },
        "train.parallel: fsdp splits no backbone that is held still": {
            "train": {**tiny["train"], "batch_size": 15, "parallel": "fsdp", "head_first_steps": 1}
        },
        "its loss is one of the whole batch": {
            "task": {"name": "parsing_reward", "args": {"over": "batch"}},
            "head": [],
        },
        "10 classes cannot be split over 6 processes": head("cosface", engine="sharded"),
    }

    def work(changes, words):
        with pytest.raises(ConfigError, match=words):
            build(check_settings({**tiny, **changes}))

    for words, changes in wrong.items():
        number = 6 if "6 processes" in words else 5
        assert in_processes(number, partial(work, changes, words)) == [0] * number, words


def test_the_environment_must_be_that_of_torchrun(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 4, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"):
        processes.joined("cpu").__enter__()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with processes.joined("cpu"):
        assert (processes.rank(), processes.count()) == (0, 1)
    with pytest.raises(ConfigError, match="process 3 of this machine has no GPU of its own, there are 2"):
        processes.take_gpu(3, 2)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_where_each_has_its_own_batch_norm_all_evaluate_with_the_first_ones(tiny, tmp_path, faces, ema):
    asked = {"root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5}
    raw = tiny | head("cosface", scale=16.0) | {"model": {"name": "normed"}, "select": "val/auc"}
    raw["evaluators"] = [{"name": "folder_pairs", "args": {**asked, "name": "val"}}]
    assert in_processes(2, partial(run, with_(raw, optim={"ema": ema}), tmp_path / "run")) == [0, 0]
    alone = facetx.load_model(tmp_path / "run", "cpu").evaluate("folder_pairs", **asked, name="val")
    last = rows_without_time(tmp_path / "run")[-1]
    assert alone.xnorm == pytest.approx(last["val/xnorm"], rel=1e-6)
    assert alone.auc == pytest.approx(last["val/auc"])


def test_batch_norm_of_another_library_is_not_synced():
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match=r"train.sync_batch_norm: .*not for 0 \(Other\)"):
        sync_batch_norm(nn.Sequential(Other(3)))
    layer = nn.Sequential(nn.BatchNorm2d(3))
    x = torch.randn(4, 3, 5, 5)
    want = nn.BatchNorm2d(3)(x)
    sync_batch_norm(layer)
    assert type(layer[0]) is SyncedBatchNorm
    assert torch.equal(layer(x), want)
