"""Measures what facetx costs on this machine. Each sub-command is one function and prints one table.

python scripts/benchmark.py heads                              # 200,000 classes on CPU, 1,000,000 on a GPU
python scripts/benchmark.py heads --classes 50000 --head arcface --engines full chunked sampled
"""

import argparse
import multiprocessing
import resource
import sys
import time

import torch

from facetx.heads import HEADS


def heads(args: argparse.Namespace) -> None:
    """One training step of a class-centre head, forward and backward, by engine.

    Engines take turns and the fastest step of each counts, since other work on the machine only ever adds. Memory is
    the peak beyond the weights and one gradient of their size; on CPU, of a fresh process's resident memory.
    """
    classes = args.classes or (1_000_000 if args.device == "cuda" else 200_000)
    batch = args.batch or (1024 if args.device == "cuda" else 256)
    print(f"{args.head}, {classes:,} classes, batch {batch:,}, dimension {args.dim}, {_machine(args.device)}")

    sizes = (args.head, classes, batch, args.dim, args.device)
    memory = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for engine in args.engines:
            memory[engine] = pool.apply(_extra_bytes, (engine, *sizes))

    head, step = _head_step(args.engines[0], *sizes)
    times: dict[str, list[float]] = {engine: [] for engine in args.engines}
    for turn in range(args.steps + 1):
        for engine in args.engines:
            head.engine = engine
            seconds = _timed(step, args.device)
            if turn:  # the first turn warms up
                times[engine].append(seconds)

    first = args.engines[0]
    print(f"{'engine':10}{'ms a step':>12}{'x ' + first:>10}{'extra MiB':>12}{'x ' + first:>10}")
    for engine in args.engines:
        ms, mib = min(times[engine]) * 1e3, memory[engine] / 2**20
        time_ratio = ms / (min(times[first]) * 1e3)
        print(f"{engine:10}{ms:12.1f}{time_ratio:10.3f}{mib:12.1f}{memory[engine] / memory[first]:10.3f}")


def _head_step(engine: str, name: str, classes: int, batch: int, dim: int, device: str):
    """A head and a function that runs one step of it, from no gradients to all gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        head = HEADS.create(name, embedding_dim=dim, num_classes=classes, engine=engine)
        embeddings = torch.randn(batch, dim, requires_grad=True)
        labels = torch.randint(classes, (batch,))

    def step() -> None:
        head.weight.grad = embeddings.grad = None
        head(embeddings, labels)["loss"].backward()

    return head, step


def _extra_bytes(engine: str, name: str, classes: int, batch: int, dim: int, device: str) -> int:
    """Peak memory of one step beyond the weights and a gradient of their size."""
    _head_step(engine, name, 64, batch, dim, device)[1]()  # libraries and threads take their own memory now
    head, step = _head_step(engine, name, classes, batch, dim, device)
    gradient = torch.ones_like(head.weight)
    before = _peak_bytes(device)
    del gradient
    step()
    return _peak_bytes(device) - before


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _timed(step, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="what")

    command = commands.add_parser("heads", help="time and memory of a class-centre head, by engine")
    command.add_argument("--head", default="cosface", help="a class-centre head's name (default: cosface)")
    command.add_argument("--engines", nargs="+", default=["full", "chunked"], help="ratios are to the first")
    command.add_argument("--classes", type=int, help="default: 200,000 on CPU, 1,000,000 on a GPU")
    command.add_argument("--batch", type=int, help="default: 256 on CPU, 1,024 on a GPU")
    command.add_argument("--dim", type=int, default=512, help="width of the embeddings (default: 512)")
    command.add_argument("--steps", type=int, default=5, help="timed steps an engine (default: 5)")
    command.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    command.set_defaults(run=heads)

    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
