"""The engine ``chunked``: exact, without ever holding all images x all classes, or a normalized copy of the weights.

It takes some images at a time against all classes. Their whole softmax is then at hand, so their part of the
gradients is finished at once and the block forgotten: three matrix products in all, as many as ``full`` needs. Instead
of normalizing the weights it divides the products by their lengths, and the gradient's way through that normalization
is worked out within the gradient's own memory.

Shapes as in ``engine``; R images a block.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from facetx.heads.criterion import Criterion
from facetx.heads.engine import EPS, Centers, Result, take_target
from facetx.heads.precision import true_float32

CLASS_BLOCKS = 64  # parts of the class centers, where their gradient is put through the normalization


def chunked(unit: Tensor, norms: Tensor, centers: Centers, labels: Tensor, criterion: Criterion, rows: int) -> Result:
    """``full``'s numbers, ``rows`` images at a time."""
    weight, bias = centers
    if criterion.training:
        with torch.no_grad():
            own = weight[labels]
            target = torch.linalg.vecdot(unit, own)
            if criterion.normalized:
                target = target / torch.linalg.vector_norm(own, dim=1).clamp_min(EPS)
            elif bias is not None:
                target = target + bias[labels]
            criterion.observe(target, norms.detach())
    if torch.is_grad_enabled():
        return Result(*_Chunked.apply(unit, norms, weight, bias, labels, criterion, rows))
    return _by_blocks(unit, norms, weight, bias, labels, criterion, rows, None)


class _Gradients:
    """The gradients of the loss, filled block by block; that of the weights lacks its way through the normalization."""

    def __init__(self, unit: Tensor, norms: Tensor, weight: Tensor, bias: Tensor | None):
        self.unit, self.norms, self.weight = torch.empty_like(unit), torch.empty_like(norms), torch.empty_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)


class _Chunked(torch.autograd.Function):
    """Works out the gradients along with the loss; ``backward`` finishes and scales them."""

    @staticmethod
    def forward(ctx: Any, unit, norms, weight, bias, labels, criterion, rows):
        ctx.save_for_backward(unit, norms, weight, bias, labels)
        ctx.criterion, ctx.rows = criterion, rows
        ctx.grads = _Gradients(unit, norms, weight, bias)
        result = _by_blocks(unit, norms, weight, bias, labels, criterion, rows, ctx.grads)
        ctx.mark_non_differentiable(result.target, result.best_other)
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss, *_):
        unit, norms, weight, bias, labels = ctx.saved_tensors
        # Autograd keeps the weights' gradient as .grad without a copy if no one else holds it. So it is given away,
        # and the rare second backward of a retained graph works it out again.
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            grads = _Gradients(unit, norms, weight, bias)
            with true_float32(unit.device):
                _by_blocks(unit, norms, weight, bias, labels, ctx.criterion, ctx.rows, grads)
        for centers, gradient in zip(weight.chunk(CLASS_BLOCKS), grads.weight.chunk(CLASS_BLOCKS), strict=True):
            gradient.mul_(grad_loss)
            if ctx.criterion.normalized:  # the length of a center changes no cosine: no gradient along the center
                length = torch.linalg.vector_norm(centers, dim=1).clamp_min_(EPS)
                along = torch.linalg.vecdot(gradient, centers) / length**2
                gradient.addcmul_(centers, along[:, None], value=-1)
        by_bias = None if bias is None else grads.bias * grad_loss
        return grads.unit * grad_loss, grads.norms * grad_loss, grads.weight, by_bias, None, None, None


def _by_blocks(
    unit: Tensor,
    norms: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    criterion: Criterion,
    rows: int,
    grads: _Gradients | None,
) -> Result:
    """The loss, and its gradients into ``grads``, a block of images at a time."""
    inverse = 1 / torch.linalg.vector_norm(weight, dim=1).clamp_min_(EPS) if criterion.normalized else None
    loss, targets, best_others = unit.new_zeros(()), torch.empty_like(norms), torch.empty_like(norms)
    for first in range(0, len(unit), rows):
        block = slice(first, first + rows)
        cosine = unit[block] @ weight.T  # (R, C)
        if inverse is not None:
            cosine.mul_(inverse)
        if bias is not None:
            cosine.add_(bias)
        target, negatives = take_target(cosine, labels[block])
        targets[block], best_others[block] = target, negatives.amax(dim=1)

        inputs = target, negatives, norms[block].clone()
        with torch.set_grad_enabled(grads is not None):
            for tensor in inputs:
                tensor.requires_grad_(grads is not None)
            aggregate = criterion.aggregate(target.detach(), negatives, inputs[2], scratch=True)
            part = criterion.losses(target, aggregate, inputs[2]).sum() / len(unit)
        loss += part.detach()
        if grads is None:
            continue
        by_target, by_cosine, grads.norms[block] = torch.autograd.grad(part, inputs, materialize_grads=True)
        by_cosine.scatter_(1, labels[block, None], by_target[:, None])
        if grads.bias is not None:
            grads.bias.add_(by_cosine.sum(dim=0))
        if inverse is not None:
            by_cosine.mul_(inverse)
        grads.unit[block] = by_cosine @ weight
        grads.weight.addmm_(by_cosine.T, unit[block], beta=min(first, 1))  # the first block overwrites
        del cosine, negatives, inputs, aggregate, part, by_cosine  # before the next block takes its memory
    return Result(loss, targets, best_others)
