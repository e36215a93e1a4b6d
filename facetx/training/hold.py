"""Head first, then all: the backbone held still for the first steps."""

import torch
from torch import nn


def hold_backbone(backbone: nn.Module, optimizer: torch.optim.Optimizer, still: bool) -> None:
    """Makes the backbone a fixed function, or has its own parts trained again; for "head first, then all".

    While it is still it gets no gradient, so its optimizer keeps no moments and decays nothing, and it is in eval mode,
    so batch norm keeps its statistics.

    Args:
        backbone: ``task.backbone``.
        optimizer: Its groups name the parameters that are trained at all.
        still: Whether to hold it.
    """
    backbone.train(not still)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"]):
            if name.startswith("backbone."):
                parameter.requires_grad_(not still)
