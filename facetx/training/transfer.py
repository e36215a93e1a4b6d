"""A backbone from its settings: where its first weights come from, and which of them are trained."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facetx.backbones import BACKBONES
from facetx.config import create
from facetx.config.settings import ModelSettings
from facetx.contract import InputContract
from facetx.nn.freeze import freeze
from facetx.nn.lora import add_lora, merge_lora
from facetx.training.checkpoint import find_checkpoint, load_weights
from facetx.training.weights import read_weights

log = logging.getLogger("facetx")


def build_backbone(model: ModelSettings, trained_in: InputContract | None = None) -> Any:
    """The backbone that its settings name, on the CPU, with its input contract, LoRA and frozen parts.

    Args:
        model: The settings.
        trained_in: The contract of a checkpoint that the caller will load into it. Then nothing is downloaded, and
            ``init_from`` is not looked at.

    Raises ``FacetxError`` where it cannot be built, or ``init_from`` does not fit it.
    """
    if trained_in is not None and "pretrained" in model.args:
        model = model.model_copy(update={"args": {**model.args, "pretrained": False}})
    backbone = create(BACKBONES, model)
    theirs = trained_in
    if model.init_from is not None and trained_in is None:
        theirs = start_from(backbone, model.init_from)
    if theirs is not None:
        backbone.contract = dataclasses.replace(theirs, size=backbone.contract.size)
    if model.input is not None:
        backbone.contract = dataclasses.replace(backbone.contract, **model.input.model_dump())
        if theirs is not None and dataclasses.replace(theirs, size=backbone.contract.size) != backbone.contract:
            log.warning(
                "model.input: %s, but the weights were trained on %s; leave model.input out to take theirs",
                *(f"{c.color}, mean {c.mean}, std {c.std}" for c in (backbone.contract, theirs)),
            )
    if model.lora is not None:
        add_lora(backbone, **model.lora.model_dump())
    freeze(backbone, model.freeze)
    return backbone


def start_from(backbone: nn.Module, path: str) -> InputContract | None:
    """Loads the weights at ``path`` into a backbone, and returns the contract that they were trained in, if known.

    Args:
        backbone: Changed in place.
        path: A facetx run's folder (its best checkpoint), a checkpoint's folder, or a file of ``read_weights``.

    Raises ``CheckpointError`` that lists missing, unexpected and misshaped keys apart, unless all of them fit.
    """
    if not Path(path).is_dir():
        load_weights(backbone, read_weights(path), f"model.init_from: {path}")
        return None
    checkpoint = find_checkpoint(path, "BEST")
    contract = InputContract(**checkpoint.meta["input"])
    weights: dict[str, Tensor] = checkpoint.weights()
    model = ModelSettings.model_validate_json(json.dumps(checkpoint.meta["settings"]["model"]))
    if model.lora is not None:  # what was learnt is put into the layers that it corrects
        source = build_backbone(model, contract)
        load_weights(source, weights, str(checkpoint.path))
        merge_lora(source)
        weights = source.state_dict()
    load_weights(backbone, weights, f"model.init_from: {checkpoint.path}")
    return contract


def hold_backbone(backbone: nn.Module, optimizer: torch.optim.Optimizer, still: bool) -> None:
    """Makes the backbone a fixed function, or has its own parts trained again; for "head first, then all".

    While it is still it gets no gradient, so its optimiser keeps no moments and decays nothing, and it is in eval mode,
    so batch norm keeps its statistics.

    Args:
        backbone: ``task.backbone``.
        optimizer: Its groups name the parameters that are trained at all.
        still: Whether to hold it.
    """
    backbone.train(not still)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"]):
            if name.startswith("backbone."):
                parameter.requires_grad_(not still)
