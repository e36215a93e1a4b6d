"""Measures what facetx costs on this machine. Each sub-command is one function and prints one table.

python scripts/benchmark.py heads                              # 200,000 classes on CPU, 1,000,000 on a GPU
python scripts/benchmark.py heads --classes 50000 --head arcface --engines full chunked sampled
python scripts/benchmark.py backbones                          # needs vit-pytorch: pip install 'facetx[bench]'
python scripts/benchmark.py data --root data/casia             # images a second that a loader gives
python scripts/benchmark.py metrics                            # fold accuracy against plain loops
python scripts/benchmark.py ijbc                               # templates, 1:1 and 1:N, at the size of IJB-C
python scripts/benchmark.py parsing                            # numbers of masks, and a model beside LR-ASPP
python scripts/benchmark.py export --checkpoint runs/my_run    # PyTorch, compiled, ONNX, and int8, on the CPU
"""

import argparse
import multiprocessing
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from facetx.cli import run_script, whole

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


def main(args: argparse.Namespace) -> int:
    if "device" in args:
        from facetx.nn.device import pick_device

        args.device = pick_device(args.device).type
    args.run(args)
    return 0


def heads(args: argparse.Namespace) -> None:
    """One training step of a class-center head, forward and backward, by engine.

    Engines take turns and the fastest step of each counts, since other work on the machine only ever adds. Memory is
    the peak beyond the weights and one gradient of their size; on CPU, of a fresh process's resident memory.
    """
    from facetx.config.parts import args_model
    from facetx.errors import ConfigError
    from facetx.heads import HEADS

    known = [name for name in HEADS.names() if "engine" in args_model(HEADS[name], ()).model_fields]
    if args.head not in known:
        raise ConfigError(f"--head {args.head}: is no class-center head; they are {', '.join(known)}")
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
    import torch

    from facetx.heads import HEADS

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
    import torch

    _head_step(engine, name, 64, batch, dim, device)[1]()  # libraries and threads take their own memory now
    head, step = _head_step(engine, name, classes, batch, dim, device)
    gradient = torch.ones_like(head.weight)
    before = _peak_bytes(device)
    del gradient
    step()
    return _peak_bytes(device) - before


# Each first one is what the others are measured against. All without dropout.
GROUPS = {
    "vit": ("facetx vit_p8s8", "timm VisionTransformer", "vit-pytorch ViT", "vit-pytorch ViT, eager"),
    "conv": ("facerec_l8 without conv scores", "facerec_l8"),
    "kprpe": ("vit_kprpe_small without KP-RPE", "vit_kprpe_small"),
}
PACKAGES = {"timm": "timm", "vit-pytorch": "vit_pytorch"}  # a row's first word -> what it imports


def backbones(args: argparse.Namespace) -> None:
    """Forward pass (no gradients) and training step (forward and backward) of backbones of the same dimensions.

    On CPU in float32, eager, and with fewer layers (but for FaceRec), since what a layer costs does not depend on how
    many there are; on CUDA with all layers, in bf16 under torch.compile. Models take turns and the fastest pass of each
    counts. Step memory: see ``_step_bytes``. Rows of a library that is not installed are left out, and named.
    """
    import torch

    from facetx.errors import ConfigError

    cuda = args.device == "cuda"
    batch = args.batch or (256 if cuda else 4)
    depth = args.depth or (None if cuda else 4)
    backend = args.compile or ("inductor" if cuda else None)
    if backend not in (None, *torch.compiler.list_backends(exclude_tags=())):
        usual = ", ".join(torch.compiler.list_backends())
        raise ConfigError(f"--compile {backend}: is no backend of torch.compile; the usual ones are {usual}")
    print(f"batch {batch:,}, {depth or 'all'} layers, {'bf16' if cuda else 'fp32'}, "
          f"{f'compiled by {backend}' if backend else 'eager'}, {_machine(args.device)}")  # fmt: skip
    groups = [[n for n in GROUPS[g] if backend or "eager" not in n] for g in args.groups]
    absent = [n for names in groups for n in names if find_spec(PACKAGES.get(n.split()[0], "facetx")) is None]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; pip install 'facetx[bench]'")
    print(f"{'':32}{'forward':>14}{'':10}{'training step':>14}{'':10}{'weights':>9}{'step memory':>16}")
    for group in groups:
        names = [n for n in group if n not in absent]
        torch.compiler.reset()  # a group's models share code and its limit of compiled graphs, no two groups do
        models = {name: _passes(name, depth, batch, args.device, backend) for name in names}
        times: dict[str, list[list[float]]] = {name: [[], []] for name in names}
        for turn in range(args.steps + 2):
            for name in names:
                for kind, run in enumerate(models[name][1:]):
                    seconds = _timed(run, args.device)
                    if turn > 1:  # the first turns warm up, and compile
                        times[name][kind].append(seconds)
        best = {name: [1e3 * min(t) for t in times[name]] for name in names}
        first = best[names[0]]
        memory = {name: _step_bytes(models[name][0], models[name][2], args.device) for name in names}
        for name in names:
            forward, step = best[name]
            weights, mib = _weight_bytes(models[name][0]) / 2**20, memory[name] / 2**20
            print(f"{name:32}{forward:11.1f} ms  x {forward / first[0]:5.3f}{step:12.1f} ms  x {step / first[1]:5.3f}"
                  f"{weights:9.1f} MiB{mib:9.1f} MiB  x {memory[name] / memory[names[0]]:5.3f}")  # fmt: skip


def _network(name: str, depth: int | None) -> "tuple[nn.Module, int]":
    """A network of ``GROUPS`` and the side of its images. ``depth`` layers, or as many as it was published with."""
    from facetx.backbones import BACKBONES

    layers = {} if depth is None else {"depth": depth}
    if name == "facetx vit_p8s8":
        return BACKBONES.create("vit_p8s8", dropout=0.0, **layers), 112
    if name == "timm VisionTransformer":
        from timm.models.vision_transformer import VisionTransformer

        sizes = {"embed_dim": 512, "depth": depth or 20, "num_heads": 8, "mlp_ratio": 4.0, "qkv_bias": False}
        return VisionTransformer(img_size=112, patch_size=8, num_classes=0, **sizes), 112
    if name.startswith("vit-pytorch ViT"):
        from vit_pytorch import ViT  # its last linear layer, on one token, is beside the point

        sizes = {"dim": 512, "depth": depth or 20, "heads": 8, "mlp_dim": 2048, "num_classes": 512}
        return ViT(image_size=112, patch_size=8, **sizes), 112
    if name.startswith("facerec_l8"):  # its scores are computed once for all layers, so all eight are there
        return BACKBONES.create("facerec_l8", conv_scores="without" not in name), 256
    model = BACKBONES.create("vit_kprpe_small", drop_path=0.0, **layers)
    if "without" in name:
        model.bias = None
    return model, 112


def _passes(name: str, depth: int | None, batch: int, device: str, backend: str | None) -> "tuple[nn.Module, Any, Any]":
    """A model and functions that run one forward pass, and one training step, of it.

    With a ``backend`` of torch.compile, each of the two is one graph for this batch, or raises: one that falls apart,
    or that the limit of graphs leaves eager, must not be measured for a compiled one.
    """
    import torch

    torch.manual_seed(0)
    model, side = _network(name, depth)
    model.to(device)
    inputs = [torch.randn(batch, 3, side, side, device=device)]
    if getattr(model, "needs_keypoints", False):
        inputs.append(torch.rand(batch, 5, 2, device=device))
    if backend is not None and "eager" not in name:
        model.compile(backend=backend, fullgraph=True, dynamic=False)

    def forward() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            model(*inputs)

    def step() -> None:
        model.train()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(*inputs).float().square().mean()
        model.zero_grad(set_to_none=False)
        loss.backward()

    return model, forward, step


def _step_bytes(model: "nn.Module", step: Any, device: str) -> int:
    """Memory of a training step beyond weights and gradients, which are there already.

    On CUDA the peak of what is allocated. On CPU what autograd keeps for the backward pass, each storage once and the
    weights left out: exact, where a process's resident memory is not.
    """
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in kept.values())


def _weight_bytes(model: "nn.Module") -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def data(args: argparse.Namespace) -> None:
    """Images a second that the training loader gives, without a network behind it."""
    from facetx.data import DATASETS
    from facetx.data.loader import StepSampler, TrainingItems, training_loader
    from facetx.data.samplers import Shuffled
    from facetx.data.workers import batches_of

    sets = {"synthetic_faces": DATASETS.create("synthetic_faces", identities=50, images_per_identity=20)}
    if args.root:
        sets["image_folder"] = DATASETS.create("image_folder", root=args.root)
    print(f"batch {args.batch}, {_machine('cpu')}")
    for name, dataset in sets.items():
        for workers in args.workers:
            size = dataset[0]["image"].shape[0]
            sampler = StepSampler(Shuffled(), dataset.labels, args.batch, 0, 0, args.steps + 1)
            loader = training_loader(TrainingItems(dataset, [], 0, size), sampler, workers, pin_memory=False)
            for n, _ in enumerate(batches_of(loader)):
                if n == 0:  # workers have started
                    start = time.perf_counter()
            rate = args.steps * args.batch / (time.perf_counter() - start)
            print(f"{name:18}{workers} workers{rate:12,.0f} images/s of {size}x{size}")


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
    """Templates at the size of IJB-C."""
    from benchmark_ijbc import measure  # the files beside this one

    measure(_peak_bytes, _machine("cpu"))


def parsing(args: argparse.Namespace) -> None:
    """The numbers of masks, and a parsing model beside one of torchvision's."""
    from benchmark_parsing import measure

    measure(args, _timed, _machine(args.device))


def export(args: argparse.Namespace) -> None:
    """One model by PyTorch and by what exports it."""
    from benchmark_export import measure

    measure(args, _timed, _machine("cpu"))


def _peak_bytes(device: str) -> int:
    import torch

    from facetx.training.sweep import peak_memory

    return peak_memory(torch.device(device))


def _timed(step, device: str) -> float:
    import torch

    # On one CPU thread its own time counts: what other programs take of the core is left out.
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def _machine(device: str) -> str:
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="what")

    command = commands.add_parser("heads", help="time and memory of a class-center head, by engine")
    command.add_argument("--head", default="cosface", help="a class-center head's name (default: cosface)")
    command.add_argument(
        "--engines",
        nargs="+",
        choices=["full", "chunked", "sampled"],
        default=["full", "chunked"],
        help="ratios are to the first",
    )
    command.add_argument("--classes", type=whole(2), help="default: 200,000 on CPU, 1,000,000 on a GPU")
    command.add_argument("--batch", type=whole(1), help="default: 256 on CPU, 1,024 on a GPU")
    command.add_argument("--dim", type=whole(1), default=512, help="width of the embeddings (default: 512)")
    command.add_argument("--steps", type=whole(1), default=5, help="timed steps an engine (default: 5)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=heads)

    command = commands.add_parser("backbones", help="forward, training step and memory, against timm and vit-pytorch")
    command.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="default: all")
    command.add_argument("--batch", type=whole(1), help="default: 4 on CPU, 256 on a GPU")
    command.add_argument("--depth", type=whole(1), help="layers (default: 4 on CPU, all on a GPU)")
    command.add_argument("--compile", metavar="BACKEND", help="of torch.compile (default: none; on a GPU inductor)")
    command.add_argument("--steps", type=whole(1), default=5, help="timed passes a model (default: 5)")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    command.set_defaults(run=backbones)

    command = commands.add_parser("data", help="images a second that a loader gives")
    command.add_argument("--root", help="a folder of identities, to measure reading files too")
    command.add_argument("--batch", type=whole(1), default=64)
    command.add_argument("--steps", type=whole(1), default=10, help="timed batches (default: 10)")
    command.add_argument("--workers", type=whole(0), nargs="+", default=[0, 2], help="default: 0 2")
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

    command = commands.add_parser("export", help="a model by PyTorch, compiled, as ONNX, and in int8, on the CPU")
    command.add_argument("--checkpoint", metavar="RUN", help="a run or a checkpoint")
    command.add_argument("--model", default="vit_p8s8_tiny", help="else a new backbone (default: vit_p8s8_tiny)")
    command.add_argument("--ways", nargs="+", default=["compiled", "onnx", "int8"], help="beside eager (default: all)")
    command.add_argument("--batch", type=whole(1), default=32, help="for images a second (default: 32)")
    command.add_argument("--steps", type=whole(1), default=10, help="timed passes each (default: 10)")
    command.set_defaults(run=export)
    return parser


if __name__ == "__main__":
    sys.exit(run_script(arguments(), main))
