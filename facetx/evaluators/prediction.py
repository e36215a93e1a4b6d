"""What a task says of a whole data set, batch by batch."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import HERE, How, Model
from facetx.evaluators.reading import answered, evaluation_mode, forward_only, mirrored, read_batches
from facetx.tasks.base import Task

Outputs = dict[str, Tensor]


def predictions(
    model: Model,
    dataset: FaceDataset,
    how: How = HERE,
    *,
    indices: Sequence[int] | None = None,
    fields: frozenset[str] = frozenset(),
    flip: bool = False,
    resize: bool = False,
) -> Iterator[tuple[list[int], dict[str, Tensor], list[Outputs]]]:
    """Of each batch its items, their fields, and what ``Task.predict`` says of the images and, with ``flip``, of their
    mirrors.

    The task runs in evaluation mode and without gradients, and is left in the mode that it was in.

    Args:
        model: A task, on ``how.device``.
        dataset: Aligned faces of the contract's size; of any, with ``resize``.
        how: Device, batch size, workers and precision.
        indices: Items, in this order; all by default.
        fields: What is read beside images, such as the answers that are looked for.
        flip: Ask of the mirrors too. What has sides comes out with its sides changed.
        resize: As ``read_batches`` has it.

    Raises ``DataError`` for a backbone, which predicts embeddings alone, and as ``read_batches`` does.
    """
    if not isinstance(model, Task):
        raise DataError(
            f"{dataset.name}: a backbone alone predicts nothing but embeddings; this asks a whole task, with its head, "
            "so it runs as an evaluator of training"
        )
    with evaluation_mode(model):
        for items, batch in read_batches(dataset, model.backbone, how, indices=indices, fields=fields, resize=resize):
            seen = [batch, mirrored(batch)] if flip else [batch]
            with forward_only(how):
                outputs = [answered(model, model.predict, view, how) for view in seen]
            yield items, batch, outputs
