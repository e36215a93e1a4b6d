"""Layer-wise learning-rate decay: what lies near the image has learned what all images share, and moves less."""

from typing import Any

from torch import nn

from facetx.backbones.timm_models import TimmBackbone
from facetx.errors import ConfigError
from facetx.nn import ClassToken, FaceTransformer


def layer_rates(backbone: nn.Module, decay: float) -> dict[str, float]:
    """The factor on each parameter's learning rate, by name (ULMFiT, arXiv 1801.06146; as in BEiT, arXiv 2106.08254).

    With ``depth`` blocks: 1 for the last norm, pooling and neck, ``decay`` for the last block, ``decay ** depth`` for
    the first, ``decay ** (depth + 1)`` for tokens, positions, class token and attention bias. A model of timm has the
    layers that timm counts in it.

    Args:
        backbone: A ``FaceTransformer``, or a model of timm with its neck.
        decay: In (0, 1].

    Raises ``ConfigError`` for a backbone whose layers are not known.
    """
    if isinstance(backbone, FaceTransformer):
        depths = {name: _depth(backbone, name) for name, _ in backbone.named_parameters()}
        top = len(backbone.encoder.blocks) + 1
    elif isinstance(backbone, TimmBackbone):
        from timm.models import group_parameters

        trunk: Any = backbone.trunk  # timm's models have no base class that says what they can
        own: Any = group_parameters(trunk, trunk.group_matcher(coarse=False), reverse=True)
        depths = {f"trunk.{name}": layer for name, layer in own.items()}
        top = max(own.values()) + 1
    else:
        raise ConfigError("optim.layer_decay: known for transformers and for timm's models, not for this backbone")
    return {name: decay ** (top - depths.get(name, top)) for name, _ in backbone.named_parameters()}


def _depth(backbone: FaceTransformer, name: str) -> int:
    """0 before the blocks, 1 for the first block, and one more than the last behind them."""
    if name.startswith("encoder.blocks."):
        return 1 + int(name.split(".")[2])
    before = ("tokens.", "positions.", "bias.")
    if name.startswith(before) or (isinstance(backbone.pooling, ClassToken) and name.startswith("pooling.")):
        return 0
    return len(backbone.encoder.blocks) + 1
