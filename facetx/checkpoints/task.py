"""A task from its settings and what it must know of its data: for training, and for what a run published."""

import fnmatch
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from facetx.checkpoints.backbone import build_backbone, load_plugins_of
from facetx.checkpoints.format import Checkpoint, find_checkpoint
from facetx.checkpoints.weights import load_weights
from facetx.config import create
from facetx.config.parts import Part
from facetx.config.settings import HeadSettings
from facetx.data.base import Description
from facetx.errors import CheckpointError, ConfigError, some
from facetx.heads import HEADS, Head, JointHead
from facetx.nn.backbone import Backbone
from facetx.nn.freeze import freeze
from facetx.registry import parameters
from facetx.tasks import TASKS, Task

log = logging.getLogger("facetx")


def build_task(
    task: Part, heads: tuple[HeadSettings, ...], backbone: Backbone, data: Description, frozen: Iterable[str] = ()
) -> Task:
    """The task that its settings name, on the CPU.

    Args:
        task: Its settings.
        heads: The losses of ``head``, for a task that takes a head.
        backbone: Images -> embeddings.
        data: Of the training set.
        frozen: Shell patterns of modules that stay as they are, by their names in the backbone, or in what the task
            publishes.

    Raises ``ConfigError`` where the task wants a head and none is given, or takes none and some are, and whatever its
    builder and the heads' refuse.
    """
    takes_head = "head" in parameters(TASKS[task.name])
    if takes_head and not heads:
        raise ConfigError(f"head: the task {task.name} needs one, such as head: cosface")
    if heads and not takes_head:
        raise ConfigError(f"head: the task {task.name} takes none; leave it out")
    head = {"head": build_head(heads, backbone.embedding_dim, data.num_classes)} if takes_head else {}
    built: Task = create(TASKS, task, backbone=backbone, data=data, **head)
    names = [name for name, _ in backbone.named_modules()]
    of_backbone = [pattern for pattern in frozen if fnmatch.filter(names, pattern)]
    freeze(backbone, of_backbone)
    freeze(built.published(), [pattern for pattern in frozen if pattern not in of_backbone])
    return built


def build_head(heads: tuple[HeadSettings, ...], embedding_dim: int, num_classes: int) -> Head:
    """One head, or several whose losses are summed by weight."""
    built = [(h.weight, create(HEADS, h, embedding_dim=embedding_dim, num_classes=num_classes)) for h in heads]
    if len(built) == 1 and built[0][0] == 1.0:
        return built[0][1]
    names = [h.name for h in heads]
    return JointHead(built, names if len(set(names)) == len(names) else ())


def start_task_from(task: Task, path: str) -> None:
    """Takes over what another run has published beside its backbone, where it fits; the log says what begins anew.

    Args:
        task: Changed in place; its backbone has its weights already.
        path: ``model.init_from``: of a run or a checkpoint. A file has a backbone alone.
    """
    own = {name: value for name, value in task.published().state_dict().items() if not name.startswith("backbone.")}
    if task.published() is task.backbone or not own or not Path(path).is_dir():
        return
    checkpoint = find_checkpoint(path, "BEST")
    theirs = {name: value for name, value in checkpoint.weights().items() if name in own}
    data = checkpoint.meta.data
    if data is not None and data.mask_classes != task.mask_classes:  # as many classes may be others, in another order
        theirs = {name: value for name, value in theirs.items() if not name.startswith(task.class_parts)}
    fitting = {name: value for name, value in theirs.items() if value.shape == own[name].shape}
    task.published().load_state_dict(fitting, strict=False)
    if new := [name for name in own if name not in fitting]:
        log.info("model.init_from: %s has the backbone; begins anew: %s", checkpoint.path, some(new))


def load_published(checkpoint: Checkpoint) -> Backbone | Task:
    """What a run has published, on the CPU: its backbone, or the task itself, where that is what it publishes.

    Raises ``CheckpointError`` where the weights do not fit the settings, ``ConfigError`` for a module of the run's that
    is not found here.
    """
    weights, where = checkpoint.weights(), str(checkpoint.path)
    backbone = _backbone_of(checkpoint)
    if not any(name.startswith("backbone.") for name in weights):
        load_weights(backbone, weights, where)
        return backbone
    task = _task_of(checkpoint, backbone)
    published = task.published()
    load_weights(published, weights, where)
    return published if isinstance(published, Task) else task


def load_whole(checkpoint: Checkpoint) -> Task:
    """The task of a run with all that it has learned, its head too, on the CPU: the trained weights, not averaged ones.

    Raises ``CheckpointError`` as ``load_published`` does, and where the checkpoint has what was published alone.
    """
    state = checkpoint.state()
    task = _task_of(checkpoint, _backbone_of(checkpoint))
    rest = {} if state["averaged"] else within(task, checkpoint.weights())
    load_weights(task, {**rest, **state["task"]}, str(checkpoint.path))
    return task


def within(task: Task, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a task has published, by its names in the task."""
    module = task.published()
    prefix = next((name for name, other in task.named_modules() if other is module), "")  # a task of its parts has none
    return {f"{prefix}.{name}" if prefix else name: value for name, value in published.items()}


def _backbone_of(checkpoint: Checkpoint) -> Backbone:
    load_plugins_of(checkpoint)
    return build_backbone(checkpoint.meta.settings.model, checkpoint.meta.input)


def _task_of(checkpoint: Checkpoint, backbone: Backbone) -> Task:
    settings, data = checkpoint.meta.settings, checkpoint.meta.data
    if data is None:
        raise CheckpointError(f"{checkpoint.path}: does not say what data its task was trained on, to be built by")
    return build_task(settings.task, settings.head, backbone, data)
