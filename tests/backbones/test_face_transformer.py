"""Parity of the Face Transformer builders with the authors' program."""

import numpy as np
import pytest
import torch
from conftest import assert_parity, shared

from facetx.backbones import BACKBONES
from facetx.backbones.face_transformer import convert_face_transformer
from facetx.contract import InputContract
from facetx.errors import CheckpointError


def load_fixture(name):
    with np.load(shared(f"fixtures/{name}.npz"), allow_pickle=False) as file:
        arrays = dict(file)
    state = {k.removeprefix("state/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state/")}
    return arrays, state


@pytest.mark.parametrize("name", ["p8s8", "p10s8", "p12s8"])
def test_the_authors_weights_give_the_authors_embeddings(name):
    arrays, state = load_fixture(f"face_transformer_{name}")
    builder, args, weights = convert_face_transformer(state)
    assert builder == f"vit_{name}"
    model = BACKBONES.create(builder, **args).eval()
    model.load_state_dict(weights)
    model.contract = InputContract(mean=(0,), std=(1,))
    with torch.inference_mode():
        embedding = model(model.contract(torch.from_numpy(arrays["image_uint8_rgb"])))
    assert_parity(embedding, arrays["embedding"])


def test_the_attention_scale_is_the_papers_unless_given():
    sizes = {"dim": 32, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32}
    paper = BACKBONES.create("vit_p8s8", **sizes)
    authors = BACKBONES.create("vit_p8s8", **sizes, attention_scale=32**-0.5)
    assert paper.encoder.blocks[0].attention.scale == 8**-0.5
    assert authors.encoder.blocks[0].attention.scale == 32**-0.5


@pytest.mark.parametrize(("name", "millions"), [("vit_p8s8", 63.2), ("vit_p10s8", 63.3), ("vit_p12s8", 63.3)])
def test_parameters_are_as_published(name, millions):
    with torch.device("meta"):
        model = BACKBONES.create(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_keys_that_do_not_belong_are_named():
    with pytest.raises(
        CheckpointError, match=r"missing pos_embedding, patch_to_embedding.weight, .*; unknown fc.weight$"
    ):
        convert_face_transformer({"fc.weight": torch.zeros(1)})


def test_an_image_that_the_patches_do_not_cover_is_refused_with_sizes_that_work():
    with pytest.raises(ValueError, match=r"do not cover an image of 110.*104 or 112"):
        BACKBONES.create("vit_p8s8_tiny", image_size=110)
