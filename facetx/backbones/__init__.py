"""Images to embeddings: one family a file, and here the table of their names.

A backbone is an ``nn.Module`` from (B, 3, H, W) images, scaled by its ``contract``, to (B, ``embedding_dim``)
embeddings that are not normalised. Where ``needs_keypoints`` is true it also takes ``keypoints`` (B, 5, 2).
"""

from facetx.backbones.face_transformer import (
    vit_p8s8,
    vit_p8s8_tiny,
    vit_p10s8,
    vit_p10s8_tiny,
    vit_p12s8,
    vit_p12s8_tiny,
)
from facetx.registry import Registry

BACKBONES = Registry(
    "backbone",
    [
        vit_p8s8,
        vit_p10s8,
        vit_p12s8,
        vit_p8s8_tiny,
        vit_p10s8_tiny,
        vit_p12s8_tiny,
    ],
)
