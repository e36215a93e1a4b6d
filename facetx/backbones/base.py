"""What is common to the networks that are not a ``FaceTransformer``, and to reading other people's weights."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from facetx.contract import InputContract
from facetx.errors import CheckpointError, some
from facetx.nn.tokens import check_size


class Backbone(nn.Module):
    """A network that gives one feature an image, and a neck.

    Args:
        features: (B, 3, H, W) -> (B, D).
        neck: (B, D) -> (B, E).
        embedding_dim: Width E of what comes out.
        contract: What the network expects of its images.

    Shapes: images (B, 3, H, W), already scaled by the contract -> (B, E), not normalized. Keypoints are not looked at.
    """

    needs_keypoints = False

    def __init__(self, features: nn.Module, neck: nn.Module, embedding_dim: int, contract: InputContract):
        super().__init__()
        self.features = features
        self.neck = neck
        self.embedding_dim = embedding_dim
        self.contract = contract

    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        check_size(images, self.contract.size)
        return self.neck(self.features(images))


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
    are missing or misshaped. Raises ``CheckpointError`` where one of ``needs`` is missing, since there is no network
    then to compare with.
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
        raise CheckpointError(
            f"not a state dict of {source}: missing {some(missing, show=12)}; "
            f"unknown {some(unknown, show=12) or 'none'}"
        )
    return renamed


def without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict without "module.", "model." and "net." before its names, in any order, where all of them have it."""
    prefixes = ("module.", "model.", "net.")
    while state and (prefix := next((p for p in prefixes if all(key.startswith(p) for key in state)), "")):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def layer_count(state: Mapping[str, Tensor], prefix: str = "encoder.blocks.") -> int:
    """How many numbered layers stand under ``prefix``."""
    numbers = (key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix))
    return max((int(number) + 1 for number in numbers), default=0)
