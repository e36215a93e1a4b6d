"""Models to use: load from a run, embed, compare, evaluate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.checkpoints.format import find_checkpoint
from facetx.checkpoints.task import load_published, load_whole
from facetx.contract import InputContract
from facetx.data.base import FaceDataset
from facetx.errors import CheckpointError, ConfigError
from facetx.evaluators import Evaluator, How, Result, build_evaluator, predictions
from facetx.evaluators.base import backbone_of
from facetx.evaluators.embedding import embed_batches, embed_dataset
from facetx.inference.exported import SUFFIX, ExportedTask, open_exported
from facetx.inference.images import GivenImages
from facetx.nn.backbone import Backbone
from facetx.nn.device import pick_device
from facetx.tasks import Task

Predictions = dict[str, NDArray[Any]]


def load_model(path: str | Path, device: str = "auto", pointer: str = "BEST") -> "FaceModel":
    """The trained model of a run, or of an ONNX file that ``facetx.export`` wrote.

    Args:
        path: A run's folder, one checkpoint's, or a file whose name ends in ``.onnx``.
        device: "auto", "cpu" or "cuda". An exported model runs on the CPU.
        pointer: Which of a run's checkpoints: "BEST" (the latest where no best was kept) or "LAST".

    Raises ``CheckpointError`` where there is none, or its weights do not fit its settings.
    """
    if Path(path).suffix == SUFFIX:
        return _load_exported(path, device)
    checkpoint = find_checkpoint(path, pointer)
    return FaceModel(load_published(checkpoint), device, checkpoint.meta.as_dict())


def load_task(path: str | Path, pointer: str = "BEST") -> Task:
    """The task of a run, on the CPU, with all that it has learned: a head knows the training identities by name.

    Arguments as in ``load_model``; an exported file has what was published alone. Raises ``CheckpointError`` where a
    checkpoint has no more than that, or an exported file embeddings alone.
    """
    if Path(path).suffix == SUFFIX:
        exported = open_exported(path)
        if isinstance(exported, Task):
            return exported
        raise CheckpointError(f"{path}: gives embeddings alone; this asks the whole task, so take the run itself")
    return load_whole(find_checkpoint(path, pointer, state=True)).eval()


def _load_exported(path: str | Path, device: str) -> "FaceModel":
    if device == "cuda":
        raise ConfigError(f"{path}: an exported model runs on the CPU here; leave the device out, or take the run")
    model = open_exported(path)
    facts = (model.backbone if isinstance(model, ExportedTask) else model).facts
    source = facts.source
    settings = {"name": source.name or Path(path).stem, "seed": source.seed, "model": {"name": source.model}}
    meta = {"step": source.step, "settings": settings, "exported": facts.model_dump(mode="json")}
    return FaceModel(model, "cpu", meta)


class FaceModel:
    """A trained model that is ready to use.

    Args:
        model: A backbone, which embeds; or a task, which also predicts what it was trained for.
        device: "auto", "cpu" or "cuda".
        meta: What its checkpoint says of it: step, settings, metrics.

    Images are given as paths, PIL images, uint8 RGB arrays (H, W, 3), or uint8 RGB tensors (3, H, W); one, or many; a
    path may be a folder's, whose images are taken in the order of their names, with those of the folders in it. They
    are aligned faces, square, and resized to the contract's size. Files are read batch by batch.
    """

    def __init__(self, model: Backbone | Task, device: str = "auto", meta: dict[str, Any] | None = None):
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.backbone = backbone_of(model)
        self.meta = meta or {}

    def __repr__(self) -> str:
        name = self.meta["settings"]["model"]["name"] if self.meta else type(self.backbone).__name__
        return f"FaceModel({name} on {self.device}: {self.contract} -> {self.backbone.embedding_dim} numbers)"

    @property
    def contract(self) -> InputContract:
        """What the network expects of its images; applied by ``embed``."""
        return self.backbone.contract

    def embed(
        self, images: Any, flip: bool = True, batch_size: int = 128, keypoints: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Embeddings of unit length, float32 (N, E): the dot product of two is their cosine.

        Args:
            images: One image or many, see the class.
            flip: Sum the embeddings of each image and of its mirror before the normalization.
            batch_size: Images a forward pass.
            keypoints: (N, 5, 2) in [0, 1] as (x, y), for a backbone that needs them.

        Raises ``DataError`` that names the image where one cannot be read, or is not square.
        """
        faces = GivenImages(images, self.contract.size, keypoints)
        how = How(self.device, batch_size, faces.readers(batch_size))
        return _unit(embed_dataset(self.backbone, faces, how, flip=flip))

    def stream(
        self, images: Any, flip: bool = True, batch_size: int = 128, keypoints: NDArray[np.float32] | None = None
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """The same batch by batch, for more images than memory holds embeddings of: their names, and (B, E) of them.

        A name is the image's path, or its number. Arguments and errors are those of ``embed``.
        """
        faces = GivenImages(images, self.contract.size, keypoints)
        how = How(self.device, batch_size, faces.readers(batch_size))
        for items, views in embed_batches(self.backbone, faces, how, flip=flip):
            yield [faces.describe(item) for item in items], _unit(views.sum(axis=0))

    def compare(self, a: Any, b: Any, flip: bool = True, keypoints: NDArray[np.float32] | None = None) -> float:
        """The cosine in [-1, 1] between the embeddings of two faces: higher is more alike.

        Arguments as in ``embed``; ``keypoints`` are (2, 5, 2), of ``a`` and of ``b``.
        """
        first, second = self.embed([a, b], flip=flip, keypoints=keypoints)
        return float(first @ second)

    def predict(self, images: Any, batch_size: int = 128, keypoints: NDArray[np.float32] | None = None) -> Predictions:
        """What the task says of each image, by the outputs' names: arrays whose first axis is the images'.

        Arguments as in ``embed``. Raises ``DataError`` for a backbone alone, which predicts nothing but embeddings.
        """
        faces = GivenImages(images, self.contract.size, keypoints)
        found: dict[str, list[NDArray[Any]]] = {}
        how = How(self.device, batch_size, faces.readers(batch_size))
        for _, _, (outputs,) in predictions(self.model, faces, how):
            for name, values in outputs.items():
                found.setdefault(name, []).append(values.float().cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def evaluate(self, evaluator: Evaluator | str, dataset: FaceDataset | None = None, **args: Any) -> Result:
        """The result of an evaluator, or of the one of that name:
        ``model.evaluate("lfw", images="lfw/images", pairs="lfw/pairs.txt").table()``.

        Args:
            evaluator: Itself, or its name.
            dataset: What one of ``facetx.EVALUATORS`` that asks any data set asks by.
            args: Its other arguments. ``size``, to which images are resized, is the contract's unless it is given.
        """
        if isinstance(evaluator, str):
            evaluator = build_evaluator(evaluator, dataset, args, self.contract.size)
        return evaluator.result(self.model, How(self.device))


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(1e-12)
    return unit
