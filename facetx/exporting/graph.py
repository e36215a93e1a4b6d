"""What is exported: from uint8 images to named outputs, the input's contract inside."""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import facetx
from facetx.benchmarks.receipts import network_digest, weights_digest
from facetx.checkpoints.exported import Facts, Source
from facetx.errors import ExportError, FacetxError, is_resource, printable
from facetx.evaluators.base import Model, backbone_of
from facetx.inference.model import FaceModel, load_model
from facetx.nn.backbone import Backbone, embed_batch
from facetx.tasks import Task


class Graph(nn.Module):
    """Images uint8 (B, 3, H, W) RGB, and keypoints (B, 5, 2) where they are needed -> outputs float32 by name.

    Args:
        model: A backbone, which gives "embedding"; or a task, which gives what ``predict`` does.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, keypoints: Tensor | None = None) -> dict[str, Tensor]:
        batch = {"image": image} if keypoints is None else {"image": image, "keypoints": keypoints}
        model = self.model
        outputs = model.predict(batch) if isinstance(model, Task) else {"embedding": embed_batch(model, batch)}
        return {name: value.float() for name, value in outputs.items()}


@dataclass(frozen=True)
class Subject:
    """A model that is to be exported, as a copy on the CPU in evaluation mode.

    Attributes:
        graph: What becomes the file.
        facts: What the file will say of itself.
        meta: Of its checkpoint; empty for a model that is of none.
    """

    graph: Graph
    facts: Facts
    meta: dict[str, Any]

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """An example of the inputs."""
        return example_inputs(self.facts.input.size, self.facts.keypoints, batch)


def example_inputs(size: int, keypoints: bool, batch: int) -> tuple[Tensor, ...]:
    """Black images (batch, 3, size, size), and keypoints in their middle where a model needs them."""
    images = torch.zeros(batch, 3, size, size, dtype=torch.uint8)
    return (images, torch.full((batch, 5, 2), 0.5)) if keypoints else (images,)


def subject_of(model: str | Path | FaceModel | Model, to: str = "a file") -> Subject:
    """What there is to export of a run, a loaded model, a backbone, or a task; ``to`` is what, for messages.

    Raises ``ExportError`` for what is an exported model already, and for outputs that a graph cannot have.
    """
    if isinstance(model, str | Path):
        model = load_model(model, "cpu")
    meta: dict[str, Any] = {}
    if isinstance(model, FaceModel):
        meta, model = model.meta, model.model
    if backbone_of(model).origin is not None:
        raise ExportError("this model is an exported one already; name the run that it was made of")
    model = copy.deepcopy(published(model)).cpu().float().eval().requires_grad_(False)
    graph, backbone = Graph(model), backbone_of(model)
    with converting(type(model).__name__, to):
        return Subject(graph, _facts(graph, backbone, meta), meta)


def published(model: Model) -> Model:
    """What a task publishes, where that is a model of its own: of ``joint``, the task without its identity head."""
    if not isinstance(model, Task):
        return model
    found = model.published()
    return found if isinstance(found, Backbone | Task) else model


def _facts(graph: Graph, backbone: Backbone, meta: Mapping[str, Any]) -> Facts:
    settings = meta.get("settings", {})
    data = meta.get("data") or {}
    shapes = _shapes(graph, backbone)
    attributes: tuple[str, ...] = ()
    classes, colors = tuple(data.get("mask_classes", ())), tuple(map(tuple, data.get("mask_colors", ())))
    if isinstance(graph.model, Task):
        attributes = graph.model.attribute_names
        classes, colors = graph.model.mask_classes or classes, graph.model.mask_colors or colors
        task = settings.get("task", {}).get("name") or type(graph.model).__name__.lower()
    else:
        task = "recognition"
    return Facts(
        task=task,
        outputs=shapes,
        input=backbone.contract,
        keypoints=backbone.needs_keypoints,
        attributes=attributes if "attributes" in shapes else (),
        mask_classes=classes if "mask" in shapes else (),
        mask_colors=colors if "mask" in shapes else (),
        license=meta.get("license"),
        source=Source(
            name=settings.get("name"),
            step=meta.get("step"),
            seed=settings.get("seed"),
            model=settings.get("model", {}).get("name"),
        ),
        weights=weights_digest(graph.model),
        network=network_digest(backbone),
        facetx=facetx.__version__,
        torch=torch.__version__,
    )


def _shapes(graph: Graph, backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each output, without the batch."""
    with torch.no_grad():
        outputs = graph(*example_inputs(backbone.contract.size, backbone.needs_keypoints, 2))
    for name, value in outputs.items():
        if value.ndim < 1 or value.shape[0] != 2:
            raise ExportError(
                f"output {name!r} of {type(graph.model).__name__}.predict has the shape {tuple(value.shape)} for two "
                "images; an exported model's outputs have an image an entry along their first axis"
            )
    return {name: tuple(value.shape[1:]) for name, value in outputs.items()}


class PlainAttention(TorchFunctionMode):
    """Attention by its formula, softmax(q k^T * scale + mask) v, in place of PyTorch's fused operation.

    The fused one's memory layout differs from device to device, and a graph that was traced by one of them cannot be
    taken apart for another program.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if is_causal or enable_gqa or dropout_p:
        raise ExportError("attention that is causal, of groups of queries, or with dropout is not exported by facetx")
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1) @ value


def program_of(graph: nn.Module, inputs: tuple[Tensor, ...], dynamic: bool = True) -> torch.export.ExportedProgram:
    """The graph as PyTorch's exported program, of any batch where it is ``dynamic``."""
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if dynamic else None
    with torch.no_grad(), PlainAttention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors that a trunk keeps for the next batch: this copy has no next one
        program = torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # the paths of this machine's files
    return program


@contextmanager
def converting(what: str, to: str) -> Iterator[None]:
    """Turns whatever a converter raises into an ``ExportError`` that names the operation, where one is named."""
    try:
        yield
    except FacetxError:
        raise
    except Exception as error:
        if is_resource(error):
            raise
        raise ExportError(f"{what} cannot be exported to {to}: {_reason(error)}") from error


_OPERATION = re.compile(r"\b(?:aten|prims|torchvision)(?:::|\.)\w+|(?<=function for op ')\w+|(?<=op=')[\w.:]+")


def _reason(error: BaseException) -> str:
    chain = [error]
    while (further := chain[-1].__cause__ or chain[-1].__context__) is not None and further not in chain:
        chain.append(further)
    texts = [re.sub(r"\x1b\[[\d;]*m", "", str(e)) for e in reversed(chain)]
    named = next((match[0] for text in texts if (match := _OPERATION.search(text))), None)
    first = next((line.strip() for text in texts for line in text.splitlines() if line.strip()), type(error).__name__)
    return printable(f"the operation {named}: {first}"[:500] if named else first[:500])
