"""A module without its values: what it gives and what it computes, found out without computing."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def without_values(module: nn.Module) -> nn.Module:
    """A copy in eval mode, of which every tensor has a shape and no values. The module itself is not touched."""
    values: dict[int, Tensor] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in module.parameters()
    }
    values |= {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    return copy.deepcopy(module, values).eval()  # the memo gives meta tensors in place of copies


def meta_inputs(image_size: int, needs_keypoints: bool = False) -> list[Tensor]:
    """One image, and its keypoints where they are needed, that have a shape and no values."""
    images = torch.empty(1, 3, image_size, image_size, device="meta")
    return [images, torch.empty(1, 5, 2, device="meta")] if needs_keypoints else [images]


class OperationLog(TorchDispatchMode):
    """Notes what PyTorch computes while it is on: one line an operation, in order.

    A line has the operation's name, what its tensors are (a name that was given to them, or the operation that they
    come from) and its plain arguments. ``momentum``, which matters in training alone, is left out.

    Args:
        names: id of a tensor -> its name, for weights and inputs. The caller keeps these tensors alive.
    """

    def __init__(self, names: dict[int, str]):
        super().__init__()
        self.lines: list[str] = []
        self._names = dict(names)
        self._kept: list[Tensor] = []  # so that no two tensors get the same id

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(zip((argument.name for argument in operation._schema.arguments), args)) | (kwargs or {})
        told = ", ".join(f"{name}={self._told(value)}" for name, value in given.items() if name != "momentum")
        output = operation(*args, **(kwargs or {}))
        for i, tensor in enumerate(_tensors(output)):
            if id(tensor) not in self._names:  # what is changed in place keeps its name
                self._name(tensor, f"%{len(self.lines)}.{i}")
        self.lines.append(f"{operation}({told})")
        return output

    def _told(self, value: Any) -> str:
        if isinstance(value, Tensor):
            if id(value) not in self._names:  # a constant that the forward makes of plain numbers
                self._name(value, _content(value))
            return self._names[id(value)]
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self._told, value))}]"
        return str(value)

    def _name(self, tensor: Tensor, name: str) -> None:
        self._names[id(tensor)] = name
        self._kept.append(tensor)


def state_digest(module: nn.Module) -> str:
    """SHA-256 of a module's state dict: names, types, shapes and bytes, in the order of the names."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        raw = tensor.detach().cpu().contiguous()
        hasher.update(f"{name} {raw.dtype} {tuple(raw.shape)}\n".encode())
        hasher.update(raw.reshape(-1).view(torch.uint8).numpy())  # any type, bf16 too
    return hasher.hexdigest()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


def _content(tensor: Tensor) -> str:
    shape = f"{tensor.dtype} {tuple(tensor.shape)}"
    if tensor.is_meta:
        return shape
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return f"{shape} {hashlib.sha256(raw.numpy().tobytes()).hexdigest()}"


def computation(module: nn.Module, image_size: int, needs_keypoints: bool = False) -> list[str]:
    """What ``module`` computes from one image in eval mode, in words: the operations, and its constants' hashes.

    Weights and buffers that a state dict has count by their names; the values of other buffers count (positions that
    are fixed, tables of indices). So two modules with equal words and equal state dicts are the same function.
    """
    ghost = without_values(module).float()
    inputs = meta_inputs(image_size, needs_keypoints)
    names = {id(tensor): f"input.{i}" for i, tensor in enumerate(inputs)}
    names |= {id(tensor): name for name, tensor in (*ghost.named_parameters(), *ghost.named_buffers())}
    saved = module.state_dict().keys()
    fixed = [f"{name} {_content(buffer)}" for name, buffer in module.named_buffers() if name not in saved]
    log = OperationLog(names)
    with torch.no_grad(), log:
        output = ghost(*inputs)
    return [*fixed, *log.lines, log._told(output)]
