"""Measures what facetx costs on this machine. Each sub-command is one function and prints one table.

python scripts/benchmark.py heads                              # 200,000 classes on CPU, 1,000,000 on a GPU
python scripts/benchmark.py heads --classes 50000 --head arcface --engines full chunked sampled
python scripts/benchmark.py backbones                          # needs vit-pytorch: pip install 'facetx[bench]'
python scripts/benchmark.py data --root data/casia             # images a second that a loader gives
python scripts/benchmark.py metrics                            # fold accuracy against plain loops
python scripts/benchmark.py ijbc                               # templates, 1:1 and 1:N, at the size of IJB-C
python scripts/benchmark.py parsing                            # numbers of masks, and a model beside LR-ASPP
python scripts/benchmark.py step                               # images a second of training steps, in several ways
python scripts/benchmark.py memory                             # of a training step: foretold, and taken
python scripts/benchmark.py inference --checkpoint runs/my_run # PyTorch, compiled, ONNX, and int8
python scripts/benchmark.py record --out here.csv              # all of these, as a record of this machine
python scripts/benchmark.py table here.csv                     # a record as Markdown
python scripts/benchmark.py plan --gpus 64 --rate 900             # WebFace42M on 1 to 64 GPUs, by arithmetic
"""

import argparse
import os
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmark_tools import WHERE, machine, markdown, note, peak_bytes

from facetx.cli import Parser, run_script, whole

if TYPE_CHECKING:
    import numpy as np


GROUPS = ("conv", "kprpe", "vit")
RECORDED = {
    "cpu": ("metrics", "memory", "inference", "data", "backbones", "heads", "parsing", "ijbc"),
    "cuda": ("memory", "heads", "inference", "step", "backbones", "parsing"),
}
"""What ``record`` measures, the quickest first."""
ALIKE = ("metrics", "data", "ijbc")
"""These have no device."""


def main(args: argparse.Namespace) -> int:
    if "device" in args:
        from facetx.nn.device import pick_device

        args.device = pick_device(args.device).type
    args.run(args)
    return 0


def plan(args: argparse.Namespace) -> None:
    """What training on 1, 2, 4, ... GPUs would hold, send and take; see ``facetx.training.plan``.

    Nothing is measured here: rates and speeds are what one gives.
    """
    from facetx.backbones import BACKBONES
    from facetx.nn.compiled import repeated_blocks
    from facetx.nn.profile import parameter_count
    from facetx.tables import Table
    from facetx.training.plan import Plan, activations_of

    backbone = BACKBONES.create(args.model)
    parameters, kept = parameter_count(backbone), activations_of(backbone)
    blocks = sum(parameter_count(block) for block in repeated_blocks(backbone))
    rows = []
    gpus = 1
    while gpus <= args.gpus:
        here = Plan(
            gpus, args.images, args.classes, backbone.embedding_dim, parameters, blocks, args.parallel, args.engine,
            args.sample_rate, kept,
        )  # fmt: skip
        memory = here.memory()
        machines = -(-gpus // args.gpus_a_machine)
        speed = 1e9 * (args.within if machines == 1 else args.between)
        row = [f"{gpus}", f"{machines}", f"{here.batch:,}"]
        row += [f"{memory[name] / 2**30:.1f}" for name in ("backbone", "activations", "head", "head's step")]
        row += [f"{sum(memory.values()) / 2**30:.1f}", *(f"{here.sent(of) / 1e6:,.1f}" for of in ("backbone", "head"))]
        if args.rate:
            times = here.seconds(args.rate, args.tflops, speed)
            step = sum(times.values())
            row += [f"{1000 * times[name]:.1f}" for name in ("backbone", "head", "gradients", "embeddings")]
            row += [f"{here.batch / step:,.0f}", f"{step * args.dataset / here.batch / 3600:.2f}"]
        rows.append(row)
        gpus *= 2
    head = ["GPUs", "machines", "batch", "backbone GiB", "activations", "head", "head's step", "total"]
    head += ["sent MB: backbone", "head"]
    head += ["ms: backbone", "head", "gradients", "embeddings", "images/s", "hours an epoch"] if args.rate else []
    title = (
        f"{args.model}, {parameters / 1e6:.1f} M weights, {kept / 2**20:.1f} MiB of activations an image; "
        f"{args.classes:,} classes, {args.engine}, {args.parallel}, {args.images} images a GPU"
    )
    print(Table(head, rows, title))


def heads(args: argparse.Namespace) -> None:
    """One training step of a class-center head, forward and backward, by engine."""
    from benchmark_heads import measure

    measure(args)


def backbones(args: argparse.Namespace) -> None:
    """Backbones of the same dimensions, beside each other."""
    from benchmark_backbones import measure

    measure(args)


def data(args: argparse.Namespace) -> None:
    """Images a second that the training loader gives, without a network behind it, and the memory of its workers."""
    from benchmark_data import measure

    measure(args)


def metrics(args: argparse.Namespace) -> None:
    """Accuracy over ten folds of pairs, against the field's way of a loop over thresholds: the same values."""
    import numpy as np

    from facetx.errors import ConfigError
    from facetx.metrics.verification import tenfold_accuracy

    if args.pairs % 20:
        raise ConfigError(
            f"--pairs {args.pairs}: is no multiple of 20, as ten folds of as many same as other pairs need"
        )
    rng = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], args.pairs // 20), 10)
    fold = np.repeat(np.arange(10), args.pairs // 10)
    scores = np.clip(rng.normal(0.35 * same, 0.2), -1, 1)
    start = time.perf_counter()
    ours = tenfold_accuracy(scores, same, fold).accuracies
    middle = time.perf_counter()
    loops = _fold_accuracies_by_loops(scores, same, fold)
    end = time.perf_counter()
    note("facetx", f"{args.pairs:,} pairs, 10 folds, 400 thresholds", "cpu", ms=1e3 * (middle - start))
    note("plain loops", f"{args.pairs:,} pairs, 10 folds, 400 thresholds", "cpu", ms=1e3 * (end - middle))
    assert np.allclose(ours, loops, rtol=0, atol=1e-12), (ours, loops)
    print(f"{args.pairs:,} pairs, 10 folds, 400 thresholds: the same accuracies, mean {100 * ours.mean():.3f} %")
    print(f"facetx {1e3 * (middle - start):10.1f} ms\nloops  {1e3 * (end - middle):10.1f} ms, "
          f"{(end - middle) / (middle - start):.1f} times as long")  # fmt: skip


def _fold_accuracies_by_loops(scores: "np.ndarray", same: "np.ndarray", fold: "np.ndarray") -> "np.ndarray":
    """For each fold the accuracy at the squared distance (0 to 4 by 0.01) that is best on the other folds."""
    import numpy as np

    distances = 2 - 2 * scores
    grid = np.arange(0, 4, 0.01)
    accuracies = []
    for f in range(int(fold.max()) + 1):
        train = fold != f
        right = [np.mean((distances[train] < t) == same[train]) for t in grid]
        accuracies.append(np.mean((distances[~train] < grid[int(np.argmax(right))]) == same[~train]))
    return np.array(accuracies)


def ijbc(args: argparse.Namespace) -> None:
    """IJB-C's own numbers of images, templates, pairs, probes and galleries, on simulated embeddings of 512 numbers."""
    import numpy as np

    from facetx.metrics.roc import tar_at_far
    from facetx.metrics.templates import pool_templates, search_templates, template_scores

    images, templates, pairs, genuine, galleries = 469_375, 23_124, 15_658_489, 19_557, (1772, 1759)
    rng = np.random.default_rng(0)
    of_gallery = np.arange(sum(galleries))  # the first templates are the galleries, one a subject
    subject = np.append(of_gallery, rng.integers(len(of_gallery), size=templates - len(of_gallery)))
    template = np.append(np.arange(templates), rng.integers(templates, size=images - templates))
    medium = rng.integers(8, size=images)
    features = rng.standard_normal((images, 512), np.float32)
    centers = rng.standard_normal((len(of_gallery), 512), np.float32)
    for start in range(0, images, 10_000):
        features[start : start + 10_000] += 0.12 * centers[subject[template[start : start + 10_000]]]
    first = rng.integers(len(of_gallery), templates, size=pairs)
    second = rng.integers(templates, size=pairs)
    first[:genuine] = rng.integers(len(of_gallery), templates, size=genuine)
    second[:genuine] = subject[first[:genuine]]  # the gallery's template of that subject
    same = subject[first] == subject[second]
    print(f"{images:,} images, {templates:,} templates, {pairs:,} pairs, {machine('cpu')}")

    times, before = [("", time.perf_counter())], time.process_time()
    pooled = pool_templates(features, template, medium, np.ones(images), norm=False)
    times.append(("pooling", time.perf_counter()))
    scores = template_scores(pooled, first, second)
    times.append(("1:1 scores", time.perf_counter()))
    tars = tar_at_far(scores, same, (1e-4, 1e-3, 1e-2, 1e-1))
    times.append(("TAR at FAR", time.perf_counter()))
    parts = np.split(np.arange(templates), np.cumsum(galleries))
    *held, probes = ((pooled.features[part], subject[part]) for part in parts)
    found = search_templates(probes, held)
    times.append(("1:N search", time.perf_counter()))
    cpu = time.process_time() - before

    for (_, began), (name, ended) in pairwise(times):
        print(f"{name:12}{ended - began:8.1f} s")
    wall, memory = times[-1][1] - times[0][1], peak_bytes("cpu") / 2**30
    note("together", f"{images:,} images, {templates:,} templates, {pairs:,} pairs", "cpu", seconds=wall,
         memory_gib=memory)  # fmt: skip
    print(f"{'together':12}{wall:8.1f} s, {cpu:.1f} s of processor time, peak memory {memory:.2f} GiB")
    print("  ".join(f"TAR {100 * t.tar:.2f} % at FAR {t.target:g}" for t in tars))
    print("  ".join(f"rank {k}: {100 * rate:.2f} %" for k, rate in found.ranks.items()), end="  ")
    print("  ".join(f"TPIR {100 * rate:.2f} % at FPIR {fpir:g}" for fpir, rate in found.tpir().items()))


def inference(args: argparse.Namespace) -> None:
    """One model by PyTorch and by what exports it."""
    from benchmark_inference import measure  # the file beside this one

    measure(args)


def parsing(args: argparse.Namespace) -> None:
    """The numbers of masks, and a parsing model beside one of torchvision's."""
    from benchmark_parsing import measure

    measure(args)


def step(args: argparse.Namespace) -> None:
    """Whole training steps, in several ways."""
    from benchmark_step import measure

    measure(args)


def memory(args: argparse.Namespace) -> None:
    """The memory of training steps, foretold and taken."""
    from benchmark_memory import measure

    measure(args)


def record(args: argparse.Namespace) -> None:
    """Runs the other commands as they are by default, each bounded in time, and adds their numbers to a file."""
    for name in args.only or RECORDED[args.device]:
        command = [sys.executable, __file__, name, *([] if name in ALIKE else ["--device", args.device])]
        print(f"\n{' '.join(command[1:])}", flush=True)
        try:
            done = subprocess.run(
                command, env={**os.environ, WHERE: f"{args.out}:{name}"}, timeout=args.bound, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: more than --bound {args.bound} seconds; what it has told so far is kept", flush=True)
        else:
            if done.returncode:
                print(f"{name}: ended with {done.returncode}", flush=True)
    print(f"\nwritten: {args.out}")


def table(args: argparse.Namespace) -> None:
    """A record for a reader."""
    print(markdown(args.csv))


def arguments() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="what")

    command = commands.add_parser("heads", help="time and memory of a class-center head, by engine")
    command.add_argument("--head", default="cosface", help="a class-center head's name (default: cosface)")
    command.add_argument(
        "--engines",
        nargs="+",
        choices=["full", "chunked", "sampled", "cut_cross_entropy"],
        default=[],
        help="ratios are to the first (default: full, chunked; on a GPU cut_cross_entropy too where it is installed)",
    )
    command.add_argument("--classes", type=whole(2), help="default: 200,000 on CPU, 1,000,000 on a GPU")
    command.add_argument("--batch", type=whole(1), help="default: 256 on CPU, 1,024 on a GPU")
    command.add_argument("--dim", type=whole(1), default=512, help="width of the embeddings (default: 512)")
    command.add_argument("--steps", type=whole(1), default=5, help="timed steps an engine (default: 5)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=heads)

    command = commands.add_parser("backbones", help="forward, training step and memory, against timm and vit-pytorch")
    command.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="default: all")
    command.add_argument("--batch", type=whole(1), help="default: 4 on CPU, 256 on a GPU")
    command.add_argument("--depth", type=whole(1), help="layers (default: 4 on CPU, all on a GPU)")
    command.add_argument("--compile", metavar="BACKEND", help="of torch.compile (default: none; on a GPU inductor)")
    command.add_argument("--steps", type=whole(1), default=5, help="timed passes a model (default: 5)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.add_argument("--bound", type=whole(1), default=120, help="seconds that a row may take (default: 120)")
    command.set_defaults(run=backbones)

    command = commands.add_parser("data", help="images a second that a loader gives")
    command.add_argument("--root", help="a folder of identities, to measure reading files too")
    command.add_argument("--batch", type=whole(1), default=64)
    command.add_argument("--steps", type=whole(1), default=10, help="timed batches (default: 10)")
    command.add_argument("--workers", type=whole(0), nargs="+", default=[0, 1, 2, 4], help="default: 0 1 2 4")
    command.set_defaults(run=data)

    command = commands.add_parser("metrics", help="fold accuracy against plain loops")
    command.add_argument("--pairs", type=whole(20), default=6000, help="a multiple of 20 (default: 6,000)")
    command.set_defaults(run=metrics)

    command = commands.add_parser("ijbc", help="template pooling, 1:1 and 1:N at the size of IJB-C")
    command.set_defaults(run=ijbc)

    command = commands.add_parser("parsing", help="numbers of masks, and a model's step beside torchvision's LR-ASPP")
    command.add_argument("--masks", type=whole(1), default=2000, help="of 512x512, 19 classes (default: 2,000)")
    command.add_argument(
        "--config", default="configs/parsing_celebamask.yaml", help="whose model and task are measured"
    )
    command.add_argument("--size", type=whole(32), default=256, help="pixels a side of the input (default: 256)")
    command.add_argument("--batch", type=whole(2), help="default: 4 on CPU, 32 on a GPU")
    command.add_argument("--steps", type=whole(1), default=5, help="timed passes a model (default: 5)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=parsing)

    command = commands.add_parser("plan", help="memory, traffic and time of a training on many GPUs, by arithmetic")
    command.add_argument("--gpus", type=whole(1), default=64, help="the most")
    command.add_argument("--images", type=whole(1), default=128, help="a GPU and step")
    command.add_argument("--classes", type=whole(1), default=2_059_906, help="default: WebFace42M's")
    command.add_argument("--dataset", type=whole(1), default=42_474_558, help="images an epoch; default: WebFace42M's")
    command.add_argument("--model", default="vit_p8s8", help="a backbone's name")
    command.add_argument("--engine", default="sharded", choices=["full", "sharded"])
    command.add_argument("--sample-rate", type=float, default=1.0, help="part of the classes a step, of sharded")
    command.add_argument("--parallel", default="ddp", choices=["ddp", "fsdp"])
    command.add_argument("--rate", type=float, help="images/s of the backbone on one GPU, measured; no times without")
    command.add_argument("--tflops", type=float, default=40.0, help="of the head's float32 products, assumed")
    command.add_argument("--gpus-a-machine", type=whole(1), default=8)
    command.add_argument("--within", type=float, default=300.0, help="GB/s that a GPU sends in a machine, assumed")
    command.add_argument("--between", type=float, default=40.0, help="GB/s that a GPU sends to another one, assumed")
    command.set_defaults(run=plan)

    command = commands.add_parser(
        "inference", aliases=["export"], help="a model by PyTorch, compiled, as ONNX, and in int8"
    )
    command.add_argument("--checkpoint", metavar="RUN", help="a run or a checkpoint")
    command.add_argument("--model", default="vit_p8s8_tiny", help="else a new backbone (default: vit_p8s8_tiny)")
    command.add_argument("--ways", nargs="+", default=["compiled", "onnx", "int8"], help="beside eager (default: all)")
    command.add_argument("--batch", type=whole(1), default=32, help="for images a second (default: 32)")
    command.add_argument("--steps", type=whole(1), default=10, help="timed passes each (default: 10)")
    command.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"], help="of PyTorch (default: cpu)")
    command.set_defaults(run=inference)

    command = commands.add_parser("step", help="images a second of whole training steps, in several ways")
    command.add_argument("--cases", nargs="+", metavar="NAME", help="rows by name (default: all)")
    command.add_argument("--batch", type=whole(1), help="default: 4 on CPU; on a GPU 512, and 120 of the original")
    command.add_argument("--classes", type=whole(2), default=10_572, help="default: 10,572, CASIA-WebFace's")
    command.add_argument("--steps", type=whole(1), default=12, help="of which the median counts (default: 12)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=step)

    command = commands.add_parser(
        "memory", help="the memory of a training step, as --dry-run foretells it and as it is"
    )
    command.add_argument("--cases", nargs="+", metavar="NAME", help="rows by name (default: all)")
    command.add_argument("--batch", type=whole(1), help="default: 8 on CPU, 256 on a GPU")
    command.add_argument("--classes", type=whole(2), default=10_572, help="default: 10,572, CASIA-WebFace's")
    command.add_argument("--eager", action="store_true", help="do not compile on a GPU")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=memory)

    command = commands.add_parser("record", help="all of these by their defaults, into a file that grows")
    command.add_argument("--out", required=True, metavar="CSV", help="such as docs/benchmarks/h100.csv; added to")
    command.add_argument(
        "--only", nargs="+", metavar="WHAT", choices=sorted({*RECORDED["cpu"], *RECORDED["cuda"]}), help="some"
    )
    command.add_argument("--bound", type=whole(1), default=600, help="seconds that each may take (default: 600)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=record)

    command = commands.add_parser("table", help="a record as Markdown")
    command.add_argument("csv", help="a file of record's")
    command.set_defaults(run=table)
    return parser


if __name__ == "__main__":
    sys.exit(run_script(arguments(), main))
