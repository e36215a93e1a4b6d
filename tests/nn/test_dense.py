"""The pyramid on feature maps: its sizes, what it leaves out, and that each map counts."""

import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.errors import ConfigError
from facetx.nn.backbone import FeatureInfo
from facetx.nn.dense import PyramidDecoder

INFOS = [FeatureInfo(4, 2), FeatureInfo(6, 4), FeatureInfo(8, 8)]


def maps(infos=INFOS, size=32):
    return [torch.randn(2, m.channels, size // m.reduction, size // m.reduction) for m in infos]


@pytest.mark.parametrize(("finest", "used"), [(2, 3), (4, 2), (8, 1), (64, 1)])
def test_maps_finer_than_asked_for_are_left_out(finest, used):
    decoder = PyramidDecoder(INFOS, classes=5, width=8, finest=finest)
    assert len(decoder.laterals) == used
    assert decoder(maps(), torch.zeros(2, 3, 32, 32)).shape == (2, 5, 32, 32)


def test_every_map_that_is_used_counts_and_no_other():
    decoder = PyramidDecoder(INFOS, classes=5, width=8, finest=4)
    given = [m.requires_grad_() for m in maps()]
    decoder(given, torch.zeros(2, 3, 32, 32)).square().sum().backward()
    assert given[0].grad is None
    assert given[1].grad.abs().sum() > 0
    assert given[2].grad.abs().sum() > 0


@pytest.mark.parametrize(("finest", "doublings"), [(8, 0), (4, 1), (2, 2), (1, 3)])
def test_a_single_map_is_doubled_until_it_is_fine_enough(finest, doublings):
    decoder = PyramidDecoder(INFOS[2:], classes=3, width=8, finest=finest)
    seen = []
    decoder.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[2]))
    assert decoder(maps(INFOS[2:]), torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    assert len(decoder.finer) == doublings
    assert seen == [4 * 2**doublings]


def test_detail_of_the_image_reaches_the_logits():
    decoder = PyramidDecoder(INFOS[2:], classes=3, width=8, detail=4, finest=2).eval()
    given, image = maps(INFOS[2:]), torch.zeros(2, 3, 32, 32)
    other = image.clone()
    other[:, :, 0, 0] = 5
    assert not torch.equal(decoder(given, image), decoder(given, other))
    assert not decoder.finer


def test_context_carries_a_change_to_the_far_corner():
    infos = [FeatureInfo(4, 2)]
    change = torch.zeros(1, 4, 32, 32)
    change[..., 0, 0] = 100
    for context, reaches in ((False, False), (True, True)):
        torch.manual_seed(0)
        decoder = PyramidDecoder(infos, classes=3, width=8, finest=2, context=context).eval()
        a, b = (decoder([m], torch.zeros(1, 3, 64, 64))[0, :, -1, -1] for m in (change * 0, change))
        assert (not torch.equal(a, b)) == reaches


@pytest.mark.parametrize(
    "name", ["vit_p8s8_tiny", "timm:resnet18", "torchvision:mobilenet_v2", "iresnet18", "cct_tiny"]
)
def test_any_backbone_will_do(name):
    with torch.device("meta"):
        backbone = BACKBONES.create(name)
    decoder = PyramidDecoder(backbone.feature_info(), classes=4, width=8)
    ghost = decoder.to("meta").eval()
    size = backbone.contract.size
    found = [torch.empty(1, m.channels, *[-(-size // m.reduction)] * 2, device="meta") for m in backbone.feature_info()]
    assert ghost(found, torch.empty(1, 3, size, size, device="meta")).shape == (1, 4, size, size)


def test_whole_channels_are_dropped_in_training_alone():
    decoder = PyramidDecoder(INFOS, classes=2, width=8, dropout=0.5)
    assert isinstance(decoder.classifier[0], nn.Dropout2d)
    given, image = maps(), torch.zeros(2, 3, 32, 32)
    assert not torch.equal(decoder(given, image), decoder(given, image))
    decoder.eval()
    assert torch.equal(decoder(given, image), decoder(given, image))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"finest": 0}, {"detail": -1}, {"dropout": 1.0}])
def test_numbers_out_of_range_are_an_error(wrong):
    with pytest.raises(ConfigError, match="at least"):
        PyramidDecoder(INFOS, classes=2, **wrong)
