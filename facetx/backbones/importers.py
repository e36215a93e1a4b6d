"""Published weights of other programs: ``IMPORTERS``, from the name of a program to the reader of its state dict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facetx.backbones import BACKBONES
from facetx.backbones.base import NotTheirs
from facetx.backbones.cct import convert_cct
from facetx.backbones.efficientnet import convert_effnet_vit
from facetx.backbones.face_transformer import convert_face_transformer
from facetx.backbones.insightface_vit import convert_insightface_vit
from facetx.backbones.iresnet import convert_iresnet
from facetx.backbones.kprpe import convert_kprpe
from facetx.backbones.mobilefacenet import convert_mobilefacenet
from facetx.contract import InputContract
from facetx.errors import CheckpointError

_RAW = InputContract(mean=(0.0,), std=(1.0,))
_SCALED = InputContract()
_BY_128 = InputContract(std=(128.0,))


@dataclass(frozen=True)
class Importer:
    """How one program's weights become ours.

    Attributes:
        source: The program and its paper, in words.
        convert: State dict -> (backbone's name, its arguments, our state dict).
        contract: What the program feeds its networks, but for the size. Weights of the same program that were trained
            on something else (CCT's on ImageNet's mean and deviation, AdaFace's IResNets on BGR) need to be told.
    """

    source: str
    convert: Callable[..., tuple[str, dict[str, Any], dict[str, Tensor]]]
    contract: InputContract

    def __call__(self, state: Mapping[str, Tensor], **options: Any) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """``convert``, which raises ``CheckpointError`` whatever is wrong with the state dict."""
        try:
            return self.convert(state, **options)
        except CheckpointError:
            raise
        except (LookupError, RuntimeError, ValueError, ArithmeticError) as error:  # sizes that no network has
            raise NotTheirs(f"not a state dict of {self.source}: {error}") from error


IMPORTERS: dict[str, Importer] = {
    "face-transformer": Importer("Face Transformer (arXiv 2103.14803)", convert_face_transformer, _RAW),
    "face-transformer-efficientnet": Importer("Face Transformer's EfficientNet fork", convert_effnet_vit, _RAW),
    "insightface-iresnet": Importer("InsightFace's IResNet (arXiv 1801.07698)", convert_iresnet, _SCALED),
    "insightface-vit": Importer("InsightFace's ViT", convert_insightface_vit, _SCALED),
    "cvlface-kprpe": Importer("CVLface's KP-RPE (arXiv 2403.14852)", convert_kprpe, _SCALED),
    "cct": Importer("Compact Transformers (arXiv 2104.05704)", convert_cct, _SCALED),
    "mobilefacenet": Importer("MobileFaceNet (Xiaoccer/MobileFaceNet_Pytorch)", convert_mobilefacenet, _BY_128),
}


def importers_for(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the importers that a state dict is for: those that read all of it, else those that know its names."""
    known, whole = [], []
    for name, importer in IMPORTERS.items():
        try:
            backbone, args, weights = importer(state)
        except NotTheirs:
            continue
        except CheckpointError:  # a network of theirs that has no builder, or must be told more
            known.append(name)
            continue
        known.append(name)
        with torch.device("meta"):
            own = BACKBONES.create(backbone, **args).state_dict()
        if own.keys() == weights.keys():
            whole.append(name)
    return whole or known
