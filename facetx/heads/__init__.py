"""Heads: (embeddings, labels) -> losses. ``HEADS`` is the table of their names.

A class-center head is a criterion (a margin in a softmax, or SFace) times an engine (the way through the classes).
"""

from collections.abc import Callable

from facetx.heads.base import Head
from facetx.heads.center_loss import CenterLoss
from facetx.heads.class_centers import ClassCenterHead
from facetx.heads.classification import (
    adaface,
    arcface,
    combined_margin,
    cosface,
    curricularface,
    magface,
    modified_softmax,
    normalized_softmax,
    sface,
    softmax,
    sphereface,
)
from facetx.heads.joint import JointHead
from facetx.heads.pair_losses import Circle, Contrastive, LogisticPairs, NPairs, Triplet
from facetx.registry import Registry

_BUILDERS: dict[str, Callable[..., Head]] = {
    # a learned center an identity
    "softmax": softmax,
    "modified_softmax": modified_softmax,
    "normalized_softmax": normalized_softmax,
    "sphereface": sphereface,
    "cosface": cosface,
    "arcface": arcface,
    "combined_margin": combined_margin,
    "sface": sface,
    "adaface": adaface,
    "curricularface": curricularface,
    "magface": magface,
    # a running center an identity
    "center_loss": CenterLoss,
    # pairs and sets within the batch
    "contrastive": Contrastive,
    "triplet": Triplet,
    "circle": Circle,
    "logistic_pairs": LogisticPairs,
    "npairs": NPairs,
}
HEADS: Registry[Callable[..., Head]] = Registry("head", _BUILDERS, base=Head)

__all__ = ["HEADS", "ClassCenterHead", "Head", "JointHead"]
