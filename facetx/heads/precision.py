"""True float32 for the losses, whatever the backbone is computed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from facetx.nn.memory import no_autocast


@contextmanager
def true_float32(device: torch.device) -> Iterator[None]:
    """Inside, no autocast is on, and float32 products are not shortened to TF32 or bf16, whatever is set outside.

    The settings of before are back afterwards, after an error too. They belong to the whole process, so a matrix
    product that another thread makes in the meantime is exact as well.

    What runs inside is exact; the backward pass of a plain product runs later, outside. ``product`` is exact in both.
    """
    backends = [b for b in _BACKENDS if b is not None]
    each = [b.fp32_precision for b in backends]
    overall = _matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with no_autocast(device.type):
            yield
    finally:
        if overall is not None:
            torch.set_float32_matmul_precision(overall)
        for backend, precision in zip(backends, each):
            backend.fp32_precision = precision


def _by_backend(module: Any) -> Any:
    """The products' settings of one backend, where this PyTorch has them apart (2.9 and later)."""
    matmul = getattr(module, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None


_BACKENDS = (_by_backend(torch.backends.cuda), _by_backend(torch.backends.mkldnn))


def _matmul_precision() -> str | None:
    """The setting for all backends; None where one of them was set alone, when PyTorch refuses to read it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def product(a: Tensor, b: Tensor) -> Tensor:
    """a (B, D) and b (C, D) -> a b^T (B, C), in true float32 forward and backward, and differentiable twice."""
    return _Product.apply(a, b)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a, b):
        ctx.save_for_backward(a, b)
        with true_float32(a.device):
            return a @ b.T

    @staticmethod
    def backward(ctx: Any, grad):
        a, b = ctx.saved_tensors
        by_a = product(grad, b.T) if ctx.needs_input_grad[0] else None
        by_b = product(grad.T, a.T) if ctx.needs_input_grad[1] else None
        return by_a, by_b
