"""``torchvision:<name>``: torchvision's classifiers, for what timm has not (AlexNet), with an embedding neck."""

from typing import Any

from torch import nn

from facetx.backbones.base import Backbone
from facetx.backbones.timm_models import contract_of, with_neck
from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError
from facetx.registry import Family


def torchvision_backbone(
    name: str,
    image_size: int = 112,
    embedding_dim: int | None = 512,
    dropout: float = 0.0,
    pretrained: bool = False,
) -> Backbone:
    """A classifier of torchvision without its classifier, and a linear embedding with batch norm.

    Args:
        name: As in ``torchvision.models.list_models(torchvision.models)``.
        image_size: Pixels a side.
        embedding_dim: Width of the embedding; None gives the network's features as they are.
        dropout: Before the embedding.
        pretrained: Starts from torchvision's default weights, which it downloads; the contract is then theirs.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim). Raises ``ConfigError`` for a size that
    the model cannot take, ``CheckpointError`` where weights cannot be had.
    """
    from torchvision import models

    features: Any
    try:
        features = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"could not get the weights of torchvision:{name} ({error}); try again with a network, or set "
            "pretrained: false"
        ) from error
    classifier = next((n for n in ("classifier", "fc", "head", "heads") if hasattr(features, n)), None)
    if classifier is None:
        raise ConfigError(f"torchvision:{name} has no classifier to take off; choose another model")
    setattr(features, classifier, nn.Identity())
    if getattr(features, "aux_logits", False):  # GoogLeNet and Inception v3 classify half-way too, in training
        features.aux_logits = False
        features.aux1 = features.aux2 = features.AuxLogits = None
    preset: Any = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    if hasattr(features, "transform_input"):  # these two scale such images again, to what they were trained on
        features.transform_input = False
        mean = std = (0.5, 0.5, 0.5)
    # As timm says it of its models, for ``own_weights``.
    classifiers = (classifier, "aux1", "aux2", "AuxLogits")
    features.pretrained_cfg = {"classifier": classifiers, "mean": mean, "std": std}
    contract = contract_of(mean, std, image_size) if pretrained else InputContract(size=image_size)
    return with_neck(f"torchvision:{name}", features, embedding_dim, dropout, contract, own_size=224)


def _names() -> list[str]:
    from torchvision import models

    return models.list_models(models)


TORCHVISION = Family("torchvision", torchvision_backbone, _names)
