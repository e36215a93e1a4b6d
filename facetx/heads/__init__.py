"""Heads: (embeddings, labels) -> losses. ``HEADS`` is the table of their names.

A class-center head is a criterion (a margin in a softmax, or SFace) times an engine (the way through the classes).
"""

from collections.abc import Callable

from facetx.heads.base import Head
from facetx.heads.center_loss import center_loss
from facetx.heads.class_centers import ClassCenterHead
from facetx.heads.classification import (
    adaface,
    arcface,
    combined_margin,
    cosface,
    curricularface,
    magface,
    normalized_softmax,
    sface,
    softmax,
    sphereface,
)
from facetx.heads.joint import JointHead
from facetx.heads.pair_losses import circle, contrastive, logistic_pairs, npairs, triplet
from facetx.registry import Registry

HEADS: Registry[Callable[..., Head]] = Registry(
    "head",
    [
        # a learned center an identity
        softmax,
        normalized_softmax,
        sphereface,
        cosface,
        arcface,
        combined_margin,
        sface,
        adaface,
        curricularface,
        magface,
        # pairs and sets within the batch
        center_loss,
        contrastive,
        triplet,
        circle,
        logistic_pairs,
        npairs,
    ],
)

__all__ = ["HEADS", "ClassCenterHead", "Head", "JointHead"]
