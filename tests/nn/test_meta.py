"""What a network computes, told without computing; and the digest that receipts take of it."""

import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.backbones.base import TrunkBackbone
from facetx.benchmarks.receipts import network_digest
from facetx.contract import InputContract
from facetx.nn.freeze import freeze
from facetx.nn.lora import add_lora, merge_lora
from facetx.nn.meta import computation

VIT = {"image_size": 16, "depth": 2}


def digest(name="vit_p8s8_tiny", **args):
    return network_digest(BACKBONES.create(name, **(VIT | args)))


def test_what_matters_in_training_alone_changes_no_digest():
    base = digest()
    assert digest() == base
    for args in ({"dropout": 0.3}, {"attention_dropout": 0.3}, {"drop_path": 0.3}, {"recompute": True}):
        assert digest(**args) == base
    model = BACKBONES.create("vit_p8s8_tiny", **VIT).train()
    freeze(model, ["tokens", "encoder.blocks.0", "encoder.norm"])
    assert network_digest(model) == base
    assert model.training  # as it was
    assert network_digest(model.bfloat16()) == base  # its type is the weights'

    model = BACKBONES.create("vit_p8s8_tiny", **VIT)
    add_lora(model, rank=2)
    assert network_digest(model) != base  # what is not merged yet is computed otherwise
    merge_lora(model)
    assert network_digest(model) == base


def test_what_is_computed_from_the_weights_changes_it():
    base = digest()
    for args in (
        {"attention_scale": 0.5},
        {"activation": "relu6"},
        {"heads": 2, "head_dim": 64},
        {"norm_residual": True},
        {"depth": 1},
    ):
        assert digest(**args) != base
    assert digest("facerec_tiny", image_size=32) != digest("facerec_tiny", image_size=32, conv_scale=0.5)
    model = BACKBONES.create("vit_p8s8_tiny", **VIT)
    model.encoder.norm.eps = 1e-6
    assert network_digest(model) != base


def test_tables_that_no_state_dict_holds_count():
    first, second = (BACKBONES.create("vit_kprpe_tiny", image_size=48, depth=1) for _ in range(2))
    assert network_digest(first) == network_digest(second)
    second.bias.bucket = second.bias.bucket.flip(0)
    assert network_digest(first) != network_digest(second)


def test_batch_norm_counts_by_its_epsilon_and_not_by_its_momentum():
    digests = []
    for change in ({}, {"momentum": 0.5}, {"eps": 1e-3}):
        model = BACKBONES.create("iresnet18", image_size=16)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for name, value in change.items():
                    setattr(module, name, value)
        digests.append(network_digest(model))
    assert digests[0] == digests[1] != digests[2]
    stems = [BACKBONES.create("effnet_vit_tiny", image_size=32, depth=1, freeze_stem=f) for f in (False, True)]
    assert network_digest(stems[0]) == network_digest(stems[1])


class Weighted(nn.Module):
    """Two weights and a constant, for what hangs on which of them goes where."""

    def __init__(self, swapped=False, constant=2.0):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.swapped, self.constant = swapped, constant

    def forward(self, images):
        x = images.mean((2, 3))
        a, b = (self.b, self.a) if self.swapped else (self.a, self.b)
        return (x * a - b) * torch.tensor([self.constant, 1.0, 1.0], device="cpu").to(x.device)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:resnet18", "torchvision:mobilenet_v3_small"])
def test_other_libraries_networks_have_a_digest_too(name):
    args = {"embedding_dim": 8, "image_size": 160}
    with torch.device("meta"):
        models = [BACKBONES.create(name, **args), BACKBONES.create(name, **args, dropout=0.5)]
        other = BACKBONES.create(name, **{**args, "embedding_dim": None})
    first, second = (network_digest(model.train()) for model in models)
    assert first == second != network_digest(other)


def test_which_weight_goes_where_and_constants_count():
    def of(**args):
        return network_digest(TrunkBackbone(Weighted(**args), nn.Identity(), 3, InputContract(size=4)))

    assert of() == of()
    assert len({of(), of(swapped=True), of(constant=3.0)}) == 3


def test_the_words_name_weights_and_inputs():
    lines = computation(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), image_size=2)
    assert "input.0" in lines[0]
    assert any("1.weight" in line for line in lines)
    assert any("1.bias" in line for line in lines)


def test_a_network_that_does_not_run_without_values_is_no_silent_success():
    class Peeks(nn.Module):
        def forward(self, images):
            return images.flatten(1) * images.mean().item()

    with pytest.raises(RuntimeError):
        computation(Peeks(), image_size=2)
