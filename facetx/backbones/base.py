"""What is common to the networks that are not a ``FaceTransformer``, and to reading other people's weights."""

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from facetx.contract import InputContract
from facetx.errors import CheckpointError, ConfigError, some
from facetx.nn.backbone import Backbone
from facetx.nn.tokens import check_size


class TrunkBackbone(Backbone):
    """A network that sees the image, the trunk, and a neck.

    Args:
        trunk: (B, 3, H, W) -> (B, D), or whatever the neck takes.
        neck: What the trunk gives -> (B, E).
        embedding_dim: Width E of what comes out.
        contract: What the network expects of its images.

    Shapes: images (B, 3, H, W), already scaled by the contract -> (B, E), not normalized. Keypoints are not looked at.
    """

    def __init__(self, trunk: nn.Module, neck: nn.Module, embedding_dim: int, contract: InputContract):
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.embedding_dim = embedding_dim
        self.contract = contract

    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        check_size(images, self.contract.size)
        return self.neck(self.trunk(images))

    def features(self, images: Tensor, keypoints: Tensor | None = None) -> list[Tensor]:
        """The trunk's last map (B, C, h, w) of each resolution, from fine to coarse."""
        check_size(images, self.contract.size)
        return self.maps(images)

    def maps(self, images: Tensor) -> list[Tensor]:
        """``features`` without the check of the size; a trunk that is no sequence of stages needs its own."""
        if not isinstance(self.trunk, nn.Sequential):
            raise ConfigError(f"{type(self.trunk).__name__} gives no feature maps; choose another model")
        return stage_maps(self.trunk, images)

    def current_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Until checkpoints of format 1 the trunk was called "features"."""
        return {re.sub(r"^features\.", "trunk.", name): value for name, value in weights.items()}


def stage_maps(stages: Iterable[nn.Module], images: Tensor) -> list[Tensor]:
    """Runs modules one after the other. Returns the last of their outputs (B, C, h, w) of each resolution."""
    maps: dict[tuple[int, int], Tensor] = {}
    x = images
    for stage in stages:
        x = stage(x)
        maps[x.shape[2], x.shape[3]] = x
    return list(maps.values())


def contract_of(mean: Sequence[float], std: Sequence[float], size: int) -> InputContract:
    """The contract of weights that were trained on images in 0..1, less ``mean``, by ``std``."""
    return InputContract(size=size, mean=tuple(255 * v for v in mean), std=tuple(255 * v for v in std))


class NotTheirs(CheckpointError):
    """A state dict that is not of the program that it was taken for."""


def rename_state(
    state: Mapping[str, Tensor],
    table: Mapping[str, str],
    source: str,
    needs: Iterable[str],
    ignored: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Another program's state dict under our names.

    Args:
        state: Its tensors; prefixes as ``without_prefix`` knows them are taken off.
        table: Its names of modules or parameters -> ours, "#" for a layer's number.
        source: The program's name, for the message.
        needs: Its names of the tensors that the network's sizes are read from.
        ignored: Its names of what we do not take: a head.

    Names that stand in no table stay as they are, so that whoever loads the weights can list them beside those that
    are missing or misshaped. Raises ``NotTheirs`` where one of ``needs`` is missing, since there is no network then
    to compare with.
    """
    state = without_prefix(state)
    patterns = {theirs: re.compile(re.escape(theirs).replace(r"\#", r"(\d+)") + r"(?=\.|$)") for theirs in table}
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        for theirs, pattern in patterns.items():
            if match := pattern.match(key):
                ours = table[theirs].replace("#", match.group(1)) if match.groups() else table[theirs]
                renamed[ours + key[match.end() :]] = torch.as_tensor(value)
                break
        else:
            if not key.startswith(tuple(ignored)):
                renamed[key] = torch.as_tensor(value)
                unknown.append(key)
    if missing := [key for key in needs if key not in state]:
        raise NotTheirs(
            f"not a state dict of {source}: missing {some(missing, show=12)}; "
            f"unknown {some(unknown, show=12) or 'none'}"
        )
    return renamed


PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What wrappers put before names: DataParallel, torch.compile, trainers."""


def without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict without ``PREFIXES`` before its names, in any order, where all of them have it."""
    while state and (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), "")):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def layer_count(state: Mapping[str, Tensor], prefix: str = "encoder.blocks.") -> int:
    """How many numbered layers stand under ``prefix``."""
    numbers = (key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix))
    return max((int(number) + 1 for number in numbers), default=0)
