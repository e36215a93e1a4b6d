"""Compiling a network: whole, or block by block, and once."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from facetx.errors import ConfigError
from facetx.files import user_cache

Compile = bool | Literal["blocks"]
KEPT_IN = "TORCHINDUCTOR_CACHE_DIR"


def compile_network(network: nn.Module, how: Compile, backend: str = "inductor") -> None:
    """Has ``network`` compiled at its first call, for batches of one size.

    Args:
        network: Computes the same afterwards; its names and its weights stay as they are.
        how: True compiles it as a whole. "blocks" compiles the blocks that it repeats, all by the same graph where
            they are alike, which takes a fraction of the time; the rest runs as it is. False does nothing.
        backend: Of torch.compile.

    What the compiler makes is kept in the user's cache (``~/.cache/facetx/compiled``, or ``TORCHINDUCTOR_CACHE_DIR``
    where it is set), so that the next start is quick. It is not kept in the run's folder: it is code, and that of
    someone else's run must not run here.

    Raises ``ConfigError`` for "blocks" of a network that repeats none.
    """
    if not how:
        return
    os.environ.setdefault(KEPT_IN, str(user_cache("compiled")))
    if how is True:
        network.compile(backend=backend, dynamic=False)
        return
    blocks = list(repeated_blocks(network))
    if not blocks:
        raise ConfigError(f"train.compile: a {type(network).__name__} has no blocks that repeat; set it to true")
    # Blocks that differ (in a rate, or a width) have a graph each, and all share one limit, beyond which they are slow.
    limit = max(torch._dynamo.config.recompile_limit, 4 * len(blocks))
    torch._dynamo.config.recompile_limit = limit
    for block in blocks:
        block.compile(backend=backend, dynamic=False)


def repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules, made of others, that stand in a row of their own kind."""
    for child in network.children():
        row = list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential) else []
        alike = len(row) > 1 and len({type(block) for block in row}) == 1
        if alike and all(any(block.children()) and not isinstance(block, nn.Sequential) for block in row):
            yield from row
        else:
            yield from repeated_blocks(child)


def is_compiled(network: nn.Module) -> bool:
    """Whether any part of it is."""
    return any(module._compiled_call_impl is not None for module in network.modules())


@contextmanager
def without_compiler() -> Iterator[None]:
    """For a process that compiles nothing and ends soon: PyTorch's compiler is not imported, which takes a second.

    PyTorch imports it to shield some functions from it (optimizers, operations without values). Here these stay as they
    are; whatever else is asked of the compiler does import it.
    """
    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = torch._dynamo = standing_in = _StandIn(name)
    try:
        yield
    finally:
        standing_in.leave()


class _StandIn(ModuleType):
    """``torch._dynamo`` until more is asked of it than ``disable``."""

    def disable(self, function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    def leave(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__], torch._dynamo

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # as the import system asks of any module
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(self.__name__), name)
