"""What holds on a CUDA device as it does on a CPU. ``pytest -m gpu`` runs these where there is one."""

import copy
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from worlds import assert_equal, assert_same_run, run, with_

from facetx.checkpoints.format import find_checkpoint
from facetx.config import check_settings
from facetx.data.loader import training_loader
from facetx.heads import HEADS
from facetx.training import build, loop
from facetx.training.sinks import read_rows
from facetx.training.step import training_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr("facetx.training.run.write_pictures", lambda *_: None)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def exact(small):
    """The same bits at each run, in bf16 and with dropout."""
    return with_(small, train={"deterministic": True}) | {"device": "cuda"}


def test_three_steps_give_the_weights_that_a_cpu_gives(small):
    plain = with_(small, train={"precision": "fp32"})
    plain["model"] = {**small["model"], "args": {**small["model"]["args"], "dropout": 0.0}}
    weights, losses = [], []
    for device in ("cpu", "cuda"):
        r = build(check_settings({**plain, "device": device}))
        batches = training_loader(r.items, r.sampler(0), 0, pin_memory=False)
        r.task.train()
        losses.append([])
        for step, batch in zip(range(3), batches):
            scalars, finite = training_step(r, {k: v for k, v in batch.items() if k != "unreadable"}, step)
            assert bool(finite)
            losses[-1].append(float(scalars["loss"]))
        weights.append({k: v.detach().cpu() for k, v in r.task.state_dict().items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, value in weights[0].items():
        # Adam divides each gradient by its own size, so the sign of a tiny one moves a weight by up to 3 rates.
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-3, msg=name)
        torch.testing.assert_close(weights[1][name].double().mean(), value.double().mean(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["cosface", "arcface", "softmax", "magface", "adaface", "sface"])
def test_a_head_is_true_float32_under_bf16_and_tf32(name):
    torch.manual_seed(0)
    head = HEADS.create(name, embedding_dim=64, num_classes=1000).train()
    x, labels = torch.randn(256, 64), torch.randint(1000, (256,))
    exact, there = copy.deepcopy(head).double(), copy.deepcopy(head).cuda()
    rows, rows_there = x.double().requires_grad_(), x.cuda().requires_grad_()
    want = exact(rows, labels)["loss"]
    want.backward()
    torch.set_float32_matmul_precision("high")
    with torch.autocast("cuda", torch.bfloat16):
        got = there(rows_there, labels.cuda())["loss"]
    got.backward()
    assert float(got) == pytest.approx(float(want), rel=2e-5)
    scale = rows.grad.abs().max()
    torch.testing.assert_close(rows_there.grad.cpu().double() / scale, rows.grad / scale, rtol=0, atol=1e-4)


def test_a_run_that_is_taken_up_again_ends_bit_for_bit_as_an_unbroken_one(exact, tmp_path, monkeypatch):
    run(exact, tmp_path / "straight")
    run(exact, tmp_path / "again")
    assert_same_run(tmp_path / "straight", tmp_path / "again")
    own = loop.training_step

    def step_and_signal(r, batch, step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(r, batch, step)

    monkeypatch.setattr(loop, "training_step", step_and_signal)
    assert run(exact, tmp_path / "broken").step == 7
    monkeypatch.setattr(loop, "training_step", own)
    run(exact, tmp_path / "broken")
    assert_same_run(tmp_path / "straight", tmp_path / "broken")


def test_sigterm_to_the_group_in_the_middle_loses_no_step(tmp_path):
    def command(folder):
        return [
            *(sys.executable, "scripts/train.py", "--config", "configs/quickstart.yaml", "--run-dir", str(folder)),
            *("device=cuda", "train.deterministic=true", "train.steps=60", "train.log_every=5", "data.workers=2"),
            *("data.args.identities=40", "data.args.images_per_identity=8", "train.batch_size=32", "evaluators=[]"),
            *("select=null", "train.checkpoint_every=1000"),
        ]

    subprocess.run(command(tmp_path / "straight"), check=True)
    began = subprocess.Popen(command(tmp_path / "broken"), start_new_session=True)
    log, until = tmp_path / "broken/metrics.jsonl", time.monotonic() + 120
    while not log.exists() or len(read_rows(log)) < 2:
        assert time.monotonic() < until
        assert began.poll() is None
        time.sleep(0.01)
    os.killpg(began.pid, signal.SIGTERM)
    assert began.wait(60) == 128 + signal.SIGTERM
    step = find_checkpoint(tmp_path / "broken").step
    assert 10 <= step < 60
    subprocess.run(command(tmp_path / "broken"), check=True)
    a, b = (find_checkpoint(tmp_path / name, state=True) for name in ("straight", "broken"))
    assert a.step == b.step == 60
    assert_equal(a.weights(), b.weights())
    assert_equal(a.state(), b.state())
