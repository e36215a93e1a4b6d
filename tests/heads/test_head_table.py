"""The table of heads: what every entry must hold to, so that a new one is tested by being in it."""

import inspect

import pytest
import torch

from facetx.heads import HEADS, Head

CENTERS = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_keeps_the_contract(name):
    head = HEADS.create(name, embedding_dim=16, num_classes=6)
    assert isinstance(head, Head)
    head.set_margin_scale(0.5)
    x, y = torch.randn(12, 16, requires_grad=True), torch.arange(12) % 6
    result = head(x, y)
    assert result["loss"].requires_grad
    assert all(value.shape == () and not value.requires_grad for key, value in result.items() if key != "loss")
    result["loss"].backward()
    assert x.grad.isfinite().all()
    assert (head.embedding_dim, head.num_classes) == (16, 6)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_builder_can_be_checked_by_its_signature(name):
    parameters = list(inspect.signature(HEADS[name], eval_str=True).parameters.values())
    assert [p.name for p in parameters[:2]] == ["embedding_dim", "num_classes"]
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters)
    assert all(p.default is not p.empty for p in parameters[2:] if p.kind is not p.VAR_KEYWORD)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_doc_has_its_arguments_and_says_when_to_choose_it(name):
    doc = inspect.getdoc(HEADS[name])
    assert "Choose it" in doc
    shared = {"embedding_dim", "num_classes", "engine"}
    for argument in inspect.signature(HEADS[name]).parameters.keys() - shared:
        assert argument in doc.partition("Args:")[2], argument


@pytest.mark.parametrize("name", CENTERS)
def test_same_seed_same_start_and_the_state_dict_restores_it(name):
    heads = []
    for engine in ("full", "chunked", "sampled"):
        torch.manual_seed(5)
        heads.append(HEADS.create(name, embedding_dim=16, num_classes=6, engine=engine))
    assert all(torch.equal(head.weight, heads[0].weight) for head in heads)
    fresh = HEADS.create(name, embedding_dim=16, num_classes=6)
    fresh.load_state_dict(heads[1].state_dict())
    assert torch.equal(fresh.weight, heads[0].weight)
