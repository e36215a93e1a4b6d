"""Settings to the objects that train: all of them, or a ``FacetxError`` before the first step."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.format import Checkpoint
from facetx.checkpoints.task import build_task, start_task_from
from facetx.config import Settings, create
from facetx.config.dataset import open_dataset, open_training_set
from facetx.config.parts import check_args
from facetx.config.settings import EvaluatorSettings
from facetx.data.base import FaceDataset
from facetx.data.batched import MOVED, STILL
from facetx.data.digest import NOTHING, overlap
from facetx.data.joined import UNKNOWN, Member, Together, members_of
from facetx.data.loader import Batches, StepSampler, TrainingItems
from facetx.data.samplers import SAMPLERS
from facetx.data.transforms import TRANSFORMS
from facetx.errors import ConfigError, DataError, some
from facetx.evaluators import EVALUATORS, Evaluator, build_evaluator, data_size
from facetx.evaluators.classification import Classification
from facetx.evaluators.parsing import ParsingEvaluator
from facetx.heads import JointHead
from facetx.nn.backbone import Backbone
from facetx.nn.batch_norm import SyncedBatchNorm, sync_batch_norm
from facetx.nn.device import pick_device
from facetx.nn.meta import without_values
from facetx.optim import OPTIMIZERS, SCHEDULES, Schedule, layer_rates, parameter_groups
from facetx.processes import count, rank
from facetx.tasks import Recognition, Task
from facetx.training.parallel import learner, parameters_here, split_backbone, split_heads

log = logging.getLogger("facetx")


@dataclass
class Run:
    """What ``build`` makes of settings.

    ``split`` are the parameters of which this process holds a part alone, by name; the optimizer has these parts.
    ``outline`` is the task without values, whole, where there are several processes.
    """

    settings: Settings
    device: torch.device
    dataset: FaceDataset
    items: TrainingItems
    task: Task
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    evaluators: list[Evaluator]
    total_steps: int
    steps_per_epoch: int
    split: dict[str, nn.Parameter] = field(default_factory=dict)
    spread: nn.Module | None = None
    outline: Task | None = None

    @property
    def learner(self) -> nn.Module:
        """What computes the loss of this process's images; its gradients are those of all."""
        return self.task if self.spread is None else self.spread

    @property
    def backbone(self) -> Backbone:
        return self.task.backbone

    @property
    def precision(self) -> str:
        """ "bf16" or "fp32", "auto" resolved."""
        asked = self.settings.train.precision
        return asked if asked != "auto" else ("bf16" if self.device.type == "cuda" else "fp32")

    @cached_property
    def digest(self) -> dict[str, Any]:
        """Of the training set."""
        return self.dataset.digest()

    def sampler(self, start: int) -> Batches:
        """The batches from step ``start`` to the end."""
        s = self.settings
        each = [
            StepSampler(create(SAMPLERS, s.data.sampler), m.dataset.labels, m.each, s.seed + n, start, self.total_steps)
            for n, m in enumerate(members_of(self.dataset, s.train.batch_size))
        ]
        return Together(each, rank(), count())


def build(settings: Settings, start_from: Checkpoint | None = None) -> Run:
    """Builds everything. The initial weights are a function of ``settings.seed``.

    With ``start_from``, whose weights the caller will load, the input contract is the checkpoint's, and no first
    weights are looked for.
    """
    device = pick_device(settings.device)
    torch.manual_seed(settings.seed)
    backbone = build_backbone(settings.model, start_from.meta.input if start_from else None)
    transforms = [create(TRANSFORMS, t) for t in settings.data.transforms]
    sized = any(transform.sets_size for transform in transforms)
    size = None if sized else backbone.contract.size
    dataset = open_training_set(settings.data, size, settings.train.batch_size)
    task = build_task(settings.task, settings.head, backbone, dataset.description(), settings.model.freeze)
    check_labels(dataset, task)
    if settings.model.init_from is not None and start_from is None:
        start_task_from(task, settings.model.init_from)
    check_parts_are_independent(task)
    outline = without_values(task) if count() > 1 else None
    assert outline is None or isinstance(outline, Task)
    split_heads(task, device)
    task.to(device)
    if settings.train.channels_last:
        task.to(memory_format=torch.channels_last)
    if settings.train.sync_batch_norm:
        sync_batch_norm(task)
    split_backbone(backbone, settings.train)

    evaluators = [evaluator_of(e, backbone.contract.size) for e in settings.evaluators]
    for part, evaluator in zip(settings.evaluators, evaluators):
        if isinstance(evaluator, Classification):
            evaluator.check(dataset.identities, dataset.num_classes)
        elif isinstance(evaluator, ParsingEvaluator):
            evaluator.check(task)
        if not part.allow_overlap:
            check_overlap(dataset, evaluator)
    names = [e.name for e in evaluators]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"evaluators: {names.count(name)} are called {name!r}; give each its own args.name")
    if settings.select is not None and settings.select.split("/")[0] not in names:
        raise ConfigError(f"select: {settings.select!r} is no value of an evaluator; they are {', '.join(names)}")

    items = TrainingItems(
        dataset,
        transforms,
        settings.seed,
        backbone.contract.size,
        task.needs,
        draw_only=settings.data.augment_on == "device",
    )
    if items.draw_only:
        check_augmentation(items, task)
    rates = None
    if settings.optim.layer_decay is not None:
        rates = {f"backbone.{k}": v for k, v in layer_rates(backbone, settings.optim.layer_decay).items()}
    groups = parameter_groups(task, settings.optim.weight_decay, rates)
    split = parameters_here(groups)
    optimizer = create(OPTIMIZERS, settings.optim)(groups, lr=settings.optim.lr)
    members = members_of(dataset, settings.train.batch_size)
    order = create(SAMPLERS, settings.data.sampler)
    steps_per_epoch = order.steps(members[0].dataset.labels, members[0].each)
    if task.needs_pairs:
        for member in (member for member in members if member.identities):
            order = create(SAMPLERS, settings.data.sampler)
            first = islice(order.epoch(member.dataset.labels, member.each, settings.seed, 0), 20)
            check_pairs(member.dataset.labels[np.stack(list(first))], task, settings)
    total = settings.train.steps or math.ceil((settings.train.epochs or 0) * steps_per_epoch)
    if settings.schedule.warmup_steps >= total:
        raise ConfigError(
            f"schedule.warmup_steps: {settings.schedule.warmup_steps} steps of warm-up in a run of {total}; lower it"
        )
    if settings.train.head_first_steps >= total:
        raise ConfigError(f"train.head_first_steps: {settings.train.head_first_steps} in a run of {total}; lower it")
    besides = [p for name, p in task.named_parameters() if p.requires_grad and not name.startswith("backbone.")]
    if settings.train.head_first_steps and not besides:
        raise ConfigError("train.head_first_steps: no head here has weights that could be trained first; set it to 0")
    check_parts(settings.train.batch_size, settings.optim.accumulate)
    check_shares(members, settings.optim.accumulate)
    note_batch_norm(task, settings.train.batch_size, settings.optim.accumulate)
    return Run(
        settings=settings,
        device=device,
        dataset=dataset,
        items=items,
        task=task,
        optimizer=optimizer,
        schedule=create(SCHEDULES, settings.schedule),
        evaluators=evaluators,
        total_steps=total,
        steps_per_epoch=steps_per_epoch,
        split=split,
        outline=outline,
        spread=learner(task, settings.train) if count() > 1 else None,
    )


def check_parts_are_independent(task: Task) -> None:
    """Raises ``ConfigError`` where several processes would not train as one."""
    if count() > 1 and not (task.parts_are_independent or isinstance(task, Recognition)):
        raise ConfigError(
            f"task {type(task).__name__}: its loss is one of the whole batch, and each of {count()} processes sees a "
            "part; train in one process, with optim.accumulate where memory is short, or choose a loss of each image"
        )


def check_parts(batch_size: int, accumulate: int) -> None:
    """Raises ``ConfigError`` where a batch cannot be dealt to the processes and cut into equal parts."""
    if batch_size % count():
        raise ConfigError(
            f"train.batch_size: {batch_size} images a step cannot be dealt to {count()} processes; make it a multiple, "
            f"such as {-(-batch_size // count()) * count()}"
        )
    if batch_size // count() % accumulate:
        each = f" / {count()} processes" if count() > 1 else ""
        raise ConfigError(f"optim.accumulate: {accumulate} does not divide train.batch_size {batch_size}{each}")


def check_shares(members: Sequence[Member], accumulate: int) -> None:
    """Raises ``ConfigError`` where the parts of a batch would not have equally many images of each data set."""
    parts = accumulate * count()
    for member in members:
        if member.each % parts:
            raise ConfigError(
                f"data.beside: {member.each} images of a batch are of {member.dataset.name}, and its {parts} parts "
                "(optim.accumulate x processes) cannot have equally many of them; choose train.batch_size and share so "
                f"that {parts} divides the images of each set"
            )


def evaluator_of(part: EvaluatorSettings, size: int) -> Evaluator:
    """An evaluator and its data set, both of the model's size unless their arguments say another, or the evaluator
    takes images of their own size."""
    dataset = None if part.data is None else open_dataset(part.data, data_size(part.name, size), part.crop)
    args = check_args(EVALUATORS[part.name], part.args, ("dataset",))
    return build_evaluator(part.name, dataset, args, size)


def check_overlap(dataset: FaceDataset, evaluator: Evaluator) -> None:
    """Raises ``DataError`` where an evaluator would ask about images, or people, that are trained on."""
    found = NOTHING if evaluator.dataset is None else overlap(dataset, evaluator.dataset)
    if found.images or (found.identities and not evaluator.closed_set):
        raise DataError(
            f"evaluator {evaluator.name}: {found} of its data are trained on, in {dataset.name}, so its numbers would "
            "not be those of new people; choose another part, other identities or images, or accept it with "
            "allow_overlap: true beside the evaluator's name"
        )


def check_augmentation(items: TrainingItems, task: Task) -> None:
    """Raises ``ConfigError`` where the device cannot make the augmentations."""
    if other := sorted(task.needs - MOVED - STILL):
        raise ConfigError(f"data.augment_on: the device does not move the field {other[0]!r}; set it to workers")
    assert len(items.widths) == len(items.transforms)  # each knows batches, or has said so


def check_labels(dataset: FaceDataset, task: Task) -> None:
    """Raises ``DataError`` for a data set whose labels are not classes from 0 to ``num_classes - 1``, and
    ``ConfigError`` where a task has no use for those that are unknown."""
    low, high = int(dataset.labels.min()), int(dataset.labels.max())
    if dataset.description().some_unknown and low == UNKNOWN:
        if "label" not in task.needs:
            return
        if high == UNKNOWN or not task.takes_unknown:
            raise ConfigError(
                f"data.identities: the identities of {dataset.name} are unknown in part or altogether, and this task "
                "learns them; take out identities: false, or put a set whose identities are learned beside it and take "
                "a task that learns more than identities, such as joint"
            )
        low = 0
    if low < 0 or high >= dataset.num_classes:
        raise DataError(
            f"{dataset.name}: labels run from {low} to {high}, and with {dataset.num_classes} classes they must be "
            f"in 0 to {dataset.num_classes - 1}"
        )


def check_pairs(labels: np.ndarray, task: Task, settings: Settings) -> None:
    """Raises ``ConfigError`` where most images of the batches ``labels`` (batches, B) are alone of their identity."""
    others = (labels[:, :, None] == labels[:, None, :]).sum(2) - 1  # (batches, B)
    share = float((others > 0).mean())
    if share < 0.5:
        joint = task.head if isinstance(task, Recognition) and isinstance(task.head, JointHead) else None
        wants = [head.needs_pairs for head in joint.heads] if joint else [True] * len(settings.head)
        heads = " and ".join(part.name for part, want in zip(settings.head, wants) if want) or settings.task.name
        sampler = settings.data.sampler.name
        raise ConfigError(
            f"head {heads}: learns from images of one identity in a batch, but with the sampler {sampler!r} only "
            f"{share:.0%} of them have such a partner; set data.sampler to {{name: identities, args: {{images: 4}}}}"
        )


def note_batch_norm(task: nn.Module, batch_size: int, parts: int) -> None:
    """Warns where a batch comes in parts, on one process or several, and batch norm takes its statistics of each part,
    so that the step differs."""
    norms = {
        name: module for name, module in task.named_modules() if isinstance(module, _BatchNorm) and module.training
    }
    together = all(isinstance(module, SyncedBatchNorm) for module in norms.values())
    layers, each = list(norms), parts if together else parts * count()
    if each > 1 and layers:
        log.warning(
            "%s: %d parts of %d images, and batch norm takes its statistics of each part, not of all %d "
            "images, so the step is not that of the whole batch (%s)",
            "optim.accumulate" if each == parts else f"{count()} processes without train.sync_batch_norm",
            each,
            batch_size // each,
            batch_size,
            some(layers, show=2),
        )
