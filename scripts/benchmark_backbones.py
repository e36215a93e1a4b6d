"""``scripts/benchmark.py backbones``: forward pass, training step and memory, against timm and vit-pytorch."""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from benchmark_tools import OutOfTime, machine, note, timed, within
from torch import nn

from facetx.backbones import BACKBONES
from facetx.errors import ConfigError

# Each first one is what the others are measured against. All without dropout.
GROUPS = {
    "conv": ("facerec_l8 without conv scores", "facerec_l8"),
    "kprpe": ("vit_kprpe_small without KP-RPE", "vit_kprpe_small"),
    "vit": ("facetx vit_p8s8", "timm VisionTransformer", "vit-pytorch ViT", "vit-pytorch ViT, eager"),
}
PACKAGES = {"timm": "timm", "vit-pytorch": "vit_pytorch"}  # a row's first word -> what it imports


def measure(args: argparse.Namespace) -> None:
    """Forward pass (no gradients) and training step (forward and backward) of backbones of the same dimensions.

    On CPU in float32, eager, and with fewer layers (but for FaceRec), since what a layer costs does not depend on how
    many there are; on CUDA with all layers, in bf16 under torch.compile. Each takes turns with the first of its group
    and the fastest pass counts. Step memory: see ``_step_bytes``. A row comes as soon as it is known, from the quickest
    group on; rows of a library that is not installed, or that take too long, are left out, and named.
    """
    cuda = args.device == "cuda"
    batch = args.batch or (256 if cuda else 4)
    depth = args.depth or (None if cuda else 4)
    backend = args.compile or ("inductor" if cuda else None)
    if backend not in (None, *torch.compiler.list_backends(exclude_tags=())):
        usual = ", ".join(torch.compiler.list_backends())
        raise ConfigError(f"--compile {backend}: is no backend of torch.compile; the usual ones are {usual}")
    setting = (f"batch {batch:,}, {depth or 'all'} layers, {'bf16' if cuda else 'fp32'}, "
               f"{f'compiled by {backend}' if backend else 'eager'}")  # fmt: skip
    print(f"{setting}, {machine(args.device)}")
    groups = [[n for n in GROUPS[g] if backend or "eager" not in n] for g in args.groups]
    absent = [n for names in groups for n in names if find_spec(PACKAGES.get(n.split()[0], "facetx")) is None]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; pip install 'facetx[bench]'")
    print(f"{'':32}{'forward':>14}{'':10}{'training step':>14}{'':10}{'weights':>9}{'step memory':>16}", flush=True)
    for group in groups:
        torch.compiler.reset()  # a group's models share code and its limit of compiled graphs, no two groups do
        first: Passes | None = None
        for name in (n for n in group if n not in absent):
            try:
                with within(args.bound):
                    passes = _passes(name, depth, batch, args.device, backend)
                    own, others = _turns(passes, first, args.steps, args.device)
                    memory = _step_bytes(passes.model, passes.step, args.device)
            except OutOfTime:
                print(f"{name:32}left out: it takes more than --bound {args.bound} seconds", flush=True)
                continue
            if first is None:
                first, base = passes, memory
            weights = _weight_bytes(passes.model)
            note(name, setting, args.device, forward_ms=1e3 * own[0], step_ms=1e3 * own[1],
                 forward_ratio=own[0] / others[0], step_ratio=own[1] / others[1],
                 step_memory_mib=memory / 2**20)  # fmt: skip
            print(f"{name:32}{1e3 * own[0]:11.1f} ms  x {own[0] / others[0]:5.3f}{1e3 * own[1]:12.1f} ms  "
                  f"x {own[1] / others[1]:5.3f}{weights / 2**20:9.1f} MiB{memory / 2**20:9.1f} MiB  "
                  f"x {memory / base:5.3f}", flush=True)  # fmt: skip


class Passes(NamedTuple):
    """A model, and functions that run one forward pass and one training step of it."""

    model: nn.Module
    forward: Callable[[], None]
    step: Callable[[], None]


def _turns(one: Passes, other: Passes | None, steps: int, device: str) -> tuple[list[float], list[float]]:
    """The fastest forward pass and training step of both, in seconds, by turns; of ``one`` alone without ``other``."""
    pair = (one, other) if other else (one,)
    best = []
    for passes in pair:
        for run in passes[1:] * 2:  # these warm up, and compile
            timed(run, device)
    for kind in (1, 2):
        times = [[timed(passes[kind], device) for passes in pair] for _ in range(steps)]
        best.append([min(t) for t in zip(*times)])
    return [b[0] for b in best], [b[-1] for b in best]


def _network(name: str, depth: int | None) -> tuple[nn.Module, int]:
    """A network of ``GROUPS`` and the side of its images. ``depth`` layers, or as many as it was published with."""
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


def _passes(name: str, depth: int | None, batch: int, device: str, backend: str | None) -> Passes:
    """A model of ``GROUPS``.

    With a ``backend`` of torch.compile, each of the two is one graph for this batch, or raises: one that falls apart,
    or that the limit of graphs leaves eager, must not be measured for a compiled one.
    """
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

    return Passes(model, forward, step)


def _step_bytes(model: nn.Module, step: Callable[[], None], device: str) -> int:
    """Memory of a training step beyond weights and gradients, which are there already.

    On CUDA the peak of what is allocated. On CPU what autograd keeps for the backward pass, each storage once and the
    weights left out: exact, where a process's resident memory is not.
    """
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


def _weight_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
