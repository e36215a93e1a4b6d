"""``timm:<name>``: any model of timm that has features, with an embedding neck."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from facetx.backbones.base import Backbone
from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError
from facetx.nn.necks import linear_neck
from facetx.nn.profile import run_on_meta
from facetx.registry import Family


def timm_backbone(
    name: str,
    image_size: int | None = 112,
    embedding_dim: int | None = 512,
    dropout: float = 0.0,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """A model of timm, pooled as timm pools it, and a linear embedding with batch norm.

    Args:
        name: As in ``timm.list_models()``, with a tag of pretrained weights after a dot where one is wanted.
        image_size: Pixels a side; None is the size that the model was made for.
        embedding_dim: Width of the embedding; None gives timm's features as they are.
        dropout: Before the embedding.
        pretrained: Starts from timm's weights, which it downloads; the contract is then theirs.
        options: Further arguments of ``timm.create_model``, such as ``{"drop_path_rate": 0.1}``.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim). Raises ``ConfigError`` for options that
    the model does not have and for a size that it cannot take, ``CheckpointError`` where weights cannot be had.
    """
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None  # every name that timm lists has one
    own_size = config.input_size[-1]
    size = own_size if image_size is None else image_size
    arguments = dict(options or {})
    if config.fixed_input_size:  # position embeddings and the like depend on it
        arguments.setdefault("img_size", size)
    try:
        features = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except TypeError as error:
        raise ConfigError(f"timm:{name} does not take all of the options {sorted(arguments)}: {error}") from error
    except Exception as error:  # timm's loaders have no error of their own: no network, no such weights, ...
        if not pretrained:
            raise ConfigError(f"timm:{name} cannot be built for {size} pixels: {error}") from error
        raise CheckpointError(
            f"could not get the weights of timm:{name} ({error}); try again with a network, or set pretrained: false"
        ) from error
    contract = InputContract(size=size)
    if pretrained:
        contract = contract_of(config.mean, config.std, size)
    return with_neck(f"timm:{name}", features, embedding_dim, dropout, contract, own_size)


def contract_of(mean: Sequence[float], std: Sequence[float], size: int) -> InputContract:
    """The contract of weights that were trained on images in 0..1, less ``mean``, by ``std``."""
    return InputContract(size=size, mean=tuple(255 * v for v in mean), std=tuple(255 * v for v in std))


def with_neck(
    name: str, features: nn.Module, embedding_dim: int | None, dropout: float, contract: InputContract, own_size: int
) -> Backbone:
    """``features`` and a neck as wide as they need, found out without computing. For messages: name and own size."""
    try:
        shape = tuple(run_on_meta(features, contract.size).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{name} does not take images of {contract.size} pixels ({error}); image_size: {own_size} is its own"
        ) from error
    if len(shape) != 2:
        raise ConfigError(f"{name} gives no pooled features but {shape}; choose another model")
    width = shape[1]
    neck = nn.Identity() if embedding_dim is None else linear_neck(width, embedding_dim, dropout)
    return Backbone(features, neck, width if embedding_dim is None else embedding_dim, contract)


def own_weights(
    backbone: Any, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], InputContract] | None:
    """What a state dict under the library's own names has for ``backbone.features``.

    Args:
        backbone: Of ``timm:`` or ``torchvision:``; the features have timm's ``pretrained_cfg``, with the names of their
            classifiers and the mean and deviation that the library's weights were trained on.
        state: Any state dict.

    Returns the features' entries, the names of the classifiers' that are left out, and the contract; or None, where the
    backbone is not of these libraries, or an entry stands under a name of ``backbone``'s own.
    """
    config = getattr(getattr(backbone, "features", None), "pretrained_cfg", None)
    if config is None or not backbone.state_dict().keys().isdisjoint(state):
        return None
    own = backbone.features.state_dict()
    classifiers = [config["classifier"]] if isinstance(config["classifier"], str) else config["classifier"]
    left_out = [k for k in state if k not in own and k.startswith(tuple(f"{name}." for name in classifiers))]
    # Old files of torchvision lack batch norm's count of batches, which nothing here looks at.
    counts = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    contract = contract_of(config["mean"], config["std"], backbone.contract.size)
    return {**counts, **{k: v for k, v in state.items() if k not in left_out}}, left_out, contract


def _names() -> set[str]:
    import timm

    return {*timm.list_models(), *timm.list_models(pretrained=True)}  # the second: with tags


TIMM = Family("timm", timm_backbone, _names)
