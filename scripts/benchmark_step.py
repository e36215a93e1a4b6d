"""``scripts/benchmark.py step``: images a second of whole training steps, and what share of the matrix rate that is."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_tools import machine, note, timed
from torch import Tensor, nn

from facetx.backbones import BACKBONES
from facetx.contract import InputContract
from facetx.heads import HEADS
from facetx.nn.dropout import Dropout
from facetx.nn.meta import without_values
from facetx.nn.profile import profile

SIZES = {"dim": 512, "depth": 20, "heads": 8, "head_dim": 64, "mlp_dim": 2048}
SMALL = {"dim": 64, "depth": 2, "heads": 2, "head_dim": 32, "mlp_dim": 128}
"""On a CPU, where the numbers mean nothing and the ways are tried."""


@dataclass
class Case:
    """A way to take a step of ViT-P12S8 and CosFace.

    Attributes:
        compile: As ``train.compile``; "graphs" is the whole network, its kernels launched as CUDA graphs.
        args: Of the backbone, beside its sizes.
        inside: Context in which all steps run.
        model: Builds another network than facetx's, of these sizes.
        plain: In float32 without autocast, by plain AdamW, on a batch that such a step has the memory for.
    """

    compile: bool | str = "blocks"
    args: dict[str, Any] = field(default_factory=dict)
    inside: Callable[[], Any] | None = None
    model: Callable[[dict[str, int]], nn.Module] | None = None
    plain: bool = False


@contextmanager
def plain_attention() -> Iterator[None]:
    """Scores, softmax and product one by one, as the published programs have them."""
    fused = F.scaled_dot_product_attention

    def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **more: Any) -> Tensor:
        scores = (q @ k.transpose(-2, -1)) * more["scale"]
        return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


@contextmanager
def torch_dropout() -> Iterator[None]:
    """PyTorch's own dropout where facetx's would hash."""
    own = Dropout.forward
    Dropout.forward = nn.Dropout.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        Dropout.forward = own  # type: ignore[method-assign]


def timm_vit(sizes: dict[str, int]) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=112,
        patch_size=8,
        embed_dim=sizes["dim"],
        depth=sizes["depth"],
        num_heads=sizes["heads"],
        mlp_ratio=sizes["mlp_dim"] / sizes["dim"],
        num_classes=0,
    )


CASES = {
    "blocks": Case(),
    "blocks, dropout 0.1": Case(args={"dropout": 0.1}),
    "blocks, PyTorch's dropout 0.1": Case(args={"dropout": 0.1}, inside=torch_dropout),
    "blocks, float32 residual": Case(args={"fp32_residual": True}),
    "timm's ViT, blocks": Case(model=timm_vit),
    "eager": Case(compile=False),
    "original: float32, plain, eager, dropout 0.1": Case(False, {"dropout": 0.1}, plain_attention, plain=True),
    "whole": Case(compile=True),
    "whole, dropout 0.1": Case(compile=True, args={"dropout": 0.1}),
    "whole, CUDA graphs": Case(compile="graphs"),
}


def measure(args: argparse.Namespace) -> None:
    """A row a case, as it comes."""
    rate = matrix_rate(args.device)
    sizes = SIZES if args.device == "cuda" else SMALL
    macs = profile(without_values(BACKBONES.create("vit_p12s8", **sizes))).macs
    print(f"ViT-P12S8, CosFace of {args.classes:,}, fused AdamW, {machine(args.device)}, {rate:.1f} TFLOP/s in bf16")
    print(f"{'':46}{'batch':>6}{'images/s':>10}{'share':>9}{'x first':>9}{'peak':>11}{'first step':>12}")
    first = 0.0
    for name in args.cases or CASES:
        case = CASES[name]
        torch.compiler.reset()
        batch = args.batch or ((120 if case.plain else 512) if args.device == "cuda" else 4)
        with case.inside() if case.inside else torch.autograd.set_multithreading_enabled(True):
            began, speed, peak = run(case, sizes, batch, args)
        first = first or speed
        share = 6 * macs * speed / (rate * 1e12)
        gib = f"{peak / 2**30:7.1f} GiB" if peak else ""
        note(name, f"ViT-P12S8, CosFace of {args.classes:,}, batch {batch}", args.device, images_per_second=speed,
             share_of_matrix_rate=share, peak_gib=peak / 2**30, first_step_s=began)  # fmt: skip
        print(
            f"{name:46}{batch:6}{speed:10.0f}{100 * share:7.1f} %{speed / first:9.3f}{gib:>11}{began:10.1f} s",
            flush=True,
        )


def run(case: Case, sizes: dict[str, int], batch: int, args: argparse.Namespace) -> tuple[float, float, int]:
    """Seconds of the first step, images a second of the median of the others, and the most memory given out."""
    cuda = args.device == "cuda"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest" if case.plain else "high")
    model = case.model(sizes) if case.model else BACKBONES.create("vit_p12s8", **{"dropout": 0.0, **sizes, **case.args})
    model = model.to(args.device).train()
    head = HEADS.create("cosface", embedding_dim=sizes["dim"], num_classes=args.classes).to(args.device)
    if case.compile == "blocks":
        for block in model.blocks if case.model else model.encoder.blocks:
            block.compile()
    elif case.compile:
        model.compile(mode="reduce-overhead" if case.compile == "graphs" else None)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=1e-4, fused=not case.plain)
    images = torch.randint(256, (batch, 3, 112, 112), dtype=torch.uint8, device=args.device)
    labels = torch.randint(args.classes, (batch,), device=args.device)
    contract = InputContract(size=112)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=not case.plain):
            loss = head(model(contract(images)), labels)["loss"]
        loss.backward()
        optimizer.step()

    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    timed(step, args.device)
    began = time.perf_counter() - began
    for _ in range(2):
        step()
    seconds = sorted(timed(step, args.device) for _ in range(args.steps))
    return began, batch / seconds[len(seconds) // 2], torch.cuda.max_memory_allocated() if cuda else 0


def matrix_rate(device: str) -> float:
    """TFLOP/s of bf16 products of random matrices, 8,192 a side on a GPU: what a step may reach at most."""
    side = 8192 if device == "cuda" else 256
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(10):
            a @ b

    timed(products, device)
    return 10 * 2 * side**3 / timed(products, device) / 1e12
