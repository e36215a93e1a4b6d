"""What a sampled mask is worth, class by class: the table of rewards.

A reward is built of its own arguments and called with counts of pixels ``tp, fp, fn`` (..., M): of each class those
that are rightly, wrongly, and not given to it. It returns (..., M), of which the mean over the classes counts that the
mask or the sample has, or the mask alone. More are registered as other parts are: ``@facetx.REWARDS.register``.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from facetx.data.sample import IGNORED
from facetx.errors import ConfigError
from facetx.registry import Function, Registry

MeanOver = Literal["either", "labeled"]
Reward = Callable[[Tensor, Tensor, Tensor], Tensor]


def f1(w: float = 0.3) -> Reward:
    """F1 - w * (the share of the pixels given to the class that are not of it), in -w..1; 0.3 is the research note's.

    Args:
        w: Weight of the false positives, above 0 and below 1; 0 leaves them out.
    """
    _share(w)
    return lambda tp, fp, fn: _f1(tp, fp, fn) - w * fp / (tp + fp).clamp(min=1)


def pq(w: float = 0.3) -> Reward:
    """IoU where it is above one half, else -w where the class was given to any pixel: the reward of panoptic quality in
    arXiv 2302.08242, a class being one segment, which is matched or a false positive.

    Args:
        w: Weight of a false positive, above 0 and below 1; 0 leaves them out.
    """
    _share(w)

    def reward(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        iou = tp / (tp + fp + fn).clamp(min=1)
        return torch.where(iou > 0.5, iou, -w * (tp + fp > 0))

    return reward


def f1_pixels(w: float = 0.3) -> Reward:
    """F1 - w * (the number of pixels that are wrongly given to the class), as the research note's own code has it.

    The number grows with the image, and F1 is at most 1, so one wrong pixel in four outweighs all of F1.

    Args:
        w: Weight of a pixel.
    """
    return lambda tp, fp, fn: _f1(tp, fp, fn) - w * fp


def iou() -> Reward:
    """Intersection over union, in 0..1."""
    return lambda tp, fp, fn: tp / (tp + fp + fn).clamp(min=1)


def _f1(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    return 2 * tp / (2 * tp + fp + fn).clamp(min=1)


def _share(w: float) -> None:
    if not 0 <= w < 1:
        raise ConfigError(f"w must be at least 0 and below 1, got {w}")


REWARDS: Registry[Callable[..., Reward]] = Registry("reward", [f1, pq, f1_pixels, iou], base=Function)


def counts(samples: Tensor, mask: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples (..., H, W) and the mask (..., H, W) of one shape -> tp, fp, fn (..., M), float64, of labeled pixels."""
    known = mask != IGNORED
    found = []
    for c in range(classes):  # a class at a time, since all at once take M times the memory
        given, own = (samples == c) & known, mask == c
        both = (given & own).sum((-2, -1))
        found.append(torch.stack([both, given.sum((-2, -1)) - both, own.sum((-2, -1)) - both]))
    tp, fp, fn = torch.stack(found, -1).double()
    return tp, fp, fn


def rewards(
    reward: Reward, tp: Tensor, fp: Tensor, fn: Tensor, background: bool, mean_over: MeanOver = "either"
) -> Tensor:
    """(..., M) parts of the reward, whose sum over the classes is the mean over those that the mask or the sample has
    ("either"), or the mask ("labeled").

    The background, class 0, is left out unless it is asked for.
    """
    counted = (tp + fn if mean_over == "labeled" else tp + fp + fn) > 0
    if not background:
        counted = counted & (torch.arange(tp.shape[-1], device=tp.device) > 0)
    of_classes = reward(tp, fp, fn).masked_fill(~counted, 0)
    return of_classes / counted.sum(-1, keepdim=True).clamp(min=1)
