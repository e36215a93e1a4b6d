"""One optimizer step: gradients of a batch, all at once or in parts, and nothing changed where they are not finite."""

from collections.abc import Sequence

import torch
from torch import Tensor

from facetx.data.loader import Batch
from facetx.nn.statistics import Remembered
from facetx.optim import rate_at
from facetx.processes import count, means, rank
from facetx.training.build import Run
from facetx.training.hold import hold_backbone
from facetx.training.parallel import average_gradients, held_back, norm_of_all, take_gradients


def training_step(run: Run, batch: Batch, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """One optimizer step. Returns its scalars and whether it was finite, a bool on the device.

    A step that was not finite changes nothing: no weight, no moment, no statistic. That is decided on the device.
    """
    s = run.settings
    torch.manual_seed(seed_of(run, step))
    rate = rate_at(run.schedule, step, run.total_steps, s.schedule.warmup_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = s.optim.lr * rate * group.get("lr_scale", 1.0)
    if s.train.head_first_steps:
        hold_backbone(run.backbone, run.optimizer, still=step < s.train.head_first_steps)
    run.task.at_step(step)
    run.optimizer.zero_grad(set_to_none=True)
    before = Remembered(run.task)

    whole = {k: v.to(run.device, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
    whole = run.items.finished(whole)
    parts = split(whole, s.optim.accumulate)
    if len(parts) == 1 or run.task.parts_are_independent:
        scalars = summed_gradients(run, parts)
    else:
        scalars = gathered_gradients(run, whole, parts, step, before)

    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    take_gradients(run.split, run.optimizer.param_groups)
    norm = norm_of_all(run.optimizer.param_groups, run.split)
    if s.optim.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, s.optim.clip_norm, norm)
    scalars = means(scalars)  # of all processes, so that all see the same
    finite = torch.isfinite(scalars["loss"]) & torch.isfinite(norm)
    # The fused optimizers leave weights and moments alone where this is 1: no look at the device is needed.
    run.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    run.optimizer.step()
    before.settle(finite)
    return {**scalars, "grad_norm": norm}, finite


def seed_of(run: Run, step: int, part: int = 0) -> int:
    """Dropout and the like are a function of (seed, step, rank): nothing of the generators needs saving.

    A part of the batch that is computed twice draws the same numbers both times.
    """
    return (run.settings.seed + 1009 * part + 10_000_019 * rank()) * 1_000_003 + step + 1


def split(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """The batch in ``parts`` equal pieces."""
    size = len(batch["image"]) // parts
    return [{k: v[i * size : (i + 1) * size] for k, v in batch.items()} for i in range(parts)]


def autocast(run: Run) -> torch.autocast:
    """The run's precision; what must be exact turns it off by itself."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16")


def summed_gradients(run: Run, parts: Sequence[Batch]) -> dict[str, Tensor]:
    """The gradients of the mean of the parts' losses, and the means of their scalars."""
    scalars: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        with held_back(run.learner, last=number == len(parts)), autocast(run):
            out = run.learner(part)
        (out["loss"] / len(parts)).backward()
        for name, value in out.items():
            mean = value.detach() / len(parts)
            scalars[name] = scalars[name] + mean if name in scalars else mean
    return scalars


def gathered_gradients(
    run: Run, whole: Batch, parts: Sequence[Batch], step: int, before: Remembered
) -> dict[str, Tensor]:
    """The gradients of the loss of the whole batch, with the activations of one part at a time (arXiv 2101.06983).

    All parts are embedded and their activations forgotten; the loss of all embeddings gives each its gradient; then the
    parts are embedded again, the same, and take it on. That costs a second forward pass.

    Both passes run the same code with the same random numbers, so that they also draw the same dropout when compiled.
    Statistics of the backbone move in the second alone.
    """
    embeddings = []
    for i, part in enumerate(parts):
        torch.manual_seed(seed_of(run, step, i))
        with autocast(run):
            embeddings.append(run.task.embed(part))
        learns = embeddings[i].requires_grad  # not so while the backbone is held still
        embeddings[i] = embeddings[i].detach()
    if learns:
        before.settle(torch.zeros((), dtype=torch.bool, device=run.device))

    gathered = torch.cat(embeddings).requires_grad_()
    torch.manual_seed(seed_of(run, step))
    with autocast(run):
        scalars = run.task.loss(gathered, whole)
    scalars["loss"].backward()
    if learns:
        assert gathered.grad is not None
        for i, (part, gradient) in enumerate(zip(parts, gathered.grad.chunk(len(parts)))):
            torch.manual_seed(seed_of(run, step, i))
            with autocast(run):
                again = run.task.embed(part)
            again.backward(gradient)
    if count() > 1:
        average_gradients(run.optimizer.param_groups, run.split)
    return {name: value.detach() for name, value in scalars.items()}
