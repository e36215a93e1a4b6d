"""Which of the processes of a training this is, and what they say to each other, by torch.distributed.

One process is the case of rank 0 of 1, in which nothing here sends anything. ``torchrun`` starts several; each brings
its own part of a batch. Tensors travel on their own device, by NCCL from GPUs and by Gloo from CPUs; decisions travel
on the CPU, so that no GPU is waited for. Tensors without values (on "meta") are not sent.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from facetx.errors import ConfigError, FacetxError

_TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process."""
_LOST = ("connection", "broken pipe", "timed out", "timeout", "nccl", "gloo", "socket")


log = logging.getLogger("facetx")
EVERY_PROCESS = logging.getLogger("facetx.every_process")
"""The log of what only one process knows, such as a file that it could not read; else the first one alone tells."""


class ProcessError(FacetxError):
    """Another process of this training is gone, or does not answer."""


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes: the log, rows, checkpoints, pictures."""
    return rank() == 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Inside, this process is one of those that torchrun has started; without torchrun it is alone.

    Args:
        device: "auto", "cpu" or "cuda", as the settings have it. With CUDA each process takes the GPU of its
            ``LOCAL_RANK``.

    Raises ``ConfigError`` where the environment is not as torchrun makes it, or GPUs are fewer than processes, and
    ``ProcessError`` where another process is lost.
    """
    if (dist.is_available() and dist.is_initialized()) or not _started_together():
        yield
        return
    on_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_cuda and torch.cuda.is_available():
        take_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
    try:
        store, number, processes = next(dist.rendezvous("env://"))
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine, whose restarts torchrun counts
            # Restarted processes find the store of the killed ones, and in it the addresses of these.
            store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=processes)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({error}); start all by torchrun, see "
            "docs/processes.md"
        ) from error
    before = log.level, EVERY_PROCESS.level
    if not is_first():
        log.setLevel(logging.ERROR)
        EVERY_PROCESS.setLevel(logging.WARNING)
    try:
        yield
        agreed()  # nobody leaves while another one still sends
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in _LOST):
            raise
        _lost(error)
    finally:
        dist.destroy_process_group()
        _meshes.clear()
        log.setLevel(before[0])
        EVERY_PROCESS.setLevel(before[1])


def take_gpu(local_rank: int, gpus: int) -> None:
    """Makes the GPU of this process the current one. Raises ``ConfigError`` where there are too few."""
    if local_rank >= gpus:
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own, there are {gpus}: start torchrun with "
            f"--nproc-per-node {gpus}, or train with device=cpu"
        )
    torch.cuda.set_device(local_rank)


def _started_together() -> bool:
    """Whether the environment is that of one of several processes, or of one that torchrun has started."""
    missing = [name for name in _TOLD if name not in os.environ]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set; start all processes by "
            "torchrun --nproc-per-node N scripts/train.py ..., or unset WORLD_SIZE to train in one"
        )
    return not missing


def _lost(error: Exception) -> NoReturn:
    raise ProcessError(
        f"process {rank()} of {count()} has lost another one, whose own message says why, or that was killed "
        f"({str(error).splitlines()[0][:200]}). The last checkpoint is whole: the same command goes on from there"
    ) from error


def agreed(*numbers: int) -> list[int]:
    """The largest that any process gives, of each; all must call it at the same place. Waits for all."""
    if count() == 1:
        return list(numbers)
    largest = torch.tensor([*numbers, 0], dtype=torch.int64)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.tolist()[:-1]


def all_alike(text: str) -> bool:
    """Whether all processes give the same text; all must call it at the same place. Waits for all."""
    number = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
    largest, smallest = agreed(number, -number)
    return largest == -smallest


def from_first(tensor: Tensor) -> Tensor:
    """The first process's tensor, written over this one's."""
    if count() > 1 and not tensor.is_meta:
        dist.broadcast(tensor, 0)
    return tensor


def means(scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The means over all processes of scalars that each has, in one message."""
    if count() == 1:
        return dict(scalars)
    together = torch.stack([value.detach() for value in scalars.values()])
    dist.all_reduce(together)
    return dict(zip(scalars, (together / count()).unbind()))


def total(part: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    part = part.detach()
    if count() > 1 and not part.is_meta:
        part = part.clone()
        dist.all_reduce(part)
    return part


def all_parts(tensor: Tensor) -> list[Tensor]:
    """The tensors of all processes, of one shape, in order; without a gradient."""
    if count() == 1:
        return [tensor.detach()]
    parts = [torch.empty_like(tensor) for _ in range(count())]
    if not tensor.is_meta:
        dist.all_gather(parts, tensor.detach().contiguous())
    return parts


def all_rows(rows: Tensor, partial: bool = False) -> Tensor:
    """The rows (B / N, ...) of N processes as one tensor (B, ...), with a gradient.

    The gradient of a process's own rows is multiplied by N, since those of the weights are averaged over processes
    afterwards.

    Args:
        rows: Of this process; as many on each.
        partial: Whether each process computes a part of what follows, so that the gradient is the sum of all; else all
            compute the same.
    """
    return rows if count() == 1 else _AllRows.apply(rows, partial)


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows, partial):
        ctx.partial, ctx.count = partial, len(rows)
        return torch.cat(all_parts(rows))

    @staticmethod
    def backward(ctx: Any, grad):
        if ctx.partial:
            grad = total(grad.contiguous())
        return grad[ctx.count * rank() :][: ctx.count] * count(), None


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that may be split over all (a ``DTensor``), in the same memory."""
    return tensor.to_local() if is_split(tensor) else tensor  # type: ignore[attr-defined]


def is_split(tensor: Tensor) -> bool:
    """Whether each process holds a part of this tensor alone."""
    return hasattr(tensor, "placements")


def split_rows(whole: Tensor, device: torch.device) -> Tensor:
    """This process's rows, on ``device``, of a tensor that all have, as a ``DTensor``; dealt as ``torch.chunk`` does.

    Raises ``ConfigError`` where a process would have none.
    """
    from torch.distributed.tensor import DTensor, Shard

    rows = whole.detach().chunk(count())
    if len(rows) < count():
        raise ConfigError(
            f"{len(whole)} classes cannot be split over {count()} processes, {len(rows[0])} for each, since the last "
            "would have none; start fewer, or choose engine: chunked"
        )
    part = rows[rank()].to(device, copy=True)
    return DTensor.from_local(
        part, mesh(device.type), [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride()
    )


def split_as(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, split as another one is; itself, where that one is whole."""
    if not is_split(like) or is_split(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(like.device, like.dtype)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """The whole of which each process holds ``part``, where ``like`` is split so; all must call it together.

    ``part`` may itself be split, or be what ``own`` gives. A tensor of another shape than ``like``'s part is one that
    all have, and given back.
    """
    if not is_split(like):
        return part
    from torch.distributed.tensor import DTensor

    if not is_split(part):
        if part.shape != own(like).shape:
            return part
        mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
        part = DTensor.from_local(part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())
    return part.detach().full_tensor()  # type: ignore[attr-defined]


def mesh(device: str) -> Any:
    """All processes in one row, as a ``DeviceMesh``, with devices of this kind."""
    from torch.distributed.device_mesh import init_device_mesh

    if device not in _meshes:
        _meshes[device] = init_device_mesh(device, (count(),))
    return _meshes[device]


_meshes: dict[str, Any] = {}
