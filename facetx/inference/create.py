"""New networks by name, for notebooks and scripts of one's own."""

from typing import Any

from facetx.backbones import BACKBONES
from facetx.heads import HEADS
from facetx.plugins import load_installed


def create_backbone(name: str, **args: Any) -> Any:
    """A new backbone with random weights: ``create_backbone("vit_p12s8", depth=12)``. Names: ``list_backbones()``."""
    load_installed()
    return BACKBONES.create(name, **args)


def create_head(name: str, embedding_dim: int, num_classes: int, **args: Any) -> Any:
    """A new head: ``create_head("cosface", 512, 10572, margin=0.35)``. Names: ``list_heads()``."""
    load_installed()
    return HEADS.create(name, embedding_dim=embedding_dim, num_classes=num_classes, **args)


def list_backbones(pattern: str = "*") -> list[str]:
    """The names of backbones that match a shell pattern: ``list_backbones("vit_*")``."""
    load_installed()
    return BACKBONES.names(pattern)


def list_heads(pattern: str = "*") -> list[str]:
    """The names of heads that match a shell pattern."""
    load_installed()
    return HEADS.names(pattern)
