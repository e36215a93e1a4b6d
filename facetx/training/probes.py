"""What is tried before step 1: one item of each data set, and the network on it."""

import logging

import torch

from facetx.data.cache import Cached
from facetx.data.loader import Batch
from facetx.data.sample import collate
from facetx.errors import ConfigError, DataError, is_resource
from facetx.evaluators import Evaluator, How, predictions
from facetx.evaluators.embedding import embed_views
from facetx.nn.backbone import embed_batch
from facetx.training.build import Run
from facetx.training.step import autocast

log = logging.getLogger("facetx")


def open_data(run: Run) -> None:
    """Puts the cache in, where the settings ask for one, and tries one item of the training set and of each evaluator.

    ``build`` itself reads no image. What is tried here would fail at the first step or evaluation: the images' size,
    the keypoints, and networks of other libraries, of which some are built for sizes that they cannot compute.

    Raises ``DataError`` where an item is of another size than the model takes, or lacks the keypoints that it needs,
    and ``ConfigError`` where the backbone does not run.
    """
    if run.settings.data.cache:
        run.items.dataset = Cached(run.dataset, run.task.needs, shared=run.settings.data.workers > 0)
    item = run.items[0, 0]
    name = run.settings.model.name
    if run.backbone.needs_keypoints and "keypoints" not in item:
        raise DataError(
            f"model {name} needs five facial keypoints of each image, and {run.dataset.name} has "
            f"none: give data.args.landmarks, use data that has them, or choose a backbone without KP-RPE"
        )
    with torch.random.fork_rng(devices=[]):  # whatever a network draws here, training must not feel it
        try_backbone(run, run.items.finished(collate([item])))
        for evaluator in run.evaluators:
            for note in evaluator.notes:
                log.warning("evaluator %s: %s", evaluator.name, note)
            if evaluator.dataset is not None:
                try_evaluator(run, evaluator)


def try_backbone(run: Run, batch: Batch) -> None:
    """Raises ``ConfigError`` where the backbone does not run on a batch. It is left in training mode."""
    moved = {name: field.to(run.device) for name, field in batch.items() if name in ("image", "keypoints")}
    try:
        with torch.no_grad(), autocast(run):
            embed_batch(run.backbone.eval(), moved)
    except Exception as error:  # other libraries' networks have no error of their own
        if is_resource(error):
            raise
        raise ConfigError(
            f"model {run.settings.model.name} does not run on images of {run.backbone.contract.size} pixels "
            f"({type(error).__name__}: {error}); choose another model.args.image_size, or another model"
        ) from error
    run.backbone.train()


def try_evaluator(run: Run, evaluator: Evaluator) -> None:
    """Raises ``DataError`` where the first image that an evaluator uses is not what the backbone takes."""
    assert evaluator.dataset is not None
    first = int(evaluator.terms().items[0])
    how = How(run.device, amp=run.precision == "bf16")
    try:
        if evaluator.own_size:
            for _ in predictions(run.task, evaluator.dataset, how, indices=[first], resize=True):
                pass
        else:
            embed_views(run.backbone, evaluator.dataset, how, indices=[first], flip=False)
    except DataError as error:
        raise DataError(f"evaluator {evaluator.name}: {error}") from error
