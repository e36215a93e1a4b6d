"""Low-rank adaptation: a large frozen layer, and a small trained correction of it (LoRA, arXiv 2106.09685)."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facetx.errors import ConfigError
from facetx.nn.freeze import freeze


class LoraLinear(nn.Linear):
    """``W x + b + (alpha / rank) * up(down(x))`` with W and b frozen (section 4.1).

    ``weight`` and ``bias`` keep their names, so weights of the plain layer fit. ``up`` starts at zero, so at first the
    layer computes what it did before.

    Args:
        linear: The layer to adapt; its parameters are taken over, not copied.
        rank: Of the correction, below both widths of the layer.
        alpha: The correction's scale times the rank.

    Shapes: (..., in) -> (..., out).
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty_like(self.weight[:rank]))  # (rank, in)
        self.up = nn.Parameter(torch.zeros_like(self.weight[:, :rank]))  # (out, rank)
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same. It takes the parameters over."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter((self.weight + self.scale * self.up @ self.down).detach())
        linear.bias = self.bias
        return linear.requires_grad_(True)


def add_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    patterns: Iterable[str] = ("*.qkv", "*.proj"),
    train: Iterable[str] = ("neck*",),
) -> list[str]:
    """Freezes a model and adapts some of its linear layers; by default those of attention, and the neck is trained.

    Batch norm outside of what is trained keeps its statistics.

    Args:
        model: Changed in place.
        rank, alpha: As in ``LoraLinear``.
        patterns: Shell patterns of the names of the linear layers to adapt.
        train: Shell patterns of the names of parameters to train besides; what is frozen already stays so.

    Returns the names of the layers that are adapted. Raises ``ConfigError`` for a pattern that no linear layer matches,
    and for a rank that a layer is too narrow for.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen: list[str] = []
    for pattern in patterns:
        matches = [name for name in layers if fnmatchcase(name, pattern)]
        if not matches:
            endings = sorted({"*." + name.rsplit(".", 1)[-1] for name in layers})
            raise ConfigError(f"lora: no linear layer matches {pattern!r}; there are {', '.join(endings) or 'none'}")
        chosen += [name for name in matches if name not in chosen]
    narrow = [name for name in chosen if rank >= min(layers[name].weight.shape)]
    if rank < 1 or narrow:
        raise ConfigError(f"lora: rank must be at least 1 and below the layers' widths, got {rank} (for {narrow})")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and any(fnmatchcase(name, pattern) for pattern in train))
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    freeze(model, [name for name, norm in norms.items() if not any(p.requires_grad for p in norm.parameters())])
    for name in chosen:
        model.set_submodule(name, LoraLinear(layers[name], rank, alpha))
    return chosen


def merge_lora(model: nn.Module) -> list[str]:
    """Makes the adapted layers plain and trainable again, corrections included. Returns their names."""
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    for name, module in adapted.items():
        model.set_submodule(name, module.merged())
    return list(adapted)
