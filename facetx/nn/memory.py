"""The memory that a computation takes, found out without values: each tensor counts from its birth to its death."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

_OPS = torch.ops.aten


class Held(TorchDispatchMode):
    """Counts the bytes of what is born while it is on and still lives: tensors with values, or of the device "meta".

    Attributes:
        now: Bytes at this moment.
        peak: The most that they have been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        output = operation(*args, **(kwargs or {}))
        for tensor in tree_iter(output):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in known:
                known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._died, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return output

    def _died(self, size: int) -> None:
        self.now -= size


# What autocast computes in bf16, and what in float32 on CUDA, as far as networks use it.
_LOWER = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.scaled_dot_product_attention),
    *(torch.conv1d, torch.conv2d, torch.conv3d, torch.einsum, torch.prelu, F.prelu),
    *(torch.matmul, torch.bmm, torch.mm, torch.addmm, torch.baddbmm),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.bmm, Tensor.mm),
}
_FLOAT32 = {
    *(F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.normalize, F.cross_entropy, F.softplus),
    *(torch.softmax, torch.log_softmax, torch.norm, torch.exp, torch.log, torch.pow),
    *(Tensor.softmax, Tensor.log_softmax, Tensor.norm, Tensor.exp, Tensor.log, Tensor.pow),
}


class AsOn(TorchFunctionMode):
    """Has tensors of the device "meta", which knows neither autocast nor fused kernels, take another device's ways.

    Attention is one fused kernel, which keeps its inputs, its output and a number a query, and not the weights. On CUDA
    dropout is a kernel, too, that keeps a byte a value.

    Args:
        device: The kind of device that it stands for, "cpu" or "cuda".
        bf16: Whether bf16 autocast is on there, but for what runs in ``no_autocast``.
        compiled: Whether the network is compiled: a norm then keeps its input as it came, and no copy in float32.
    """

    paused = False

    def __init__(self, device: str, bf16: bool, compiled: bool = False):
        super().__init__()
        self.cuda, self.bf16, self.compiled = device == "cuda", bf16, compiled
        self._cast: dict[int, Tensor] = {}  # a weight is cast once, as autocast does
        self._again: list[nn.Module] = []

    def __enter__(self) -> "AsOn":
        # The backward pass leaves function modes behind, so what it recomputes would be computed without this one.
        self._hooks = (
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
        )
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def end_autocast(self) -> None:
        """Where the forward pass ends, and with it what autocast remembers of the weights."""
        self._cast.clear()

    def _before(self, module: nn.Module, args: Any) -> None:
        if _get_current_function_mode() is None:
            self._again.append(module)
            super().__enter__()

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._again and self._again[-1] is module:
            self._again.pop()
            self.end_autocast()
            super().__exit__(None, None, None)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.bf16 and not AsOn.paused:
            if function in _LOWER:
                args, kwargs = tree_map_only(Tensor, self._lower, (args, kwargs))
            elif self.compiled and function is F.layer_norm:
                return _fused_norm(*args, **kwargs)
            elif self.cuda and function in _FLOAT32:
                args, kwargs = tree_map_only(Tensor, _float32, (args, kwargs))
        if function is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if function is F.dropout and self.cuda:
            return _dropout(*args, **kwargs)
        return function(*args, **kwargs)

    def _lower(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.bfloat16()
        if id(tensor) not in self._cast:
            self._cast[id(tensor)] = tensor.bfloat16()
        return self._cast[id(tensor)]

    def _attention(
        self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ) -> Tensor:
        plain = (dropout_p, is_causal)
        if not self.cuda and (dropout_p or (attn_mask is not None and attn_mask.requires_grad)):
            return F.scaled_dot_product_attention(q, k, v, attn_mask, *plain, scale=scale, enable_gqa=enable_gqa)
        if not self.cuda:
            kernel = _OPS._scaled_dot_product_flash_attention_for_cpu
            return kernel(q, k, v, *plain, attn_mask=attn_mask, scale=scale)[0]
        if attn_mask is None:
            return _OPS._scaled_dot_product_flash_attention(q, k, v, *plain, False, scale=scale)[0]
        mask = attn_mask.expand(*q.shape[:-1], k.shape[-2])
        return _OPS._scaled_dot_product_efficient_attention(q, k, v, mask, True, *plain, scale=scale)[0]


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p else input


def _fused_norm(
    input: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    weight, bias = (None if p is None else p.to(input.dtype) for p in (weight, bias))
    return F.layer_norm(input, shape, weight, bias, eps).float()


@contextmanager
def no_autocast(kind: str) -> Iterator[None]:
    """Inside, autocast is off on that kind of device; "meta" has none, but an ``AsOn`` may stand for one that does."""
    if torch.amp.is_autocast_available(kind):
        with torch.autocast(kind, enabled=False):
            yield
        return
    before, AsOn.paused = AsOn.paused, True
    try:
        yield
    finally:
        AsOn.paused = before
