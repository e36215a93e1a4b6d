"""One optimizer step: a bad one changes nothing, and a batch in parts is the batch."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.base import Description
from facetx.heads import HEADS, JointHead
from facetx.nn.backbone import Backbone
from facetx.nn.statistics import Remembered
from facetx.optim import OPTIMIZERS, MovingAverage, parameter_groups, rate_at
from facetx.tasks import Recognition
from facetx.training import build
from facetx.training.build import note_batch_norm
from facetx.training.state import Progress
from facetx.training.step import training_step

NAN = float("nan")
CASES = [
    *((name, {}) for name in HEADS),
    *(("arcface", {"engine": engine}) for engine in ("chunked", "sampled")),
    ("adaface", {"engine": "chunked"}),
    ("triplet", {"mining": "semi_hard"}),
    ("softmax+center_loss", {}),
]


class Tiny(Backbone):
    """Two linear layers on images of 4x4, with a norm between and, where it is told, what breaks a step."""

    def __init__(self, norm: nn.Module, dropout: float = 0.0):
        super().__init__()
        self.contract = InputContract(size=4)
        self.embedding_dim = 8
        self.layers = nn.Sequential(nn.Linear(48, 16), norm, nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 8))
        self.broken: str | None = None

    def forward(self, images, keypoints=None):
        x = images.flatten(1).to(self.layers[0].weight.dtype)
        out = self.layers(x * NAN if self.broken == "images" else x)
        if self.broken == "gradient":  # the loss is finite, and so are all statistics
            out.register_hook(lambda gradient: gradient * NAN)
        return out

    def features(self, images, keypoints=None):
        raise AssertionError("not needed here")


def recognition(backbone, head):
    return Recognition(backbone, Description(num_classes=4), head)


@pytest.fixture
def make_run(small):
    def make(head, args=None, norm=nn.LayerNorm, dropout=0.0, dtype=torch.float64, **settings):
        run = build(check_settings({**small, **settings}))
        torch.manual_seed(5)
        parts = [(1.0, HEADS.create(name, embedding_dim=8, num_classes=4, **(args or {}))) for name in head.split("+")]
        task = recognition(Tiny(norm(16), dropout), JointHead(parts) if len(parts) > 1 else parts[0][1])
        task = task.to(dtype).train()
        optimizer = OPTIMIZERS.create("adamw")(parameter_groups(task, 0.05), lr=1e-3)
        return replace(run, task=task, optimizer=optimizer)

    return make


def faces(seed=0, count=12):
    """Images and labels 0, 1, 2, 3, 0, ...: a third of the batch shows each identity once."""
    noise = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=noise)
    return {"image": image, "label": torch.arange(count) % 4}


def snapshot(*owners):
    states = [o.state if isinstance(o, MovingAverage) else o.state_dict() for o in owners]
    return copy.deepcopy([state.get("state", state) for state in states])


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(x, y) for x, y in zip(a.values(), b.values()))
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("broken", ["images", "gradient"])
@pytest.mark.parametrize("head", ["cosface", "adaface", "curricularface", "center_loss", "softmax+center_loss"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_bad_step_changes_nothing_at_all(make_run, head, broken, parts):
    run = make_run(head, norm=nn.BatchNorm1d, dtype=torch.float32, optim={"lr": 1e-3, "accumulate": parts})
    ema = MovingAverage(run.backbone, 0.9)

    def step(number):
        _, finite = training_step(run, faces(number), number)
        ema.update(run.backbone, number, finite)
        return bool(finite)

    assert step(0)
    assert step(1)
    owners = run.task, run.optimizer, ema
    before = snapshot(*owners)
    run.backbone.broken = broken
    assert not step(2)
    assert not step(3)
    assert same(snapshot(*owners), before)

    run.backbone.broken = None
    assert step(4)
    after = snapshot(*owners)
    assert not same(after, before)
    run.task.load_state_dict(before[0])
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": before[1]})
    assert step(4)  # and the next one is what it would have been
    assert same(snapshot(run.task), after[:1])


@pytest.mark.parametrize("head", ["adaface", "curricularface", "center_loss", "cosface"])
def test_good_steps_are_those_of_a_plain_loop(make_run, head):
    run, plain = (make_run(head, norm=nn.BatchNorm1d, dtype=torch.float32, dropout=0.2) for _ in range(2))
    for step in range(4):
        assert training_step(run, faces(step), step)[1]

        torch.manual_seed(plain.settings.seed * 1_000_003 + step + 1)
        for group in plain.optimizer.param_groups:
            group["lr"] = 1e-3 * rate_at(plain.schedule, step, plain.total_steps)
        plain.optimizer.zero_grad()
        plain.task(faces(step))["loss"].backward()
        parameters = [p for group in plain.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, plain.settings.optim.clip_norm)
        plain.optimizer.step()
        assert same(snapshot(run.task), snapshot(plain.task))


@pytest.mark.parametrize(("head", "args"), CASES)
def test_a_batch_in_parts_is_the_same_step(make_run, head, args):
    ends = []
    for parts in (1, 3):
        run = make_run(head, args, optim={"lr": 1e-3, "accumulate": parts})
        scalars = [training_step(run, faces(step), step)[0] for step in range(3)]
        gradients = [p.grad for p in run.task.parameters()]
        ends.append((scalars, gradients, [*run.task.state_dict().values()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("head", ["cosface", "adaface"])
def test_a_part_that_is_computed_twice_has_the_same_dropout_and_others_another(make_run, head):
    run = make_run(head, dropout=0.5, norm=nn.BatchNorm1d, optim={"lr": 1e-3, "accumulate": 3})
    seen = []
    run.backbone.layers[3].register_forward_hook(lambda module, args, out: seen.append((out != 0).clone()))
    same_face = {k: v[:1].expand(12, *v.shape[1:]) for k, v in faces().items()}
    same_face["label"] = torch.arange(12) % 4
    run.backbone.layers[1].bias.data += 1  # all alive before dropout
    training_step(run, same_face, 0)
    assert len(seen) == (3 if run.task.parts_are_independent else 6)
    assert not torch.equal(seen[0], seen[1])
    if not run.task.parts_are_independent:
        assert all(torch.equal(seen[i], seen[i + 3]) for i in range(3))
    assert run.backbone.layers[1].num_batches_tracked == 3  # once a part, though each was seen twice


def test_parts_train_a_head_alone_while_the_backbone_is_held(make_run, small):
    run = make_run("adaface", optim={"lr": 1e-3, "accumulate": 3}, train={**small["train"], "head_first_steps": 2})
    before = snapshot(run.backbone, run.task.head)
    assert training_step(run, faces(), 0)[1]
    after = snapshot(run.backbone, run.task.head)
    assert same(after[0], before[0])
    assert not same(after[1], before[1])
    assert training_step(run, faces(), 2)[1]
    assert not same(snapshot(run.backbone), before[:1])


def test_batch_norm_in_parts_is_said(caplog):
    task = recognition(Tiny(nn.BatchNorm1d(16)), HEADS.create("cosface", embedding_dim=8, num_classes=4))
    with caplog.at_level(logging.WARNING, logger="facetx"):
        note_batch_norm(task, 12, 1)
        note_batch_norm(recognition(Tiny(nn.LayerNorm(16)), task.head), 12, 3)
        assert not caplog.records
        note_batch_norm(task, 12, 3)
    (record,) = caplog.records
    assert "optim.accumulate: 3 parts of 4 images" in record.getMessage()
    assert "(backbone.layers.1)" in record.getMessage()


def test_remembered_statistics_keep_their_types_and_leave_constants_alone():
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm2d(3))
    module.register_buffer("constant", torch.zeros(1).expand(4), persistent=False)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    for finite in (False, True):
        remembered = Remembered(module)
        module[0](torch.randn(4, 2))
        module[1](torch.randn(4, 3, 2, 2) * NAN)
        remembered.settle(torch.tensor(finite))
        assert same(module.state_dict(), before) == (not finite)
    assert module[0].num_batches_tracked.dtype == torch.int64
    assert module[0].num_batches_tracked == 1
    assert module[1].running_mean.isnan().all()


def test_a_row_without_a_good_step_has_no_loss():
    progress = Progress()
    bad = {"loss": torch.tensor(NAN), "accuracy": torch.tensor(0.5)}
    progress.add(bad, torch.tensor(False))
    progress.add(bad, torch.tensor(False))
    assert progress.row() == {"train/skipped": 2}
    assert progress.bad_in_a_row == 2
    progress.add({"loss": torch.tensor(3.0), "accuracy": torch.tensor(1.0)}, torch.tensor(True))
    progress.add(bad, torch.tensor(False))
    assert progress.row() == {"train/loss": 3.0, "train/accuracy": 1.0, "train/skipped": 3}
    assert progress.bad_in_a_row == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("head", ["cosface", "adaface", "triplet", "softmax+center_loss"])
def test_a_step_does_not_wait_for_the_gpu(make_run, small, head, parts):
    run = make_run(
        head, norm=nn.BatchNorm1d, dtype=torch.float32, device="cuda", optim={"lr": 1e-3, "accumulate": parts}
    )
    run.task.cuda()
    ema, progress = MovingAverage(run.backbone, 0.9), Progress()
    batch = {k: v.cuda() for k, v in faces().items()}

    def step(number):
        scalars, finite = training_step(run, batch, number)
        progress.add(scalars, finite)
        ema.update(run.backbone, number, finite)

    step(0)  # libraries and kernels are loaded now
    progress.row()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
        run.backbone.broken = "images"
        step(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert progress.row()["train/skipped"] == 1
