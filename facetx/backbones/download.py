"""Weights that other programs publish on the web, read without running anything that stands in them."""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.hub import download_url_to_file, get_dir

from facetx.errors import CheckpointError, is_resource


def published_weights(url: str, of: str) -> Mapping[str, Tensor]:
    """The state dict at ``url``, downloaded once into PyTorch's cache, where other programs find it too.

    The file's name ends in the first digits of its SHA-256, as torchvision and efficientnet-pytorch publish theirs.
    They are compared at each use, since anyone may have put the file there. Eight digits keep damaged and exchanged
    files out, but no forger, so it is also read by the restricted unpickler, which calls nothing that a file names.

    Args:
        url: Its last part is the file's name, such as ``efficientnet-b0-355c32eb.pth``.
        of: Whose weights they are, for messages.

    Raises ``CheckpointError`` where the file cannot be had, or is not the one that was published.
    """
    name = url.rsplit("/", 1)[-1]
    digits = re.fullmatch(r".*-([0-9a-f]{8,64})\.pth", name)
    if digits is None:
        raise CheckpointError(f"the weights of {of} at {url} have no hash in their name; set pretrained: false")
    file = Path(get_dir(), "checkpoints", name)
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(url, str(file), hash_prefix=digits[1], progress=False)
        content = file.read_bytes()
    except (OSError, RuntimeError) as error:  # no network, a file that is cut off, or another one
        if is_resource(error):
            raise
        raise CheckpointError(
            f"could not download the weights of {of} ({error}); try again with a network, or set pretrained: false"
        ) from error
    if not hashlib.sha256(content).hexdigest().startswith(digits[1]):
        raise CheckpointError(f"{file}: damaged, or not the published weights of {of}; delete it, and try again")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle makes of the unpickler
        if is_resource(error):
            raise
        raise CheckpointError(
            f"{file}: holds more than the weights of {of} ({type(error).__name__}); delete it, and try again"
        ) from error
