"""Exported models, run by onnxruntime in place of PyTorch: a backbone and a task like any other, but not to train."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetx.checkpoints.exported import KEY, Facts, read_facts
from facetx.contract import AppliedElsewhere
from facetx.errors import CheckpointError, ConfigError, DataError, is_resource, printable
from facetx.files import read_file
from facetx.nn.backbone import Backbone, Origin
from facetx.tasks import Task
from facetx.tasks.base import Batch

SUFFIX = ".onnx"


class ExportedBackbone(Backbone):
    """The embeddings of an exported model.

    Args:
        session: Of onnxruntime.
        facts: What the file says of itself.
        version: Of onnxruntime.

    Its contract lets the uint8 images through, since the file's own graph scales them.
    """

    def __init__(self, session: Any, facts: Facts, version: str):
        super().__init__()
        self.session, self.facts = session, facts
        self.contract = AppliedElsewhere(**facts.input.as_dict())
        self.embedding_dim = facts.embedding_dim
        self.origin = Origin(facts.weights, facts.network, facts.precision, "onnxruntime", version)

    @property
    def needs_keypoints(self) -> bool:
        return self.facts.keypoints

    def outputs(self, images: Tensor, keypoints: Tensor | None = None) -> dict[str, Tensor]:
        """All outputs by name, for images uint8 (B, 3, H, W)."""
        feed = {"image": images.cpu().contiguous().numpy()}
        if keypoints is not None and self.needs_keypoints:
            feed["keypoints"] = keypoints.cpu().float().contiguous().numpy()
        names = list(self.facts.outputs)
        return {name: torch.from_numpy(found) for name, found in zip(names, self.session.run(names, feed))}

    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        if not self.embedding_dim:
            raise DataError(f"this exported model gives {', '.join(self.facts.outputs)}, and no embeddings")
        return self.outputs(images, keypoints)["embedding"]

    def features(self, images: Tensor, keypoints: Tensor | None = None) -> list[Tensor]:
        raise ConfigError("an exported model gives no feature maps; take the run that it was made of")


class ExportedTask(Task):
    """What an exported model predicts beside embeddings.

    Args:
        backbone: The same file's.
    """

    backbone: ExportedBackbone

    def __init__(self, backbone: ExportedBackbone):
        super().__init__(backbone)
        facts = backbone.facts
        self.attribute_names = facts.attributes
        self.mask_classes, self.mask_colors = facts.mask_classes, facts.mask_colors

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise ConfigError("an exported model cannot be trained; take the run that it was made of")

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        return self.backbone.outputs(batch["image"], batch.get("keypoints"))


def open_exported(path: str | Path) -> ExportedBackbone | ExportedTask:
    """The model of an ONNX file that ``facetx.export`` wrote: a backbone where it gives embeddings alone, else a task.

    onnxruntime runs no code that stands in the file, and no file beside it is read.

    Raises ``CheckpointError`` for a file that is missing, damaged, or not ours.
    """
    content = read_file(path)
    return open_bytes(content, str(path))


def open_bytes(content: bytes, where: str) -> ExportedBackbone | ExportedTask:
    """``open_exported`` of a file's bytes; ``where`` names it in messages."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"{where}: an ONNX file is run by the package onnxruntime ({error}); install it with: "
            "pip install 'facetx[export]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        texts = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        if is_resource(error):
            raise
        raise CheckpointError(f"{where}: is no ONNX file that can be run ({printable(str(error))[:300]})") from None
    facts = read_facts(texts.get(KEY), where)
    _check_graph(session, facts, where)
    backbone = ExportedBackbone(session, facts, onnxruntime.__version__)
    return backbone if list(facts.outputs) == ["embedding"] else ExportedTask(backbone)


def _check_graph(session: Any, facts: Facts, where: str) -> None:
    """Raises ``CheckpointError`` where a graph does not take and give what its facts say."""
    size = facts.input.size
    wanted = {"image": ("tensor(uint8)", [3, size, size])}
    if facts.keypoints:
        wanted["keypoints"] = ("tensor(float)", [5, 2])
    takes = {given.name: (given.type, given.shape[1:]) for given in session.get_inputs()}
    gives = {given.name: list(given.shape[1:]) for given in session.get_outputs()}
    if takes != wanted or gives != {name: list(shape) for name, shape in facts.outputs.items()}:
        raise CheckpointError(
            f"{where}: its graph takes {takes} and gives {gives}, and its description says otherwise; export it anew"
        )
