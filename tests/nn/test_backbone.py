"""What every backbone promises beside embeddings: feature maps, and names that outlive a version."""

import pytest
import torch
from torch import nn

from facetx.backbones import BACKBONES
from facetx.backbones.base import TrunkBackbone
from facetx.checkpoints.weights import load_weights
from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError
from facetx.nn import Backbone


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_backbone_is_one_and_tells_its_maps(name):
    with torch.device("meta"):
        model = BACKBONES.create(name)
    assert isinstance(model, Backbone)
    maps = model.feature_info()
    reductions = [reduction for _, reduction in maps]
    assert reductions == sorted(set(reductions))
    assert all(channels > 1 for channels, _ in maps)


def test_maps_are_as_they_were_told():
    for name, expected in [
        ("iresnet18", [(64, 1), (64, 2), (128, 4), (256, 8), (512, 16)]),
        ("mobilefacenet", [(64, 2), (64, 4), (128, 8), (512, 16)]),
        ("efficientnet_b0", [(16, 2), (24, 4), (40, 8), (112, 16), (1280, 32)]),
        ("effnet_vit_tiny", [(128, 16)]),
        ("vit_kprpe_tiny", [(96, 16)]),
    ]:
        model = BACKBONES.create(name, image_size=64).eval()
        assert model.feature_info() == expected
        keypoints = [torch.rand(2, 5, 2)] if model.needs_keypoints else []
        maps = model.features(torch.randn(2, 3, 64, 64), *keypoints)
        assert [m.shape for m in maps] == [(2, channels, 64 // r, 64 // r) for channels, r in expected]


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["class_token", "flatten"])
def test_a_vits_map_has_each_token_in_its_place(pooling):
    model = BACKBONES.create("vit_p8s8_tiny", image_size=32, depth=1, pooling=pooling).eval()
    images = torch.randn(2, 3, 32, 32)
    (found,) = model.features(images)
    tokens = model.encoder(model.positions(model.pooling.prepend(model.tokens(images))))
    for row in range(4):
        for column in range(4):
            place = model.pooling.prefix + 4 * row + column
            torch.testing.assert_close(found[:, :, row, column], tokens[:, place])


@torch.inference_mode()
def test_a_cnns_last_map_leads_to_its_embedding():
    for name in ("iresnet18", "efficientnet_b0", "mobilefacenet"):
        model = BACKBONES.create(name, image_size=32).eval()
        images = torch.randn(2, 3, 32, 32)
        last = model.features(images)[-1]
        if name == "efficientnet_b0":
            last = last.mean((2, 3))
        torch.testing.assert_close(model.neck(last), model(images), atol=1e-5, rtol=1e-4)


def test_a_trunk_without_stages_says_so():
    model = TrunkBackbone(nn.Flatten(), nn.Linear(3 * 8 * 8, 4), 4, InputContract(size=8))
    with pytest.raises(ConfigError, match="Flatten gives no feature maps; choose another model"):
        model.features(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="built for images of 8x8, got 9x9"):
        model.features(torch.zeros(1, 3, 9, 9))


def test_a_checkpoint_of_an_earlier_version_is_loaded():
    model = BACKBONES.create("iresnet18", image_size=32)
    earlier = {key.replace("trunk.", "features.", 1): value + 1 for key, value in model.state_dict().items()}
    load_weights(model, earlier, "run")
    for key, value in model.state_dict().items():
        assert torch.equal(value, earlier[key.replace("trunk.", "features.", 1)])
    del earlier["features.prelu.weight"]
    with pytest.raises(CheckpointError, match=r"missing \(1\): trunk.prelu.weight"):
        load_weights(model, earlier, "run")


def test_a_module_that_asks_for_the_version_of_its_names_is_loaded():
    model = BACKBONES.create("torchvision:mnasnet0_5", image_size=32, embedding_dim=None)
    load_weights(model, {key: value.clone() for key, value in model.state_dict().items()}, "run")


# By default torch.export fixes each size that it sees a number of; the batch must stay open.
@pytest.mark.parametrize(
    "name", ["vit_p12s8_tiny", "vit_kprpe_tiny", "facerec_tiny", "effnet_vit_tiny", "cct_tiny", "mobilefacenet"]
)
def test_an_exported_program_takes_any_batch(name):
    args = {"depth": 1} if name != "mobilefacenet" else {}
    model = BACKBONES.create(name, image_size=64, **args).eval()
    generator = torch.Generator().manual_seed(0)

    def inputs(batch):
        images = torch.randn(batch, 3, 64, 64, generator=generator)
        return (images, torch.rand(batch, 5, 2, generator=generator)) if model.needs_keypoints else (images,)

    batch = torch.export.Dim("batch")
    shapes = {"images": {0: batch}, "keypoints": {0: batch} if model.needs_keypoints else None}
    program = torch.export.export(model, inputs(3), dynamic_shapes=shapes if model.needs_keypoints else ({0: batch},))
    with torch.inference_mode():
        for size in (1, 2, 7):
            given = inputs(size)
            torch.testing.assert_close(program.module()(*given), model(*given), atol=1e-5, rtol=1e-4)


class Dense(nn.Module):
    """A dense head's way in: the maps of a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone.features(images)


@pytest.mark.parametrize("name", ["vit_p12s8_tiny", "iresnet18", "timm:resnet18"])
def test_maps_are_exported_for_any_batch_and_compiled_as_one_graph(name):
    dense = Dense(BACKBONES.create(name, image_size=32)).eval()
    program = torch.export.export(dense, (torch.randn(3, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    compiled = torch.compile(dense, fullgraph=True, backend="eager")
    with torch.inference_mode():
        for batch in (1, 2):
            images = torch.randn(batch, 3, 32, 32)
            torch.testing.assert_close(program.module()(images), dense(images), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(compiled(images), dense(images), atol=1e-5, rtol=1e-4)
