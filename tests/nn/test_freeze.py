"""Frozen modules are fixed functions."""

import copy

import pytest
import torch

from facetx.backbones import BACKBONES
from facetx.errors import ConfigError
from facetx.nn.freeze import freeze


def step(model):
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()


def test_a_frozen_stem_keeps_its_weights_and_its_statistics():
    model = BACKBONES.create("effnet_vit_tiny", image_size=32, depth=1, freeze_stem=True)
    stem = {k: v.clone() for k, v in model.tokens.stem.state_dict().items()}
    projection = model.tokens.patches.proj.weight.clone()
    step(model)
    assert all(torch.equal(v, stem[k]) for k, v in model.tokens.stem.state_dict().items())
    assert not torch.equal(model.tokens.patches.proj.weight, projection)
    assert not any(m.training for m in model.tokens.stem.modules())
    assert model.encoder.training


def test_a_trained_stem_moves():
    model = BACKBONES.create("effnet_vit_tiny", image_size=32, depth=1)
    stem = {k: v.clone() for k, v in model.tokens.stem.state_dict().items()}
    step(model)
    assert not any(torch.equal(v, stem[k]) for k, v in model.tokens.stem.state_dict().items() if "running" in k)


def test_freeze_names_what_it_froze():
    model = BACKBONES.create("vit_tiny", depth=3)
    names = freeze(model, ["tokens", "encoder.blocks.[01]"])
    assert names == [n for n, p in model.named_parameters() if not p.requires_grad]
    assert names[:2] == ["tokens.proj.weight", "tokens.proj.bias"]
    assert any(n.startswith("encoder.blocks.1.") for n in names)
    assert not any(n.startswith("encoder.blocks.2.") for n in names)


def test_freezing_twice_is_freezing_once():
    model = BACKBONES.create("vit_tiny", depth=1)
    assert freeze(model, ["tokens", "tokens*"]) == ["tokens.proj.weight", "tokens.proj.bias"]
    freeze(model, ["tokens"])
    assert not model.train().tokens.training


def test_a_copy_stays_frozen_and_types_stay_what_they_were():
    model = BACKBONES.create("effnet_vit_tiny", image_size=32, depth=1, freeze_stem=True)
    twin = copy.deepcopy(model).train()
    assert not twin.tokens.stem.training
    assert isinstance(twin.tokens.stem, type(BACKBONES.create("effnet_vit_tiny", image_size=32, depth=1).tokens.stem))


def test_an_unknown_pattern_is_refused_with_near_names():
    with pytest.raises(ConfigError, match=r"no module matches 'tokens.stm'; did you mean 'tokens.stem'"):
        freeze(BACKBONES.create("effnet_vit_tiny", depth=1), ["tokens.stm"])


def test_a_pattern_that_freezes_nothing_is_refused():
    model = BACKBONES.create("vit_tiny", depth=1)
    for pattern, names in [("neck", "neck"), ("encoder.blocks.*.drop_path", "encoder.blocks.0.drop_path")]:
        with pytest.raises(ConfigError, match=f"there are no weights in {names}; name what has some"):
            freeze(model, ["tokens", pattern])
    assert not freeze(BACKBONES.create("facerec_tiny", depth=1), ["positions"])  # sines: a buffer, and no parameter
