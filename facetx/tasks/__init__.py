"""What can be trained: ``task(batch) -> {"loss": ..., more scalars}`` is all that the trainer knows of it."""

from collections.abc import Callable

from torch import nn

from facetx.registry import Registry
from facetx.tasks.recognition import Recognition, embed_batch, recognition

TASKS: Registry[Callable[..., nn.Module]] = Registry("task", [recognition])

__all__ = ["TASKS", "Recognition", "embed_batch", "recognition"]
