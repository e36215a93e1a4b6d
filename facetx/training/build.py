"""Settings to the objects that train: all of them, or a ``FacetxError`` before the first step."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.format import Checkpoint
from facetx.config import Settings, create
from facetx.contract import InputContract
from facetx.data import DATASETS
from facetx.data.cache import Cached
from facetx.data.loader import Batch, StepSampler, TrainingItems, collate
from facetx.data.samplers import SAMPLERS
from facetx.data.transforms import TRANSFORMS
from facetx.errors import ConfigError, DataError, some
from facetx.evaluators import EVALUATORS
from facetx.evaluators.embedding import embed_views
from facetx.evaluators.verification import PairVerification
from facetx.heads import HEADS, JointHead
from facetx.nn.device import pick_device
from facetx.nn.freeze import frozen_parts
from facetx.nn.profile import parameter_count, profile, run_on_meta
from facetx.optim import OPTIMIZERS, SCHEDULES, Schedule, layer_rates, parameter_groups
from facetx.tasks import TASKS


@dataclass
class Run:
    """What ``build`` makes of settings."""

    settings: Settings
    device: torch.device
    dataset: Any
    items: TrainingItems
    task: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    evaluators: list[Any]
    total_steps: int
    steps_per_epoch: int

    @property
    def backbone(self) -> Any:
        return self.task.backbone

    @property
    def precision(self) -> str:
        """ "bf16" or "fp32", "auto" resolved."""
        asked = self.settings.train.precision
        return asked if asked != "auto" else ("bf16" if self.device.type == "cuda" else "fp32")

    def sampler(self, start: int) -> StepSampler:
        """The batches from step ``start`` to the end."""
        s = self.settings
        batches = create(SAMPLERS, s.data.sampler)
        return StepSampler(batches, self.dataset.labels, s.train.batch_size, s.seed, start, self.total_steps)


def build(settings: Settings, start_from: Checkpoint | None = None) -> Run:
    """Builds everything. The initial weights are a function of ``settings.seed``.

    With ``start_from``, whose weights the caller will load, the input contract is the checkpoint's, and no first
    weights are looked for.
    """
    device = pick_device(settings.device)
    dataset = create(DATASETS, settings.data)

    check_labels(dataset)

    torch.manual_seed(settings.seed)
    backbone = build_backbone(settings.model, InputContract(**start_from.meta["input"]) if start_from else None)
    sizes = {"embedding_dim": backbone.embedding_dim, "num_classes": dataset.num_classes}
    heads = [(h.weight, create(HEADS, h, **sizes)) for h in settings.head]
    head = heads[0][1]
    if len(heads) > 1 or heads[0][0] != 1.0:
        names = [h.name for h in settings.head]
        head = JointHead(heads, names if len(set(names)) == len(names) else ())
    task = create(TASKS, settings.task, backbone=backbone, head=head).to(device)

    evaluators = [create(EVALUATORS, e) for e in settings.evaluators]
    names = [e.name for e in evaluators]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"evaluators: {names.count(name)} are called {name!r}; give each its own args.name")
    if settings.select is not None and settings.select.split("/")[0] not in names:
        raise ConfigError(f"select: {settings.select!r} is no value of an evaluator; they are {', '.join(names)}")

    transforms = [create(TRANSFORMS, t) for t in settings.data.transforms]
    items = TrainingItems(dataset, transforms, settings.seed, backbone.contract.size)
    rates = None
    if settings.optim.layer_decay is not None:
        rates = {f"backbone.{k}": v for k, v in layer_rates(backbone, settings.optim.layer_decay).items()}
    optimizer = create(OPTIMIZERS, settings.optim)(
        parameter_groups(task, settings.optim.weight_decay, rates), lr=settings.optim.lr
    )
    batches = create(SAMPLERS, settings.data.sampler)
    epoch = batches(dataset.labels, settings.train.batch_size, settings.seed, 0)
    steps_per_epoch = len(epoch)
    for part, (_, one) in zip(settings.head, heads):
        if one.needs_pairs:
            check_pairs(dataset.labels[epoch[:20]], part.name, settings.data.sampler.name)
    total = settings.train.steps or math.ceil((settings.train.epochs or 0) * steps_per_epoch)
    if settings.schedule.warmup_steps >= total:
        raise ConfigError(
            f"schedule.warmup_steps: {settings.schedule.warmup_steps} steps of warm-up in a run of {total}; lower it"
        )
    if settings.train.head_first_steps >= total:
        raise ConfigError(f"train.head_first_steps: {settings.train.head_first_steps} in a run of {total}; lower it")
    if settings.train.head_first_steps and not any(p.requires_grad for p in head.parameters()):
        raise ConfigError("train.head_first_steps: no head here has weights that could be trained first; set it to 0")
    if settings.train.batch_size % settings.optim.accumulate:
        raise ConfigError(
            f"optim.accumulate: {settings.optim.accumulate} does not divide train.batch_size "
            f"{settings.train.batch_size}"
        )
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
    )


def check_labels(dataset: Any) -> None:
    """Raises ``DataError`` for a data set whose labels are not classes from 0 to ``num_classes - 1``."""
    low, high = int(dataset.labels.min()), int(dataset.labels.max())
    if low < 0 or high >= dataset.num_classes:
        raise DataError(
            f"{dataset.name}: labels run from {low} to {high}, and with {dataset.num_classes} classes they must be "
            f"in 0 to {dataset.num_classes - 1}"
        )


def check_pairs(labels: np.ndarray, head: str, sampler: str) -> None:
    """Raises ``ConfigError`` where most images of the batches ``labels`` (batches, B) are alone of their identity."""
    others = (labels[:, :, None] == labels[:, None, :]).sum(2) - 1  # (batches, B)
    share = float((others > 0).mean())
    if share < 0.5:
        raise ConfigError(
            f"head {head}: learns from images of one identity in a batch, but with the sampler {sampler!r} only "
            f"{share:.0%} of them have such a partner; set data.sampler to {{name: identities, args: {{images: 4}}}}"
        )


def open_data(run: Run) -> None:
    """Puts the cache in, where the settings ask for one, and tries one item of the training set and of each evaluator.

    ``build`` itself reads no image. What is tried here would fail at the first step or evaluation: the images' size,
    the keypoints, and networks of other libraries, of which some are built for sizes that they cannot compute.

    Raises ``DataError`` where an item is of another size than the model takes, or lacks the keypoints that it needs,
    and ``ConfigError`` where the backbone does not run.
    """
    if run.settings.data.cache:
        run.items.dataset = Cached(run.dataset)
    item = run.items[0, 0]
    name = run.settings.model.name
    if run.backbone.needs_keypoints and "keypoints" not in item:
        raise DataError(
            f"model {name} needs five facial keypoints of each image, and {run.dataset.name} has "
            f"none: give data.args.landmarks, use data that has them, or choose a backbone without KP-RPE"
        )
    with torch.random.fork_rng(devices=[]):  # whatever a network draws here, training must not feel it
        try_backbone(run, collate([item]))
        for evaluator in run.evaluators:
            if hasattr(evaluator, "dataset"):  # a user's own may do without
                try_evaluator(run, evaluator)


def try_backbone(run: Run, batch: Batch) -> None:
    """Raises ``ConfigError`` where the backbone does not run on a batch. It is left in training mode."""
    points = [batch["keypoints"].to(run.device)] if run.backbone.needs_keypoints else []
    images = run.backbone.contract(batch["image"].to(run.device))
    autocast = torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16")
    try:
        with torch.no_grad(), autocast:
            run.backbone.eval()(images, *points)
    except Exception as error:  # other libraries' networks have no error of their own
        raise ConfigError(
            f"model {run.settings.model.name} does not run on images of {run.backbone.contract.size} pixels "
            f"({type(error).__name__}: {error}); choose another model.args.image_size, or another model"
        ) from error
    run.backbone.train()


def try_evaluator(run: Run, evaluator: Any) -> None:
    """Raises ``DataError`` where the first image of an evaluator is not what the backbone takes."""
    first = int(evaluator.first[0]) if isinstance(evaluator, PairVerification) else 0  # of the images that it uses
    how: dict[str, Any] = {"device": run.device, "amp": run.precision == "bf16", "flip": False}
    try:
        embed_views(run.backbone, evaluator.dataset, indices=[first], **how)
    except DataError as error:
        raise DataError(f"evaluator {evaluator.name}: {error}") from error


def describe_run(run: Run) -> str:
    """What a run will train, and what it will cost: for --dry-run and the head of a log."""
    s, p = run.settings, profile(run.backbone)
    head = parameter_count(run.task.head)  # type: ignore[arg-type]
    epochs = run.total_steps / run.steps_per_epoch
    lines = [
        f"{s.name}: {s.model.name} + {' + '.join(h.name for h in s.head)} on {run.dataset.name}",
        f"  data        {len(run.dataset):,} images of {run.dataset.num_classes:,} identities",
        f"  backbone    {p.parameters / 1e6:.2f} M parameters, {p.macs / 1e9:.3f} GMACs an image "
        f"({(p.macs - p.attention_macs) / 1e9:.3f} without the attention products)",
        *([f"  head        {head / 1e6:.2f} M parameters"] if head else []),
        f"  trained     {what_is_trained(run)}",
        f"  input       {run.backbone.contract}",
        f"  steps       {run.total_steps:,} of {s.train.batch_size} images: {epochs:.2f} epochs of "
        f"{run.steps_per_epoch:,}",
        f"  memory      about {memory_estimate(run) / 2**20:,.0f} MiB on {run.device} for weights, gradients, "
        f"optimizer and activations",
        f"  precision   {run.precision} on {run.device}, {'compiled' if s.train.compile else 'eager'}",
    ]
    return "\n".join(lines)


def what_is_trained(run: Run) -> str:
    """How much of the backbone is trained, and what of it is frozen."""
    parameters = list(run.backbone.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    first = run.settings.train.head_first_steps
    return (
        f"{trained / 1e6:.2f} M of {sum(p.numel() for p in parameters) / 1e6:.2f} M parameters; "
        f"frozen: {some(frozen_parts(run.backbone), show=12) or 'none'}"
        + (f"; the head alone for the first {first:,} steps" if first else "")
    )


def memory_estimate(run: Run) -> int:
    """Bytes: fp32 weights, their gradients, the optimizer's state, and what a backward pass keeps.

    The last is counted on one image without values, so nothing is allocated; a fused kernel may keep less.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[id(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = run_on_meta(run.backbone)
    del output
    copies = 2 + {"sgd": 1}.get(run.settings.optim.name, 2)
    weights = sum(4 * q.numel() * (copies if q.requires_grad else 1) for q in run.task.parameters())
    batch = run.settings.train.batch_size // run.settings.optim.accumulate
    activations = batch * sum(kept.values()) // (2 if run.precision == "bf16" else 1)
    logits = 3 * 4 * batch * run.dataset.num_classes
    return weights + activations + logits
