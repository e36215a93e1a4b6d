"""What a run will train and what it will cost, in words."""

import torch

from facetx.errors import some
from facetx.nn.freeze import frozen_parts
from facetx.nn.profile import parameter_count, profile
from facetx.processes import count
from facetx.training.build import Run
from facetx.training.memory import foretell, ways_to_fit

COMPILED = {False: "eager", True: "compiled", "blocks": "its blocks compiled"}
ROOM = 0.92
"""The share of a card's memory that tensors may take; the rest is CUDA's own, and gaps."""


def describe_run(run: Run) -> str:
    """What a run will train, and what it will cost: for --dry-run and the head of a log."""
    s, p = run.settings, profile((run.outline or run.task).backbone)
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
        f"  memory      {memory(run)}",
        *(
            [f"  processes   {count()}, {s.train.batch_size // count()} images each; {s.train.parallel}"]
            if count() > 1
            else []
        ),
        f"  precision   {run.precision} on {run.device}, {COMPILED[s.train.compile]}",
    ]
    return "\n".join(lines)


def what_is_trained(run: Run) -> str:
    """How much of the backbone is trained, and what of it is frozen."""
    parameters = list(run.backbone.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    first = run.settings.train.head_first_steps
    return (
        f"{trained / 1e6:.2f} M of the backbone's {sum(p.numel() for p in parameters) / 1e6:.2f} M parameters; "
        f"frozen: {some(frozen_parts(run.backbone), show=12) or 'none'}"
        + (f"; the head alone for the first {first:,} steps" if first else "")
    )


def memory(run: Run) -> str:
    """How much memory of the device it will take, and where that has less, what to set."""
    need = foretell(run)
    text = (
        f"about {need.total / 2**20:,.0f} MiB on {run.device}: {need.state / 2**20:,.0f} of weights and optimizer, "
        f"{need.step / 2**20:,.0f} at the height of a step{'' if need.whole else ', without the head'}"
    )
    if run.device.type != "cuda":
        return text
    room = torch.cuda.get_device_properties(run.device).total_memory
    if need.total <= ROOM * room:
        return text
    ways = "; ".join(ways_to_fit(run, int(ROOM * room))) or "a smaller train.batch_size"
    return f"{text}; that is too much for the {room / 2**30:.1f} GiB there, so set {ways}"
