"""A class-center head's training step by engine, and beside the package cut-cross-entropy: time and memory."""

import argparse
import multiprocessing
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from benchmark_tools import machine, note, peak_bytes, timed

from facetx.config.parts import args_model
from facetx.errors import ConfigError
from facetx.heads import HEADS

PEER = "cut_cross_entropy"
"""A package beside which heads are measured."""


def measure(args: argparse.Namespace) -> None:
    """One training step of a class-center head, forward and backward, by engine.

    Engines take turns and the fastest step of each counts, since other work on the machine only ever adds. Memory is
    the peak beyond the weights and one gradient of their size; on CPU, of a fresh process's resident memory.

    ``cut_cross_entropy`` is the package of that name (Wijmans et al., arXiv 2411.09009), where it is installed: the
    plain softmax of normalized embeddings and centers, in bf16 by its kernel on a GPU, elsewhere in fp32, compiled.
    """
    known = [name for name in HEADS.names() if "engine" in args_model(HEADS[name], ()).model_fields]
    if args.head not in known:
        raise ConfigError(f"--head {args.head}: is no class-center head; they are {', '.join(known)}")
    classes = args.classes or (1_000_000 if args.device == "cuda" else 200_000)
    batch = args.batch or (1024 if args.device == "cuda" else 256)
    if PEER in args.engines and find_spec(PEER) is None:
        raise ConfigError(f"--engines {PEER}: needs the package of that name: pip install cut-cross-entropy")
    engines = args.engines or ["full", "chunked", *([PEER] if args.device == "cuda" and find_spec(PEER) else [])]
    setting = f"{args.head}, {classes:,} classes, batch {batch:,}, dimension {args.dim}"
    print(f"{setting}, {machine(args.device)}")

    sizes = (args.head, classes, batch, args.dim, args.device)
    memory = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for engine in engines:
            memory[engine] = pool.apply(_extra_bytes, (engine, *sizes))

    own = next((engine for engine in engines if engine != PEER), PEER)
    head, step = _head_step(own, *sizes)
    steps = {engine: _head_step(PEER, *sizes)[1] if engine == PEER != own else step for engine in engines}
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    for turn in range(args.steps + 1):
        for engine in engines:
            head.engine = engine
            seconds = timed(steps[engine], args.device)
            if turn:  # the first turn warms up
                times[engine].append(seconds)

    first = engines[0]
    print(f"{'engine':18}{'ms a step':>12}{'x ' + first:>10}{'extra MiB':>12}{'x ' + first:>10}")
    for engine in engines:
        ms, mib = min(times[engine]) * 1e3, memory[engine] / 2**20
        time_ratio = ms / (min(times[first]) * 1e3)
        note(engine, setting, args.device, step_ms=ms, step_ratio=time_ratio, extra_memory_mib=mib)
        print(f"{engine:18}{ms:12.1f}{time_ratio:10.3f}{mib:12.1f}{memory[engine] / memory[first]:10.3f}")


def _head_step(engine: str, name: str, classes: int, batch: int, dim: int, device: str):
    """A head and a function that runs one step of it, from no gradients to all gradients."""
    torch.manual_seed(0)
    if engine == PEER:
        return _peer_step(classes, batch, dim, device)
    with torch.device(device):
        head = HEADS.create(name, embedding_dim=dim, num_classes=classes, engine=engine)
        embeddings = torch.randn(batch, dim, requires_grad=True)
        labels = torch.randint(classes, (batch,))

    def step() -> None:
        head.weight.grad = embeddings.grad = None
        head(embeddings, labels)["loss"].backward()

    return head, step


def _peer_step(classes: int, batch: int, dim: int, device: str):
    """As ``_head_step``, by the package cut_cross_entropy."""
    from cut_cross_entropy import linear_cross_entropy

    kind, by = (torch.bfloat16, "cce") if device == "cuda" else (torch.float32, "torch_compile")
    head = torch.nn.Linear(dim, classes, bias=False, device=device)
    embeddings = torch.randn(batch, dim, device=device, requires_grad=True)
    labels = torch.randint(classes, (batch,), device=device)

    def step() -> None:
        head.weight.grad = embeddings.grad = None
        unit, centers = (F.normalize(x).to(kind) for x in (embeddings, head.weight))
        linear_cross_entropy(64 * unit, centers, labels, impl=by).backward()

    return head, step


def _extra_bytes(engine: str, name: str, classes: int, batch: int, dim: int, device: str) -> int:
    """Peak memory of one step beyond the weights and a gradient of their size."""
    _head_step(engine, name, 64, batch, dim, device)[1]()  # libraries and threads take their own memory now
    head, step = _head_step(engine, name, classes, batch, dim, device)
    gradient = torch.ones_like(head.weight)
    before = peak_bytes(device)
    del gradient
    step()
    return peak_bytes(device) - before
