"""What a model costs: parameters and multiply-accumulates, counted without running it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from facetx.nn.backbone import Backbone
from facetx.nn.meta import meta_inputs, without_values
from facetx.nn.transformer import FaceTransformer


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


def profile(model: Backbone) -> Profile:
    """Counts a backbone's parameters and its multiply-accumulates at its contract's size.

    The backbone is left as it is: the counting runs on a copy without values.
    """
    macs, without = count_macs(model)
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


def token_count(model: Backbone) -> int | None:
    """Tokens that a ``FaceTransformer``'s encoder sees, its class token counted; None for other networks."""
    return model.pooling.prefix + model.tokens.num_tokens if isinstance(model, FaceTransformer) else None


def count_macs(model: Backbone) -> tuple[int, int]:
    """Multiply-accumulates of one image of the contract's size: (with, without) attention's products.

    Element-wise work (norms, activations, softmax) is not counted, as is the field's custom.
    """
    with FlopCounterMode(display=False) as counter:
        run_on_meta(model)
    operations: Mapping[Any, int] = counter.get_flop_counts()["Global"]  # 2 an accumulate
    total = sum(operations.values())
    products = sum(n for operation, n in operations.items() if _is_product_of_activations(str(operation)))
    return total // 2, (total - products) // 2


def run_on_meta(model: Backbone) -> Tensor:
    """The embedding of one image, as a tensor that has a shape and no values. The model itself is not touched."""
    return without_values(model)(*meta_inputs(model.contract.size, model.needs_keypoints))


def _is_product_of_activations(operation: str) -> bool:
    # Fused attention is one operation on some devices, and two batched products on others.
    return "bmm" in operation or "scaled_dot_product" in operation
