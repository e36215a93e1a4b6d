"""A backbone from its settings, and where its first weights come from."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from facetx.backbones import BACKBONES
from facetx.backbones.base import PREFIXES, without_prefix
from facetx.backbones.importers import importers_for
from facetx.backbones.library import LibraryBackbone, own_weights
from facetx.checkpoints.format import WEIGHTS, Checkpoint, find_checkpoint
from facetx.checkpoints.weights import load_weights, read_weights
from facetx.config import create
from facetx.config.settings import ModelSettings
from facetx.contract import InputContract
from facetx.errors import CheckpointError, some
from facetx.nn.backbone import Backbone
from facetx.nn.lora import add_lora, merge_lora
from facetx.plugins import load_plugins
from facetx.registry import parameters as arguments_of

log = logging.getLogger("facetx")


def build_backbone(model: ModelSettings, trained_in: InputContract | None = None) -> Any:
    """The backbone that its settings name, on the CPU, with its input contract and LoRA.

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
        theirs = start_from(backbone, model)
    if theirs is not None:
        backbone.contract = dataclasses.replace(theirs, size=backbone.contract.size)
    if model.input is not None:
        backbone.contract = dataclasses.replace(backbone.contract, **model.input.model_dump())
        if theirs is not None and dataclasses.replace(theirs, size=backbone.contract.size) != backbone.contract:
            log.warning(
                "model.input: %s, but the weights were trained on %s; leave model.input out to take theirs",
                *(f"{c.color}, mean {c.mean}, std {c.std}, {c.alignment}" for c in (backbone.contract, theirs)),
            )
    if model.lora is not None:
        add_lora(backbone, **model.lora.model_dump())
    return backbone


def start_from(backbone: Backbone, model: ModelSettings) -> InputContract | None:
    """Loads the weights at ``model.init_from``, and returns the contract that they were trained in, if known.

    Args:
        backbone: Of ``model``, without LoRA; changed in place.
        model: Its ``init_from`` is a facetx run's folder (its best checkpoint), a checkpoint's folder, or a file of
            ``read_weights``, under facetx's names or, for ``timm:`` and ``torchvision:``, under the library's. Of a
            checkpoint for images of another size learned positions are interpolated, and a neck that hangs on the size
            begins anew. So does one that the checkpoint lacks (``embedding_dim: null``); one that is not here is left
            out.

    Raises ``CheckpointError`` that lists missing, unexpected and misshaped keys apart, unless all of them fit; and
    where all fit, but the checkpoint's network computes something else from them than ``backbone``.
    """
    assert model.init_from is not None
    if not Path(model.init_from).is_dir():
        return _start_from_file(backbone, model.init_from)
    checkpoint = find_checkpoint(model.init_from, "BEST")
    load_plugins_of(checkpoint)
    where = f"model.init_from: {checkpoint.path}"
    contract = checkpoint.meta.input
    weights = of_backbone(checkpoint.weights())
    theirs = checkpoint.meta.settings.model
    if theirs.name not in BACKBONES:
        raise CheckpointError(
            f"{where}: of the backbone {theirs.name}, which is not registered here; import the module that does, or "
            f"give its file {WEIGHTS} alone, where you know that the networks are the same"
        )
    size = backbone.contract.size
    with torch.random.fork_rng(devices=[]):  # what is built here must not change the weights of the head
        if theirs.lora is not None:  # what was learned is put into the layers that it corrects
            adapted = build_backbone(theirs, contract)
            load_weights(adapted, weights, str(checkpoint.path))
            merge_lora(adapted)
            weights = adapted.state_dict()
        if contract.size != size:
            weights = _resized(backbone, weights, f"{where}: of {contract.size} pixels")
        args = theirs.args if contract.size == size else {**theirs.args, "image_size": size}
        there, here = (any(map(_of_neck, names)) for names in (weights, backbone.state_dict()))
        if isinstance(backbone, LibraryBackbone) and there != here:
            log.warning("%s: %s: the neck", where, "left out" if there else "begins anew")
            weights = _with_own_neck(backbone, weights)
            args = {**args, "embedding_dim": _arguments(model)["embedding_dim"]}
        try:
            load_weights(backbone, weights, where)
        except CheckpointError as error:
            raise CheckpointError(f"{error}\n{_belongs_to(theirs, model)}") from None
        source = build_backbone(ModelSettings(name=theirs.name, args=args), contract)
        load_weights(source, weights, where)
        if not compute_the_same(source, backbone):
            raise CheckpointError(
                f"{where}: its weights fit, but the network of the settings computes something else from them\n"
                f"{_belongs_to(theirs, model)}"
            )
    return contract


def _resized(backbone: Backbone, weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Weights of images of another size for this one: what can be resized is, and a neck that cannot begins anew."""
    found, own = backbone.for_own_size(backbone.current_names(weights)), backbone.state_dict()
    if any(name in found and found[name].shape != own[name].shape for name in filter(_of_neck, own)):
        log.warning("%s, and here of %d; begins anew: the neck", where, backbone.contract.size)
        return _with_own_neck(backbone, found)
    return found


def _of_neck(name: str) -> bool:
    return name.startswith("neck.")


def _with_own_neck(backbone: Backbone, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights with the backbone's own neck in place of theirs, or none."""
    kept = {name: value for name, value in weights.items() if not _of_neck(name)}
    return kept | {name: value for name, value in backbone.state_dict().items() if _of_neck(name)}


def of_backbone(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's part of what a task has published: all, or what is called so where that is the task itself."""
    own = {k.removeprefix("backbone."): v for k, v in published.items() if k.startswith("backbone.")}
    return own or dict(published)


def load_plugins_of(checkpoint: Checkpoint) -> None:
    """Imports the modules that a run names, but for any in the run's own folder, which may come from someone else."""
    path = checkpoint.path.resolve()
    run = path.parents[1] if path.parent.name == "checkpoints" else path
    load_plugins(checkpoint.meta.settings.plugins, str(checkpoint.path), outside=run)


def _start_from_file(backbone: Backbone, path: str) -> InputContract | None:
    where = f"model.init_from: {path}"
    weights, others = _unwrapped(backbone, read_weights(path))
    found = own_weights(backbone, weights)
    try:
        if found is not None and isinstance(backbone, LibraryBackbone):
            load_weights(backbone.trunk, found[0], where)
        else:
            load_weights(backbone, weights, where)
    except CheckpointError as error:
        programs = " or ".join(importers_for(weights))
        if not programs:
            raise
        raise CheckpointError(
            f"{error}\n  they are another program's; for a checkpoint that model.init_from takes: "
            f"python scripts/import_weights.py --from {programs} {path} --out FOLDER"
        ) from None
    if others:
        log.info("%s: left out, as no part of the backbone: %s", where, some(others))
    if found is None:
        return None
    assert isinstance(backbone, LibraryBackbone)
    _, left_out, contract = found
    log.info(
        "model.init_from: %s has the features; left out: %s; new: %s; input: mean %s, std %s, unless model.input says "
        "otherwise",
        path,
        ", ".join(left_out) or "nothing",
        "the neck" if any(True for _ in backbone.neck.parameters()) else "nothing",
        contract.mean,
        contract.std,
    )
    return contract


def _unwrapped(backbone: Backbone, state: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], list[str]]:
    """A state dict without what wrappers put before its names, and the names that are no part of the backbone.

    A trainer's file has the backbone under one prefix and a head beside it: then what stands under the prefix is taken.
    """
    state = without_prefix(state)
    own = {*backbone.state_dict()}
    if isinstance(backbone, LibraryBackbone):
        own |= {*backbone.trunk.state_dict()}
    if own.isdisjoint(state):
        for prefix in PREFIXES:
            under = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            part = dict(without_prefix(under))
            if not (own.isdisjoint(part) and own.isdisjoint(backbone.current_names(part))):
                return part, [key for key in state if not key.startswith(prefix)]
    return state, []


@torch.no_grad()
def compute_the_same(a: Any, b: Any) -> bool:
    """Whether two backbones with the same weights are the same function, seen by their embedding of one noise image.

    So all that decides the function counts (a scale, an activation, heads that are cut otherwise), and nothing that
    matters in training alone (dropout, drop path). Both are left in training mode.
    """
    noise = torch.Generator().manual_seed(0)
    size = b.contract.size
    images = a.contract(torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=noise))
    keypoints = torch.rand(1, 5, 2, generator=noise)
    first, second = (m.eval()(images, keypoints=keypoints) if m.needs_keypoints else m.eval()(images) for m in (a, b))
    for backbone in (a, b):
        backbone.train()
    return first.shape == second.shape and bool((first - second).norm() <= 1e-5 * first.norm())


_TRAINING_ONLY = ("dropout", "attention_dropout", "drop_path", "pretrained", "freeze_stem")


def _belongs_to(theirs: ModelSettings, ours: ModelSettings) -> str:
    """The lines of a message: the settings of a checkpoint's network, ready to be copied, and where ours differ."""
    own, other = (_arguments(model) for model in (ours, theirs))
    differ = [
        f"{key} ({own.get(key, 'not given')} here, {other.get(key, 'not given')} there)"
        for key in dict.fromkeys([*other, *own])
        if key not in _TRAINING_ONLY and own.get(key) != other.get(key)
    ]
    if theirs.name != ours.name:
        differ.insert(0, f"name ({ours.name} here, {theirs.name} there)")
    args = {k: v for k, v in ours.args.items() if k in _TRAINING_ONLY}
    args |= {k: v for k, v in theirs.args.items() if k not in _TRAINING_ONLY}
    text = yaml.safe_dump({"name": theirs.name, "args": args}, default_flow_style=True, sort_keys=False, width=10_000)
    return f"  differs: {', '.join(differ) or 'nothing that is given'}\n  they are weights of   model: {text.strip()}"


def _arguments(model: ModelSettings) -> dict[str, Any]:
    """Those that the settings give, and the defaults in the builder's signature."""
    parameters = arguments_of(BACKBONES[model.name]).values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | model.args
