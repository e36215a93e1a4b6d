"""MobileFaceNet: its sizes, and its published result on LFW."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import shared

from facetx.backbones import BACKBONES
from facetx.backbones.importers import IMPORTERS
from facetx.errors import CheckpointError
from facetx.nn.profile import profile


def test_parameters_and_macs_are_as_published():
    with torch.device("meta"):
        counts = profile(BACKBONES.create("mobilefacenet"))
    assert counts.parameters / 1e6 == pytest.approx(0.99, abs=0.02)  # section 3.2 of the paper
    assert counts.macs / 1e6 == pytest.approx(221, abs=3)


def test_the_crop_is_the_middle():
    model = BACKBONES.create("mobilefacenet", crop_width=96).eval()
    images = torch.randn(1, 3, 112, 112)
    edges = images.clone()
    edges[..., :8] = edges[..., 104:] = 0
    assert torch.equal(model(images), model(edges))
    edges[..., 8] = 0
    assert not torch.equal(model(images), model(edges))


def test_sizes_that_do_not_fit_are_refused():
    for sizes in ({"image_size": 100}, {"crop_width": 100}, {"crop_width": 128}, {"crop_width": 0}):
        with pytest.raises(ValueError, match="must be multiples of 16"):
            BACKBONES.create("mobilefacenet", **sizes)
    state = {"linear7.conv.weight": torch.zeros(512, 1, 7, 7), "linear1.conv.weight": torch.zeros(128, 512, 1, 1)}
    with pytest.raises(CheckpointError, match="with 0 bottlenecks has no builder"):
        IMPORTERS["mobilefacenet"](state)


def published():
    """The author's network, from its published weights."""
    with np.load(shared("weights/mobilefacenet_casia.npz"), allow_pickle=False) as file:
        state = {k.removeprefix("state/"): torch.from_numpy(file[k]) for k in file.files}
    importer = IMPORTERS["mobilefacenet"]
    name, args, weights = importer(state)
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)
    model.contract = dataclasses.replace(importer.contract, size=model.contract.size)
    return model
