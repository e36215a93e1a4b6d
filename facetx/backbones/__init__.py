"""Images to embeddings: one family a file, and here the table of their names.

A backbone is a ``facetx.nn.Backbone``: from (B, 3, H, W) images, scaled by its ``contract``, to (B, ``embedding_dim``)
embeddings that are not normalized. Where ``needs_keypoints`` is true it also takes ``keypoints`` (B, 5, 2).
"""

from collections.abc import Callable

from facetx.backbones.cct import cct_7_3x1, cct_7_7x2, cct_14_7x2, cct_tiny
from facetx.backbones.efficientnet import efficientnet_b0, effnet_vit, effnet_vit_tiny
from facetx.backbones.face_transformer import (
    vit_p8s8,
    vit_p8s8_tiny,
    vit_p10s8,
    vit_p10s8_tiny,
    vit_p12s8,
    vit_p12s8_tiny,
)
from facetx.backbones.facerec import facerec_l8, facerec_l10, facerec_tiny
from facetx.backbones.insightface_vit import (
    insightface_vit_b,
    insightface_vit_l,
    insightface_vit_s,
    insightface_vit_t,
)
from facetx.backbones.iresnet import iresnet18, iresnet34, iresnet50, iresnet100
from facetx.backbones.kprpe import vit_kprpe_base, vit_kprpe_small, vit_kprpe_tiny
from facetx.backbones.mobilefacenet import mobilefacenet
from facetx.backbones.timm_models import TIMM
from facetx.backbones.torchvision_models import TORCHVISION
from facetx.backbones.vit import vit, vit_tiny
from facetx.nn.backbone import Backbone
from facetx.registry import Registry

BACKBONES: Registry[Callable[..., Backbone]] = Registry(
    "backbone",
    [
        vit_p8s8,
        vit_p10s8,
        vit_p12s8,
        vit_p8s8_tiny,
        vit_p10s8_tiny,
        vit_p12s8_tiny,
        efficientnet_b0,
        effnet_vit,
        effnet_vit_tiny,
        facerec_l8,
        facerec_l10,
        facerec_tiny,
        vit,
        vit_tiny,
        cct_7_3x1,
        cct_7_7x2,
        cct_14_7x2,
        cct_tiny,
        vit_kprpe_small,
        vit_kprpe_base,
        vit_kprpe_tiny,
        iresnet18,
        iresnet34,
        iresnet50,
        iresnet100,
        mobilefacenet,
        insightface_vit_t,
        insightface_vit_s,
        insightface_vit_b,
        insightface_vit_l,
    ],
    families=[TIMM, TORCHVISION],
    base=Backbone,
)
