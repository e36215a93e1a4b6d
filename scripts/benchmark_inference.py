"""``scripts/benchmark.py inference``: a model by PyTorch, compiled, and as ONNX in fp32 and int8, side by side."""

import argparse
import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from benchmark_tools import machine, note, timed

from facetx.backbones import BACKBONES
from facetx.errors import ConfigError
from facetx.exporting import export, quantize
from facetx.exporting.graph import subject_of
from facetx.exporting.onnx_file import run_onnx

Run = Callable[[tuple[torch.Tensor, ...]], Any]


def measure(args: argparse.Namespace) -> None:
    """Latency at batch 1 and images a second at batch ``args.batch``; ways take turns, and the fastest turn counts.

    On CUDA, PyTorch runs there in bf16, and ONNX on the CPU beside it.
    """
    subject = subject_of(args.checkpoint or BACKBONES.create(args.model))
    cuda = args.device == "cuda"
    setting = f"{args.checkpoint or args.model}, batch {args.batch}{', bf16' if cuda else ''}"
    print(f"{setting}, {machine(args.device)}")
    if unknown := [name for name in args.ways if name not in ("compiled", "onnx", "int8")]:
        raise ConfigError(f"--ways {unknown[0]}: is none of compiled, onnx, int8")
    here = copy.deepcopy(subject.graph).to(args.device)
    ways: dict[str, Run] = {"eager": inferred(here, args.device)}
    if "compiled" in args.ways and (cuda or compiler()):
        ways["compiled"] = inferred(torch.compile(here, dynamic=False), args.device)
    elif "compiled" in args.ways:
        print("left out, no C++ compiler here: compiled")
    with tempfile.TemporaryDirectory() as folder:
        fine, coarse = Path(folder) / "model.onnx", Path(folder) / "model.int8.onnx"
        if {"onnx", "int8"} & {*args.ways}:
            export(subject.graph.model, fine)
        if "int8" in args.ways:
            quantize(fine, coarse, count=32)
        files = {"onnx": fine, "int8": coarse}
        ways |= {name: run_onnx(path.read_bytes(), name) for name, path in files.items() if name in args.ways}
    print(f"{'':10}{'batch 1':>14}{'x eager':>10}{f'batch {args.batch}':>20}{'x eager':>10}")
    one, many = (best(ways, subject.inputs(batch), args.steps, args.device) for batch in (1, args.batch))
    for name in ways:
        print(f"{name:10}{1e3 * one[name]:11.2f} ms{one['eager'] / one[name]:10.2f}"
              f"{args.batch / many[name]:11.1f} images/s{many['eager'] / many[name]:10.2f}")  # fmt: skip
        where = args.device if name in ("eager", "compiled") else "cpu"
        note(name, setting, where, batch_1_ms=1e3 * one[name], images_per_second=args.batch / many[name])


def inferred(graph: Any, device: str) -> Run:
    def run(inputs: tuple[torch.Tensor, ...]) -> Any:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return graph(*(x.to(device) for x in inputs))

    return run


def compiler() -> bool:
    """Whether torch.compile finds what it needs on a CPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False


def best(
    ways: Mapping[str, Run],
    inputs: tuple[torch.Tensor, ...],
    steps: int,
    device: str,
) -> dict[str, float]:
    """Seconds of the fastest of ``steps`` passes of each way, after two that warm up and compile."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(steps + 2):
        for name, run in ways.items():
            seconds = timed(lambda run=run: run(inputs), device)
            if turn > 1:
                times[name].append(seconds)
    return {name: min(found) for name, found in times.items()}
