"""Core ML: an fp16 ML program for Apple's devices, that takes an image as these have it."""

import logging
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facetx.checkpoints.exported import KEY, Facts
from facetx.contract import AppliedElsewhere, InputContract
from facetx.errors import ConfigError, ExportError
from facetx.evaluators.base import backbone_of
from facetx.exporting.graph import Graph, Subject, converting, program_of

PREPROCESSING = "in the model: an RGB image of 0..255"


def require() -> None:
    """Raises ``ConfigError`` where the package is missing."""
    try:
        logging.disable(logging.WARNING)  # it tells of versions that it has not tried, and of what is on a Mac alone
        import_module("coremltools")
    except ImportError as error:
        raise ConfigError(
            f"an export to Core ML needs coremltools ({error}); install it with: pip install 'facetx[export-coreml]'"
        ) from None
    finally:
        logging.disable(logging.NOTSET)


class Scaled(nn.Module):
    """The graph behind Core ML's image input, which has one scale for all channels: the rest of the contract's std.

    Args:
        graph: Its contract is replaced by one that lets images through.
    """

    def __init__(self, graph: Graph):
        super().__init__()
        backbone = backbone_of(graph.model)
        contract = backbone.contract
        std = torch.tensor(3 * contract.std if len(contract.std) == 1 else contract.std)
        self.register_buffer("rest", (std[0] / std).view(1, 3, 1, 1))
        self.rest: Tensor
        self.uneven = bool((std != std[0]).any())
        backbone.contract = AppliedElsewhere(**contract.as_dict())
        self.inner = graph  # a graph of PyTorch's calls itself "graph"

    def forward(self, image: Tensor, keypoints: Tensor | None = None) -> tuple[Tensor, ...]:
        x = image * self.rest if self.uneven else image
        outputs = self.inner(x) if keypoints is None else self.inner(x, keypoints)
        return tuple(outputs.values())


def scale_and_bias(contract: InputContract) -> tuple[float, list[float]]:
    """Of Core ML's image input, ``scale * x + bias``: (x - mean) / std by the first channel's std."""
    mean = 3 * contract.mean if len(contract.mean) == 1 else contract.mean
    return 1 / contract.std[0], [-m / contract.std[0] for m in mean]


def write_coreml(subject: Subject, out: Path, what: str) -> Facts:
    """Writes ``out``, a folder ``.mlpackage``; an earlier one is replaced. It is read back, and runs on a Mac alone.

    Raises ``ExportError`` where it cannot be converted, or does not say what was meant.
    """
    import coremltools as ct

    facts = subject.facts.model_copy(update={"preprocessing": PREPROCESSING, "precision": "fp16"})
    size = facts.input.size
    scale, bias = scale_and_bias(facts.input)
    layout = ct.colorlayout.RGB if facts.input.color == "RGB" else ct.colorlayout.BGR
    image = ct.ImageType("image", shape=(1, 3, size, size), scale=scale, bias=bias, color_layout=layout)
    points = [ct.TensorType("keypoints", shape=(1, 5, 2))] if facts.keypoints else []
    examples = tuple(x.float() for x in subject.inputs(1))
    with converting(what, "Core ML"):
        program = program_of(Scaled(subject.graph).eval(), examples, dynamic=False).run_decompositions({})
        _drop_aliases(program.graph)
        model = ct.convert(
            program,
            inputs=[image, *points],
            outputs=[ct.TensorType(name) for name in facts.outputs],
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT16,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=sys.platform != "darwin",
        )
    model.user_defined_metadata[KEY] = facts.model_dump_json()
    model.license = facts.license or ""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".writing_") as folder:
        draft = Path(folder) / out.name
        model.save(str(draft))
        check_spec(ct.models.MLModel(str(draft), skip_model_load=True).get_spec(), facts, what)
        if out.exists():
            shutil.rmtree(out)
        os.replace(draft, out)
    return facts


def _drop_aliases(graph: torch.fx.Graph) -> None:
    """Takes out other names of one tensor (of Swin's windows), which coremltools does not know."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def check_spec(spec: Any, facts: Facts, what: str) -> None:
    """Raises ``ExportError`` where a model's description is not of these facts."""
    described = spec.description
    image = next(value.type.imageType for value in described.input if value.name == "image")
    color = {"RGB": image.RGB, "BGR": image.BGR}[facts.input.color]
    found = (
        (image.width, image.height, image.colorSpace),
        {value.name: tuple(value.type.multiArrayType.shape) for value in described.output},
        dict(described.metadata.userDefined).get(KEY),
    )
    shapes = {name: (1, *shape) for name, shape in facts.outputs.items()}
    wanted = ((facts.input.size, facts.input.size, color), shapes, facts.model_dump_json())
    if found != wanted:
        raise ExportError(f"{what}: Core ML's file says {found[:2]} where {wanted[:2]} was meant; nothing was kept")
