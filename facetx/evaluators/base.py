"""What an evaluator is: a question that is asked of a model by a data set, and answered in named numbers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.errors import ConfigError, DataError
from facetx.evaluators.terms import Terms
from facetx.nn.backbone import Backbone
from facetx.tables import Table
from facetx.tasks.base import Task

NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.+-]+")

Model = Backbone | Task
"""What evaluators are given. Those that ask for embeddings alone take the backbone of a task."""


@dataclass(frozen=True)
class How:
    """How a model is run.

    Attributes:
        device: Where the model lives, and the batches go.
        batch_size: Images a forward pass.
        workers: Processes that read images; 0 reads in this one.
        amp: bf16 autocast.
        embed: Stands in for ``facetx.evaluators.embedding.embed_views``, such as a
            ``facetx.benchmarks.embedding_cache.EmbeddingCache``.
    """

    device: str | torch.device = "cpu"
    batch_size: int = 128
    workers: int = 0
    amp: bool = False
    embed: Callable[..., NDArray[np.float32]] | None = None


HERE = How()
"""On the CPU, in this process."""


class Result(ABC):
    """What came out of one evaluation.

    Attributes:
        name: Of the evaluator.
        notes: What a reader of the numbers has to know, a sentence each.
    """

    name: str
    notes: tuple[str, ...] = ()

    @abstractmethod
    def summary(self) -> dict[str, float]:
        """The named numbers, as they are logged: rates in 0..1."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the summary and all that explains it."""

    def table(self) -> Table:
        """The numbers for a reader."""
        return Table((self.name, "value"), [(name, f"{value:.4f}") for name, value in self.summary().items()])

    def tables(self) -> list[Table]:
        """The same, and what more there is to see."""
        return [self.table()]


class Evaluator(ABC):
    """A question that is asked of a model. It prints nothing.

    Args:
        name: Prefix of its numbers in logs, and of the names of files: letters, digits and ``_.+-``.
        dataset: What it asks by; None where it needs no data set.

    Attributes:
        fields: Of the data set's items it reads these; a backbone that needs keypoints reads them too.
        flip: Whether it sees the mirror of each image, too.
        closed_set: Whether people who are trained on may be asked about, by other images of them.
        whole_task: Whether it asks what a task predicts, and not just for embeddings.
        own_size: Whether its data set is opened at the images' own size, and not at the model's.
        notes: What a reader of its numbers has to know; known before anything is measured.

    Raises ``ConfigError`` for a name that cannot be one of files.
    """

    name: str
    dataset: FaceDataset | None
    fields: frozenset[str] = frozenset({"image"})
    flip: bool = False
    closed_set: bool = False
    whole_task: bool = False
    own_size: bool = False
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, dataset: FaceDataset | None = None):
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"args.name: {name!r} names numbers and files, so it may have letters, digits and _.+- only, such as "
                f"{re.sub('[^A-Za-z0-9_.+-]+', '_', name).strip('._') or 'val'!r}"
            )
        self.name = name
        self.dataset = dataset

    @abstractmethod
    def result(self, model: Model, how: How = HERE) -> Result:
        """The answer of a model. Raises ``DataError`` where its data is not what the model takes."""

    def terms(self) -> Terms:
        """For the receipt: all items and their labels, unless an evaluator says more."""
        if self.dataset is None:
            raise DataError(f"{self.name}: has no data set, and says no terms, of which a receipt could be made")
        items = np.arange(len(self.dataset))
        return Terms(items=items, protocol=[(self.dataset.labels, "<i8")], flip=self.flip, definitions={})


def backbone_of(model: Model) -> Backbone:
    """What gives the embeddings."""
    return model.backbone if isinstance(model, Task) else model
