"""PyTorch's own two: TorchScript, which C++ reads, and exported programs."""

import io
import warnings

import numpy as np
import torch
from torch import Tensor

from facetx.checkpoints.exported import KEY, Facts
from facetx.exporting.check import Inputs, Run
from facetx.exporting.graph import Subject, converting, program_of

EXTRA = f"{KEY}.json"
"""The member of the file that holds the facts; PyTorch's loaders give it as an extra file."""


def torchscript(subject: Subject, what: str) -> torch.jit.ScriptModule:
    """The model as TorchScript, traced."""
    with converting(what, "TorchScript"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and tells of each shape that is looked at
        traced: torch.jit.ScriptModule = torch.jit.trace(subject.graph, subject.inputs(2), strict=False)
        return traced


def exported_program(subject: Subject, what: str) -> torch.export.ExportedProgram:
    """The model as PyTorch's exported program."""
    with converting(what, "an exported program"):
        return program_of(subject.graph, subject.inputs(2))


def script_bytes(module: torch.jit.ScriptModule, facts: Facts) -> bytes:
    """The file's bytes, with the facts in it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(module, buffer, _extra_files={EXTRA: facts.model_dump_json()})
    return buffer.getvalue()


def program_bytes(program: torch.export.ExportedProgram, facts: Facts) -> bytes:
    """The file's bytes, with the facts in it."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={EXTRA: facts.model_dump_json()})
    return buffer.getvalue()


def run_script(content: bytes) -> Run:
    """A function that runs the file of these bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return _runs(torch.jit.load(io.BytesIO(content)))


def run_program(content: bytes) -> Run:
    """A function that runs the file of these bytes."""
    return _runs(torch.export.load(io.BytesIO(content)).module())


def _runs(module: torch.nn.Module) -> Run:
    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs: dict[str, Tensor] = module(*inputs)
        return {name: value.numpy() for name, value in outputs.items()}

    return run
