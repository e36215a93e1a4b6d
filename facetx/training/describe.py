"""What a run will train and what it will cost, in words."""

import torch
from torch import nn

from facetx.errors import some
from facetx.nn.freeze import frozen_parts
from facetx.nn.profile import parameter_count, profile, run_on_meta
from facetx.processes import count, own
from facetx.training.build import Run


def describe_run(run: Run) -> str:
    """What a run will train, and what it will cost: for --dry-run and the head of a log."""
    s, p = run.settings, profile(run.outline or run.backbone)
    besides = parameter_count(run.task) - parameter_count(run.backbone)
    learned = " + ".join(h.name for h in s.head) or s.task.name
    epochs = run.total_steps / run.steps_per_epoch
    lines = [
        f"{s.name}: {s.model.name} + {learned} on {run.dataset.name}",
        f"  data        {len(run.dataset):,} images of {run.dataset.num_classes:,} identities",
        f"  backbone    {p.parameters / 1e6:.2f} M parameters, {p.macs / 1e9:.3f} GMACs an image "
        f"({(p.macs - p.attention_macs) / 1e9:.3f} without the attention products)",
        *([f"  head        {besides / 1e6:.2f} M parameters"] if besides else []),
        f"  trained     {what_is_trained(run)}",
        f"  input       {run.backbone.contract}",
        f"  steps       {run.total_steps:,} of {s.train.batch_size} images: {epochs:.2f} epochs of "
        f"{run.steps_per_epoch:,}",
        f"  memory      about {memory_estimate(run) / 2**20:,.0f} MiB on {run.device} for weights, gradients, "
        f"optimizer and activations",
        *(
            [f"  processes   {count()}, {s.train.batch_size // count()} images each; {s.train.parallel}"]
            if count() > 1
            else []
        ),
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
        output = run_on_meta(run.outline or run.backbone)
    del output
    copies = 2 + {"sgd": 1}.get(run.settings.optim.name, 2)
    weights = sum(4 * own(q).numel() * (copies if q.requires_grad else 1) for q in run.task.parameters())
    batch = run.settings.train.batch_size // count() // run.settings.optim.accumulate
    activations = batch * sum(kept.values()) // (2 if run.precision == "bf16" else 1)
    logits = 3 * 4 * batch * run.dataset.num_classes
    return weights + activations + logits
