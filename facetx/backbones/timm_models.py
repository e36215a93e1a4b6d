"""``timm:<name>``: any model of timm that has features, with an embedding neck."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from facetx.backbones.library import Library, LibraryBackbone, with_neck
from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError, is_resource
from facetx.nn.meta import state_digest
from facetx.registry import Family

log = logging.getLogger("facetx")


def timm_backbone(
    name: str,
    image_size: int | None = 112,
    embedding_dim: int | None = 512,
    dropout: float = 0.0,
    pretrained: bool = False,
    sha256: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> "TimmBackbone":
    """A model of timm, pooled as timm pools it, and a linear embedding with batch norm.

    Args:
        name: As in ``timm.list_models()``, with a tag of pretrained weights after a dot where one is wanted.
        image_size: Pixels a side; None is the size that the model was made for.
        embedding_dim: Width of the embedding; None gives timm's features as they are.
        dropout: Before the embedding.
        pretrained: Starts from timm's weights, which it downloads, as safetensors where they are published so, and
            else by the restricted unpickler; the contract is then theirs.
        sha256: What the log says of pretrained weights that are to be used again; others are refused then, since those
            of one name may change. Of the features' state dict, see ``facetx.nn.meta.state_digest``.
        options: Further arguments of ``timm.create_model``, such as ``{"drop_path_rate": 0.1}``.

    Returns a model from (B, 3, image_size, image_size) to (B, embedding_dim). Raises ``ConfigError`` for options that
    the model does not have and for a size that it cannot take, ``CheckpointError`` where weights cannot be had or are
    others.
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
        trunk = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except TypeError as error:
        raise ConfigError(f"timm:{name} does not take all of the options {sorted(arguments)}: {error}") from error
    except Exception as error:  # timm's loaders have no error of their own: no network, no such weights, ...
        if is_resource(error):
            raise
        if not pretrained:
            raise ConfigError(f"timm:{name} cannot be built for {size} pixels: {error}") from error
        raise CheckpointError(
            f"could not get the weights of timm:{name} ({error}); try again with a network, or set pretrained: false"
        ) from error
    if pretrained:
        _check_weights(name, trunk, sha256)
    classifiers = config.classifier or ()
    library = Library(
        name=f"timm:{name}",
        own_size=own_size,
        classifiers=(classifiers,) if isinstance(classifiers, str) else tuple(classifiers),
        mean=config.mean,
        std=config.std,
    )
    contract = library.contract(size) if pretrained else InputContract(size=size)
    return with_neck(TimmBackbone, library, trunk, embedding_dim, dropout, contract)


class TimmBackbone(LibraryBackbone):
    """A model of timm and a neck; its feature maps are those that timm names in ``feature_info``."""

    def maps(self, images: Tensor) -> list[Tensor]:
        trunk: Any = self.trunk  # timm's models have no base class that says what they can
        if not hasattr(trunk, "forward_intermediates"):
            raise ConfigError(f"{self.library.name} gives no feature maps; choose another model")
        stages = list(trunk.feature_info)
        last = {stage["reduction"]: i for i, stage in enumerate(stages)}  # of each resolution: a ViT has one
        return trunk.forward_intermediates(images, indices=list(last.values()), norm=True, intermediates_only=True)


def _check_weights(name: str, trunk: nn.Module, stated: str | None) -> None:
    """Compares pretrained weights with the hash that was stated, or says the one to state."""
    if next(trunk.parameters()).is_meta:  # built for its sizes alone
        return
    got = state_digest(trunk)
    if stated is None:
        log.info("timm:%s: pretrained weights of SHA-256 %s; model.args.sha256 keeps a run to these", name, got)
    elif got != stated:
        raise CheckpointError(
            f"timm:{name}: the pretrained weights have the SHA-256 {got}, and model.args.sha256 is {stated}: they are "
            "other weights than before; get the old ones, or state the new hash"
        )


def _names() -> set[str]:
    import timm

    return {*timm.list_models(), *timm.list_models(pretrained=True)}  # the second: with tags


TIMM = Family("timm", timm_backbone, _names)
