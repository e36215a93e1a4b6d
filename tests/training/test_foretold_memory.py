"""The memory of a run is foretold from its settings."""

from types import SimpleNamespace

import pytest
import torch

from facetx.config import check_settings
from facetx.heads import HEADS, Head
from facetx.nn.memory import Held
from facetx.training import build, describe
from facetx.training.memory import foretell, ways_to_fit
from facetx.training.step import training_step


def a_step(run):
    """Bytes that two steps hold, counted tensor by tensor, and the weights."""
    items = [run.items[0, i] for i in range(run.settings.train.batch_size)]
    batch = {
        "image": torch.stack([torch.from_numpy(i["image"]).permute(2, 0, 1) for i in items]).contiguous(),
        "label": torch.tensor([i["label"] for i in items]),
    }
    run.task.train()
    with Held() as held:
        training_step(run, batch, 0)
        training_step(run, batch, 1)
    return held.peak + sum(p.nbytes for p in run.task.parameters())


CHANGES = {
    "plain": {},
    "in parts": {"optim": {"lr": 1e-3, "name": "sgd", "accumulate": 2}},
    "pairs": {"head": "triplet"},
    "frozen": {"head": {"name": "arcface", "args": {"engine": "chunked"}}},
    "average": {"optim": {"lr": 1e-3, "ema": 0.9}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_what_a_step_takes(small, name):
    small |= CHANGES[name]
    small["model"]["args"].update(dim=64, depth=2)  # so that the batch's own fields are the smaller part
    if name == "pairs":
        small["data"]["sampler"] = {"name": "identities", "args": {"images": 3}}
    if name == "frozen":
        small["model"]["freeze"] = ["encoder"]
    run = build(check_settings(small))
    told = foretell(run)
    average = sum(p.nbytes for p in run.backbone.parameters()) if name == "average" else 0
    assert told.whole
    assert told.total - average == pytest.approx(a_step(run), rel=0.03)


def test_nothing_is_left_behind(small):
    run = build(check_settings(small))
    foretell(run)
    assert all(p.grad is None and p.device.type == "cpu" for p in run.task.parameters())


def test_a_head_that_looks_at_values_is_left_out_and_that_is_said(small, monkeypatch):
    class looks(Head):
        def forward(self, embeddings, labels):
            return {"loss": embeddings[labels > 0].sum() * float(embeddings.sum() > 0)}

    monkeypatch.setitem(HEADS._table, "looks", looks)
    run = build(check_settings({**small, "head": "looks"}))
    assert not foretell(run).whole
    assert "at the height of a step, without the head" in describe.memory(run)


def test_what_to_set_is_told_where_the_card_has_less(small, monkeypatch):
    small["model"]["args"]["depth"] = 6
    run = build(check_settings(small))
    run.device = torch.device("cuda")
    need = foretell(run).total
    ways = ways_to_fit(run, int(0.9 * need))
    assert [way.split(" (")[0] for way in ways] == ["model.args.recompute: true"]
    assert [w.split(" (")[0] for w in ways_to_fit(run, 0)][-1] == "optim.accumulate: 6"
    card = SimpleNamespace(total_memory=2 * need)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert "too much" not in describe.memory(run)
    card.total_memory = need
    assert "that is too much for the 0.0 GiB there, so set model.args.recompute: true" in describe.memory(run)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("args", [{}, {"recompute": True}], ids=["plain", "recompute"])
def test_on_a_card_it_is_near_what_was_allocated(small, args):
    small["model"] = {"name": "vit_p12s8", "args": {"depth": 4, **args}}
    small["data"] = {"name": "synthetic_faces", "args": {"identities": 1000, "images_per_identity": 1}}
    small |= {"train": {"steps": 3, "batch_size": 64}, "evaluators": [], "select": None, "device": "cuda"}
    run = build(check_settings(small))
    batch = {"image": torch.zeros(64, 3, 112, 112, dtype=torch.uint8), "label": torch.zeros(64, dtype=torch.int64)}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() - sum(p.nbytes for p in run.task.parameters())
    for step in range(3):
        training_step(run, batch, step)
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(foretell(run).total, rel=0.15)
