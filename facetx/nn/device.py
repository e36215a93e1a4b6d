"""Where to compute."""

import torch

from facetx.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" as a device. Raises ``ConfigError`` where there is no CUDA."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, and PyTorch finds no CUDA device; use device=auto or device=cpu")
    return torch.device(name)
