"""What a model costs: parameters and multiply-accumulates, counted without running it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Profile:
    """Counts of one model, for one image.

    Attributes:
        parameters: All of them.
        trainable: Those that the optimizer may change.
        macs: Multiply-accumulates of convolutions, linear layers and attention, attention's products included.
        attention_macs: The part of ``macs`` that multiplies activations with activations (QK^T and AV).
            Papers often leave it out: theirs is ``macs - attention_macs``.
        tokens: That the encoder sees, a class token counted; None for a network without tokens.
    """

    parameters: int
    trainable: int
    macs: int
    attention_macs: int
    tokens: int | None

    def __str__(self) -> str:
        tokens = "" if self.tokens is None else f", {self.tokens} tokens"
        without = (self.macs - self.attention_macs) / 1e9
        return (
            f"{self.parameters / 1e6:.1f} M parameters ({self.trainable / 1e6:.1f} M trained), "
            f"{self.macs / 1e9:.2f} GMACs ({without:.2f} without attention's products){tokens}"
        )


def profile(model: nn.Module) -> Profile:
    """Counts a backbone's parameters and its multiply-accumulates at its contract's size.

    Args:
        model: A backbone (with ``contract``, and ``needs_keypoints``). It is left as it is: the counting runs on a
            copy without values.
    """
    macs, without = count_macs(model, model.contract.size)  # type: ignore[arg-type]
    return Profile(
        parameters=parameter_count(model),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=macs,
        attention_macs=macs - without,
        tokens=token_count(model),
    )


def parameter_count(model: nn.Module) -> int:
    """The number of all parameters, frozen ones included; buffers are not parameters."""
    return sum(p.numel() for p in model.parameters())


def token_count(model: nn.Module) -> int | None:
    """Tokens that a ``FaceTransformer``'s encoder sees, its class token counted; None for other networks."""
    patches = getattr(getattr(model, "tokens", None), "num_tokens", None)
    return None if patches is None else patches + model.pooling.prefix  # type: ignore[union-attr]


def count_macs(model: nn.Module, image_size: int) -> tuple[int, int]:
    """Multiply-accumulates of one image of ``image_size`` pixels a side: (with, without) attention's products.

    Element-wise work (norms, activations, softmax) is not counted, as is the field's custom.
    """
    with FlopCounterMode(display=False) as counter:
        run_on_meta(model, image_size)
    operations: Mapping[Any, int] = counter.get_flop_counts()["Global"]  # 2 an accumulate
    total = sum(operations.values())
    products = sum(n for operation, n in operations.items() if _is_product_of_activations(str(operation)))
    return total // 2, (total - products) // 2


def run_on_meta(model: nn.Module, image_size: int) -> torch.Tensor:
    """What one image gives, as a tensor that has a shape and no values. The model itself is not touched."""
    values: dict[int, torch.Tensor] = {
        id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()
    }
    values |= {id(b): b.detach().to("meta") for b in model.buffers()}
    ghost = copy.deepcopy(model, values).eval()  # the memo gives meta tensors in place of copies
    inputs = [torch.empty(1, 3, image_size, image_size, device="meta")]
    if getattr(model, "needs_keypoints", False):
        inputs.append(torch.empty(1, 5, 2, device="meta"))
    return ghost(*inputs)


def _is_product_of_activations(operation: str) -> bool:
    # Fused attention is one operation on some devices, and two batched products on others.
    return "bmm" in operation or "scaled_dot_product" in operation
