"""``torchvision:<name>``: torchvision's classifiers, for what timm has not (AlexNet), with an embedding neck."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from facetx.backbones.base import stage_maps
from facetx.backbones.download import published_weights
from facetx.backbones.library import Library, LibraryBackbone, with_neck
from facetx.contract import InputContract
from facetx.errors import ConfigError
from facetx.registry import Family


def torchvision_backbone(
    name: str,
    image_size: int = 112,
    embedding_dim: int | None = 512,
    dropout: float = 0.0,
    pretrained: bool = False,
) -> "TorchvisionBackbone":
    """A classifier of torchvision without its classifier, and a linear embedding with batch norm.

    Args:
        name: As in ``torchvision.models.list_models(torchvision.models)``.
        image_size: Pixels a side.
        embedding_dim: Width of the embedding; None gives the network's features as they are.
        dropout: Before the embedding.
        pretrained: Starts from torchvision's default weights, which are downloaded; the contract is then theirs.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim). Raises ``ConfigError`` for a size that
    the model cannot take, ``CheckpointError`` where weights cannot be had.
    """
    from torchvision import models

    # torchvision's networks have no base class: what they have is told by their attributes.
    trunk: Any = models.get_model(name, weights=None)
    published: Any = models.get_model_weights(name).DEFAULT
    if pretrained:
        state = published_weights(published.url, f"torchvision:{name}")
        trunk.load_state_dict(_densenet_names(state) if isinstance(trunk, models.DenseNet) else state)
    classifier = next((n for n in ("classifier", "fc", "head", "heads") if hasattr(trunk, n)), None)
    if classifier is None:
        raise ConfigError(f"torchvision:{name} has no classifier to take off; choose another model")
    setattr(trunk, classifier, nn.Identity())
    if getattr(trunk, "aux_logits", False):  # GoogLeNet and Inception v3 classify half-way too, in training
        trunk.aux_logits = False
        trunk.aux1 = trunk.aux2 = trunk.AuxLogits = None
    preset = published.transforms()
    mean, std = preset.mean, preset.std
    if hasattr(trunk, "transform_input"):  # with their weights these two scale such images again, to what is said here
        mean = std = (0.5, 0.5, 0.5)
    classifiers = (classifier, "aux1", "aux2", "AuxLogits")
    library = Library(f"torchvision:{name}", 224, classifiers, tuple(mean), tuple(std))
    contract = library.contract(image_size) if pretrained else InputContract(size=image_size)
    return with_neck(TorchvisionBackbone, library, trunk, embedding_dim, dropout, contract)


class TorchvisionBackbone(LibraryBackbone):
    """A network of torchvision and a neck; the networks that are a sequence of stages have feature maps."""

    def maps(self, images: Tensor) -> list[Tensor]:
        stages = _stages(self.trunk)
        if not stages:
            raise ConfigError(f"{self.library.name} gives no feature maps; choose another model, such as one of timm's")
        return stage_maps(stages, images)


def _stages(trunk: Any) -> list[nn.Module]:
    """The modules that run one after the other up to the last map; none where it is not so simple."""
    from torchvision import models

    if isinstance(trunk, models.ResNet):
        first = (trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool)
        return [*first, trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    if isinstance(trunk, models.RegNet):
        return [trunk.stem, *trunk.trunk_output]
    if isinstance(trunk, models.ShuffleNetV2):
        return [trunk.conv1, trunk.maxpool, trunk.stage2, trunk.stage3, trunk.stage4, trunk.conv5]
    if isinstance(trunk, models.MNASNet):
        return [*trunk.layers]
    cnns = (models.AlexNet, models.VGG, models.SqueezeNet, models.DenseNet, models.MobileNetV2, models.MobileNetV3)
    return [*trunk.features] if isinstance(trunk, (*cnns, models.EfficientNet)) else []


def _densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published DenseNets say "norm.1" where today's torchvision has "norm1"."""
    return {re.sub(r"\b(norm|relu|conv)\.([12])\.", r"\1\2.", name): value for name, value in state.items()}


def _names() -> list[str]:
    from torchvision import models

    return models.list_models(models)


TORCHVISION = Family("torchvision", torchvision_backbone, _names)
