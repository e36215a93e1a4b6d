"""``scripts/benchmark.py parsing``: what the numbers of masks cost, and a parsing model beside LR-ASPP."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmark_tools import machine, note, timed
from torch import Tensor, nn

from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.task import build_task
from facetx.config import load_settings
from facetx.data.base import Description
from facetx.data.mask_classes import CELEBAMASK_HQ
from facetx.data.synthetic.faces import render_face
from facetx.metrics.parsing import confusion, count, f1
from facetx.tasks.parsing import Parsing

SIDE = 512
DIFFERENT = 16
"""Masks that are drawn; the others are these again."""


def measure(args: argparse.Namespace) -> None:
    print(machine(args.device))
    numbers(args.masks)
    models(args)


def numbers(masks: int) -> None:
    """The confusion matrix, with and without boundaries, beside a loop over the classes on a few masks: the same F1."""
    classes = len(CELEBAMASK_HQ)
    drawn = [render_face(0, person, 0, SIDE).mask for person in range(min(DIFFERENT, masks))]
    pairs = [(label, np.roll(label, (3, -2), (0, 1))) for label in drawn]
    few = pairs[: max(1, min(masks, DIFFERENT) // 2)]

    def whole(step: Callable[[np.ndarray, np.ndarray], Any], given: list[Any], count: int) -> float:
        def run() -> None:
            for i in range(count):
                step(*given[i % len(given)])

        return timed(run, "cpu")

    matrix = whole(lambda a, b: confusion(a, b, classes), pairs, masks)
    both = whole(lambda a, b: count(a, b, classes, 0.003 * SIDE * 2**0.5), pairs, masks)
    loops = whole(lambda a, b: f1_by_loops(a, b, classes), few, len(few))
    ours = f1(count(*few[0], classes, 1.0)[1])
    np.testing.assert_allclose(ours, f1_by_loops(*few[0], classes))
    per_loop = loops / len(few)
    print(f"{masks:,} masks of {SIDE}x{SIDE}, {classes} classes")
    setting = f"{masks:,} masks of {SIDE}x{SIDE}, {classes} classes"
    for row, seconds in (("confusion matrix", matrix / masks), ("and boundaries", both / masks), ("loop", per_loop)):
        note(row, setting, "cpu", ms_a_mask=1e3 * seconds)
    print(f"confusion matrix   {matrix:8.2f} s{1e3 * matrix / masks:10.2f} ms a mask")
    print(f"and boundaries     {both:8.2f} s{1e3 * both / masks:10.2f} ms a mask")
    print(
        f"loop over classes          {1e3 * per_loop:11.2f} ms a mask, {per_loop * masks / matrix:.1f} times the matrix"
    )


def f1_by_loops(label: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """As it is often written: three sums over the image for each class."""
    found = []
    for kind in range(classes):
        a, b = label == kind, said == kind
        found.append(2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() else np.nan)
    return np.array(found)


class LrAspp(nn.Module):
    """torchvision's LR-ASPP on MobileNetV3-Large (Howard et al., arXiv 1905.02244), with the other model's loss."""

    def __init__(self, other: Parsing):
        super().__init__()
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large

        self.contract, self.criterion = other.backbone.contract, other.criterion
        self.net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(other.mask_classes))

    def predict(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"mask": self.net(self.contract(batch["image"]))["out"]}

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.criterion(self.predict(batch)["mask"].float(), batch["mask"])}


def models(args: argparse.Namespace) -> None:
    """A training step, forward and backward, and inference; models take turns, and the fastest pass of each counts."""
    batch_size = args.batch or (32 if args.device == "cuda" else 4)
    settings = load_settings(args.config, [f"model.args.image_size={args.size}"])
    torch.manual_seed(0)
    data = Description(1, mask_classes=CELEBAMASK_HQ)
    task = build_task(settings.task, settings.head, build_backbone(settings.model), data)
    assert isinstance(task, Parsing)
    tried: dict[str, nn.Module] = {"facetx": task.to(args.device), "torchvision LR-ASPP": LrAspp(task).to(args.device)}
    shape = (batch_size, args.size, args.size)
    batch = {
        "image": torch.randint(0, 256, (batch_size, 3, *shape[1:]), dtype=torch.uint8, device=args.device),
        "mask": torch.randint(0, len(CELEBAMASK_HQ), shape, dtype=torch.uint8, device=args.device),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(args.steps + 1):
        for name, model in tried.items():
            for kind, step in (("step", training_step), ("forward", inference)):
                seconds = timed(lambda step=step, model=model: step(model, batch, args.device), args.device)
                if turn:  # the first turn warms up
                    times.setdefault((name, kind), []).append(seconds)
    print(f"\n{settings.model.name} of {args.config}, {args.size}x{args.size}, batch {batch_size}")
    print(f"{'':22}{'parameters':>12}{'forward':>14}{'ratio':>8}{'training step':>17}{'ratio':>8}")
    first = next(iter(tried))
    for name, model in tried.items():
        cells = ""
        for kind, width in (("forward", 11), ("step", 14)):
            own, base = min(times[name, kind]), min(times[first, kind])
            cells += f"{1e3 * own:{width}.1f} ms{own / base:8.3f}"
        note(name, f"{settings.model.name}, {args.size}x{args.size}, batch {batch_size}", args.device,
             forward_ms=1e3 * min(times[name, "forward"]), step_ms=1e3 * min(times[name, "step"]))  # fmt: skip
        print(f"{name:22}{sum(p.numel() for p in model.parameters()):12,}{cells}")


def training_step(model: nn.Module, batch: dict[str, Tensor], device: str) -> None:
    model.train()
    model.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        loss = model(batch)["loss"]
    loss.backward()


def inference(model: nn.Module, batch: dict[str, Tensor], device: str) -> None:
    model.eval()
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        model.predict(batch)  # type: ignore[operator]
