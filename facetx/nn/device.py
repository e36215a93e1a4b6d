"""Where to compute."""

import os

import torch

from facetx.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" as a device. Raises ``ConfigError`` where there is no CUDA."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, and PyTorch finds no CUDA device; use device=auto or device=cpu")
    return torch.device(name)


def only_deterministic(wanted: bool) -> None:
    """Whether this process uses algorithms alone that give the same bits each time; cuBLAS needs a workspace for it."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
