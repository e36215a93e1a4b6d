"""ONNX: for onnxruntime, in Python, in browsers, on phones."""

import logging
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch

from facetx.checkpoints.exported import KEY, Facts
from facetx.errors import ConfigError, ExportError
from facetx.exporting.check import Inputs, Run
from facetx.exporting.graph import Subject, converting, program_of
from facetx.inference.exported import ExportedBackbone, ExportedTask, open_bytes

OPSETS = range(18, 24)
BATCH = "batch"


def require(opset: int = OPSETS[-1]) -> None:
    """Raises ``ConfigError`` for an opset that is not written, and where the packages are missing."""
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset}: facetx writes opsets {OPSETS[0]} to {OPSETS[-1]}; 20 runs most widely")
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"an export to ONNX needs onnx, onnxscript and onnxruntime ({error}); install them with: "
            "pip install 'facetx[export]'"
        ) from None


def onnx_model(subject: Subject, opset: int, what: str) -> Any:
    """The model as an ``onnx.ModelProto``, without its facts. Raises ``ExportError`` where it cannot be one."""
    inputs = subject.inputs(2)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with converting(what, "ONNX"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                program_of(subject.graph, inputs),
                dynamo=True,
                opset_version=opset,
                input_names=["image", "keypoints"][: len(inputs)],
                output_names=list(subject.facts.outputs),
                verbose=False,
            )
            assert program is not None
            proto = program.model_proto
    finally:
        quiet.setLevel(level)
    written = {o.domain: o.version for o in proto.opset_import}[""]
    if written != opset:
        raise ExportError(f"{what}: opset {opset} cannot be written, PyTorch gave {written}; ask for --opset {written}")
    _tidy(proto)
    return proto


def _tidy(proto: Any) -> None:
    """Takes out what speaks of this machine, and gives the batch its name."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == symbol:
                side.dim_param = BATCH


def with_facts(proto: Any, facts: Facts) -> bytes:
    """The file's bytes, with the facts in its metadata."""
    import onnx

    onnx.helper.set_model_props(proto, {KEY: facts.model_dump_json()})
    content: bytes = proto.SerializeToString()
    return content


def run_onnx(content: bytes, what: str) -> Run:
    """A function that runs the file of these bytes."""
    model = open_bytes(content, what)
    backbone: ExportedBackbone = model.backbone if isinstance(model, ExportedTask) else model

    def run(inputs: Inputs) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in backbone.outputs(*inputs).items()}

    return run
