"""State dicts: from files that others wrote, without running what may stand in them, and into modules they fit."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facetx.data.formats.arrays import read_npz
from facetx.errors import CheckpointError, is_resource, some
from facetx.nn.backbone import Backbone
from facetx.processes import split_as

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".ckpt")
# What a state dict stands under in files that hold more. Averaged weights come first: they are those with the published
# numbers, and timm takes them too.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_RAW = ("state_dict", "model", "state_dict_backbone", "net_state_dict")
log = logging.getLogger("facetx")


class NotFiniteError(CheckpointError):
    """Weights or a training state with NaN or infinite numbers."""


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
    content = {".safetensors": read_safetensors, ".npz": _read_npz}.get(path.suffix, read_torch)(path)
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


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, on the CPU. Raises ``CheckpointError`` where it cannot be read."""
    try:
        return load_file(path)
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        if is_resource(error):
            raise
        raise CheckpointError(f"{path}: cannot be read as .safetensors ({error})") from error


def read_torch(path: Path) -> Any:
    """What ``torch.save`` wrote, of tensors and plain values, on the CPU. Raises ``CheckpointError`` else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if is_resource(error):
            raise
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a damaged or hostile pickle makes of the unpickler
        if is_resource(error):
            raise
        # PyTorch's own message goes on to recommend weights_only=False, which would run the file's code.
        raise CheckpointError(
            f"{path}: damaged, or holds Python objects beside tensors ({type(error).__name__}); facetx never runs the "
            "code of a pickle. Where you trust the file, save its state dict anew, as .safetensors"
        ) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        return {name: torch.from_numpy(array) for name, array in read_npz(path).items()}
    except (TypeError, ValueError) as error:  # a DataError; torch knows not all numbers, nor all orders of bytes
        raise CheckpointError(f"{path}: cannot be read as .npz ({error})") from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads a state dict, all of it or nothing.

    Raises ``CheckpointError`` that lists missing, unexpected and misshaped keys apart, and ``NotFiniteError`` that
    names the tensors with NaN or infinite numbers.
    """
    if isinstance(module, Backbone):
        weights = module.current_names(weights)
    own = module.state_dict()
    check_fit(own, weights, where)
    if bad := not_finite(weights):
        raise NotFiniteError(f"{where}: has NaN or infinite numbers in {some(bad)}; take weights from before they came")
    own.update(
        {name: split_as(value, own[name]) for name, value in weights.items()}
    )  # it says what version each module's names are of, as MNASNet wants to know
    module.load_state_dict(own)


def check_fit(own: Mapping[str, Any], given: Mapping[str, Any], where: str, what: str = "") -> None:
    """Raises ``CheckpointError`` that lists missing, unexpected and misshaped keys, and those of another type, apart.

    Floating-point types count as one, and so do integers, since they are converted.
    """
    missing = [k for k in own if k not in given]
    unexpected = [k for k in given if k not in own]
    both = [(k, own[k], given[k]) for k in own if k in given]
    tensors = [(k, a, b) for k, a, b in both if isinstance(a, Tensor) and isinstance(b, Tensor)]
    misshaped = [f"{k} {tuple(b.shape)} for {tuple(a.shape)}" for k, a, b in tensors if a.shape != b.shape]
    mistyped = [f"{k} {_type(b)} for {_type(a)}" for k, a, b in both if _kind(a) != _kind(b)]
    lists = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped, "mistyped": mistyped}
    if any(lists.values()):
        lines = [f"  {name} ({len(keys)}): {', '.join(keys[:5])}" for name, keys in lists.items()]
        lines = lines if mistyped else lines[:-1]
        raise CheckpointError("\n".join([f"{where}: {what or 'of another model than the settings build'}", *lines]))


def not_finite(values: Any) -> list[str]:
    """The dotted names of the tensors in a tree of dictionaries that have NaN or infinite numbers."""
    return [name for name, tensor in tensors_in(values) if tensor.is_floating_point() and not tensor.isfinite().all()]


def tensors_in(values: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in a tree of dictionaries, with their dotted names."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from tensors_in(value, f"{name}.{key}" if name else str(key))


def _kind(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return type(value)
    return "float" if value.is_floating_point() else "bool" if value.dtype == torch.bool else "integer"


def _type(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else type(value).__name__
