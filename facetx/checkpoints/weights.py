"""State dicts from files that others wrote, without running what may stand in them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from facetx.errors import CheckpointError, some

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".ckpt")
# What a state dict stands under in files that hold more. Averaged weights come first: they are those with the published
# numbers, and timm takes them too.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_RAW = ("state_dict", "model", "state_dict_backbone", "net_state_dict")
log = logging.getLogger("facetx")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU.

    ``.safetensors`` and ``.npz`` hold tensors alone. A ``.pt``, ``.pth`` or ``.ckpt`` is a pickle, and is read with
    PyTorch's restricted unpickler, which knows tensors and plain values and calls nothing else. Where such a file has
    more than the state dict, it is taken from under "state_dict", "model", arcface_torch's "state_dict_backbone" or
    the like. Where averaged weights (EMA) stand beside them, those are taken, and the log says so.

    Raises ``CheckpointError`` for a file that is missing, damaged, of another kind, or that holds Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: weights are read from {', '.join(SUFFIXES)}; convert the file, or rename it")
    content = _read(path)
    while isinstance(content, dict) and (found := _state_dicts(content)):
        if found[0] in _AVERAGED and (raw := [key for key in found if key in _RAW]):
            log.warning(
                "%s: has raw weights (%s) and averaged ones (%s); the averaged ones are taken. To take the others, "
                "save them alone",
                path,
                raw[0],
                found[0],
            )
        content = content[found[0]]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds a {type(content).__name__} and no state dict (names -> tensors)")
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"{path}: is no state dict (names -> tensors), there is also {some(others)}")
    return dict(content)


def _state_dicts(content: dict[str, Any]) -> list[str]:
    return [key for key in (*_AVERAGED, *_RAW) if isinstance(content.get(key), dict)]


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as {path.suffix} ({error})") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle makes of the unpickler
        # PyTorch's own message goes on to recommend weights_only=False, which would run the file's code.
        raise CheckpointError(
            f"{path}: damaged, or holds Python objects beside tensors ({type(error).__name__}); facetx never runs the "
            "code of a pickle. Where you trust the file, save its state dict anew, as .safetensors"
        ) from error
