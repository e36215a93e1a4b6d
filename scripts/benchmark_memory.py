"""``scripts/benchmark.py memory``: what ``--dry-run`` foretells of a run's memory, beside what its steps take."""

import argparse
import gc
from collections.abc import Callable
from typing import Any

import torch
from benchmark_tools import machine, note

from facetx.config import check_settings
from facetx.nn.memory import Held
from facetx.training import Run, build
from facetx.training.memory import foretell
from facetx.training.step import training_step

CASES: dict[str, dict[str, Any]] = {
    "vit_p12s8": {"model": "vit_p12s8", "args": {"dropout": 0.0}},
    "vit_p12s8, dropout": {"model": "vit_p12s8", "args": {"dropout": 0.1}},
    "vit_p12s8, flatten": {"model": "vit_p12s8", "args": {"pooling": "flatten", "dropout": 0.0}},
    "vit_p12s8, recompute": {"model": "vit_p12s8", "args": {"recompute": True, "dropout": 0.0}},
    "vit_p12s8, chunked head": {"model": "vit_p12s8", "args": {"dropout": 0.0}, "head": {"engine": "chunked"}},
    "vit_kprpe_small": {"model": "vit_kprpe_small", "args": {}},
    "facerec_l8": {"model": "facerec_l8", "args": {}},
    "iresnet50": {"model": "iresnet50", "args": {}},
}
SMALL = {"depth": 2}
"""On a CPU: layers of the transformers."""


def measure(args: argparse.Namespace) -> None:
    """A row a case, as it comes. Measured on CUDA is the most that PyTorch gave out; on CPU, all tensors counted."""
    cuda = args.device == "cuda"
    batch = args.batch or (256 if cuda else 8)
    compiled = cuda and not args.eager
    setting = (f"batch {batch}, CosFace of {args.classes:,}, {'bf16' if cuda else 'fp32'}, "
               f"{'compiled' if compiled else 'eager'}")  # fmt: skip
    print(f"{setting}, {machine(args.device)}")
    print(f"{'':26}{'foretold':>14}{'measured':>14}{'ratio':>8}")
    for name in args.cases or CASES:
        run = _run(CASES[name], batch, args.classes, args.device, compiled)
        foretold = foretell(run).total
        measured = _cuda_bytes(run) if cuda else _cpu_bytes(run)
        print(
            f"{name:26}{foretold / 2**20:10,.0f} MiB{measured / 2**20:10,.0f} MiB{foretold / measured:8.3f}", flush=True
        )
        note(name, setting, args.device, foretold_mib=foretold / 2**20, measured_mib=measured / 2**20)
        del run
        gc.collect()


def _run(case: dict[str, Any], batch: int, classes: int, device: str, compiled: bool) -> Run:
    small = SMALL if device == "cpu" and "iresnet" not in case["model"] else {}
    return build(
        check_settings(
            {
                "name": "memory",
                "device": device,
                "data": {"name": "synthetic_faces", "args": {"identities": classes, "images_per_identity": 1}},
                "model": {"name": case["model"], "args": case["args"] | small},
                "head": {"name": "cosface", "args": case.get("head", {})},
                "optim": {"lr": 1e-4},
                "train": {"steps": 3, "batch_size": batch, "compile": compiled},
            }
        )
    )


def _steps(run: Run) -> Callable[[int], object]:
    size, side = run.settings.train.batch_size, run.backbone.contract.size
    batch = {
        "image": torch.randint(256, (size, 3, side, side), dtype=torch.uint8),
        "label": torch.randint(run.dataset.num_classes, (size,)),
        "keypoints": torch.rand(size, 5, 2),
    }
    needed = {name: batch[name] for name in batch.keys() & (run.task.needs | {"label"})}
    run.task.train()
    return lambda step: training_step(run, needed, step)


def _cuda_bytes(run: Run) -> int:
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    if run.settings.train.compile:
        run.backbone.compile()
    step = _steps(run)
    for number in range(run.total_steps):
        if number == 1:  # what compiling takes is not the step's
            torch.cuda.reset_peak_memory_stats()
        step(number)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def _cpu_bytes(run: Run) -> int:
    """Weights, moments and all that a step holds: its tensors counted one by one, with their values."""
    step = _steps(run)
    with Held() as held:
        step(0)  # the first one makes the moments, after its own peak
        step(1)
    return sum(p.nbytes for p in run.task.parameters()) + held.peak
