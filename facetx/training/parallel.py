"""How a task is spread over the processes of a training, and put together again. With one process nothing is.

Weights are on all processes, and their gradients are averaged (DistributedDataParallel), or each process holds a part
of each: FSDP2's ``fully_shard`` for the backbone, rows of classes for heads of the engine "sharded". The optimizer sees
what this process holds, as plain parameters; what is split is a ``DTensor`` in the task.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facetx.config.settings import TrainSettings
from facetx.errors import ConfigError
from facetx.heads import ClassCenterHead
from facetx.nn.backbone import Backbone
from facetx.nn.compiled import repeated_blocks
from facetx.optim import MovingAverage, gradient_norm
from facetx.processes import count, from_first, is_split, mesh, own, total
from facetx.tasks import Task


def split_heads(task: Task, device: torch.device) -> None:
    """Leaves each process its rows of the heads that are to be split."""
    for module in task.modules():
        if isinstance(module, ClassCenterHead):
            module.split(device)


def split_backbone(backbone: Backbone, settings: TrainSettings) -> None:
    """Leaves each process a part of each of the backbone's weights, where the settings say so; they are put together
    block by block while they are needed.

    Raises ``ConfigError`` for what it does not go with.
    """
    if settings.parallel != "fsdp" or count() == 1:
        return
    if settings.head_first_steps:
        raise ConfigError("train.parallel: fsdp splits no backbone that is held still; set train.head_first_steps: 0")
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    over = mesh(next(backbone.parameters()).device.type)
    for block in list(repeated_blocks(backbone)):
        fully_shard(block, mesh=over)
    backbone.register_forward_hook(_no_view)  # FSDP2 hangs its backward pass on the output
    fully_shard(backbone, mesh=over)
    for method in ("features", "embedding_and_features"):
        register_fsdp_forward_method(backbone, method)


def _no_view(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.clone() if output._is_view() else output


class _Replica(DistributedDataParallel):
    """Tells in words what it cannot do."""

    def forward(self, *batch: Any) -> Any:
        try:
            return super().forward(*batch)
        except RuntimeError as error:
            if "finished reduction" not in str(error):
                raise
            raise ConfigError(
                f"task {type(self.module).__name__}: the loss leaves out some of its weights, for which "
                "DistributedDataParallel waits; freeze them (model.freeze), or set leaves_out = True in its class"
            ) from error


def learner(task: Task, settings: TrainSettings) -> nn.Module:
    """What computes the loss of this process's images, so that the gradients become those of all: the task, or
    DistributedDataParallel around it, where several processes have the same weights.

    Args:
        task: Whose split parameters are left out; each has its gradient already.
        settings: Whether the backbone is held still at first.
    """
    split = [name for name, parameter in task.named_parameters() if is_split(parameter)]
    if count() == 1 or not any(p.requires_grad and not is_split(p) for p in task.parameters()):
        return task
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, split)
    without_gradient = task.leaves_out or settings.head_first_steps > 0
    replica = _Replica(task, find_unused_parameters=without_gradient)
    # Buffers are equal on all by themselves, but for batch norm's, of which the first process's are published.
    replica.broadcast_buffers = False
    return replica


def held_back(learner: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """For a part of the batch that is not the last: its gradients are not averaged yet."""
    return nullcontext() if last or not isinstance(learner, DistributedDataParallel) else learner.no_sync()


def share_statistics(task: Task, ema: MovingAverage | None) -> None:
    """Gives all processes the first one's buffers, as they are written and evaluated.

    Batch norm's differ, where they are not synced; others would by a GPU's rounding alone.
    """
    for module, values in ((task, task.state_dict()), (task.published(), ema.state if ema else {})):
        weights = {name for name, _ in module.named_parameters()}
        for name, value in values.items():
            if name not in weights:
                from_first(value)


def parameters_here(groups: list[dict[str, Any]]) -> dict[str, nn.Parameter]:
    """Puts this process's parts of split parameters into the optimizer's groups; returns the split ones by name."""
    split = {}
    for group in groups:
        for name, parameter in zip(group["names"], group["params"]):
            if is_split(parameter):
                split[name] = parameter
        group["params"] = [nn.Parameter(own(p.detach())) if is_split(p) else p for p in group["params"]]
    return split


def take_gradients(split: dict[str, nn.Parameter], groups: Iterable[dict[str, Any]]) -> None:
    """Gives the optimizer the gradients of this process's parts."""
    for group in groups:
        for name, part in zip(group["names"], group["params"]):
            if name in split:
                gradient, split[name].grad = split[name].grad, None
                part.grad = None if gradient is None else own(gradient)


def average_gradients(groups: Iterable[dict[str, Any]], split: Iterable[str]) -> None:
    """The mean over all processes of the gradients of what all have, where ``learner`` has not been asked."""
    for group in groups:
        for name, parameter in zip(group["names"], group["params"]):
            if parameter.grad is not None and name not in split:
                parameter.grad = total(parameter.grad) / count()


def norm_of_all(groups: Iterable[dict[str, Any]], split: Iterable[str]) -> Tensor:
    """The L2 norm of all gradients together, of the parts that other processes hold too."""
    everywhere, here = list[nn.Parameter](), list[nn.Parameter]()
    for group in groups:
        for name, parameter in zip(group["names"], group["params"]):
            (here if name in split else everywhere).append(parameter)
    norm = gradient_norm(everywhere)
    if here:
        part = gradient_norm(here)
        norm = (norm.to(part) ** 2 + total(part**2)).sqrt()
    return norm
