"""What holds for every backbone in the table. Each runs in a small form; its own sizes are checked without values."""

import functools
import inspect

import pytest
import torch

from facetx.backbones import BACKBONES
from facetx.errors import DataError
from facetx.nn.profile import profile, run_on_meta

SMALL_SIZES = {"dim": 64, "depth": 2, "heads": 2, "mlp_dim": 64, "dropout": 0.0, "drop_path": 0.0}
SMALL_IMAGES = {"cct_7_3x1": 16, "facerec_l8": 64, "facerec_l10": 64, "efficientnet_b0": 64}
# One of each kind, for what takes seconds.
KINDS = ["vit_p12s8_tiny", "effnet_vit_tiny", "facerec_tiny", "cct_tiny", "vit_kprpe_tiny", "efficientnet_b0"]
# With a depth that the table's own sizes give; building them in full is slow, and iresnet18 stands for them.
DEEP = ["iresnet34", "iresnet50", "iresnet100"]
RUN = [name for name in BACKBONES if name not in DEEP]


def small(name):
    """The backbone with its own parts and few and narrow layers."""
    parameters = inspect.signature(BACKBONES[name]).parameters
    args = dict(SMALL_SIZES) if "sizes" in parameters else {}
    if "conv_dim" in parameters:
        args["conv_dim"] = 32
    if "embedding_dim" in parameters:
        args["embedding_dim"] = 24
    if name.startswith("iresnet"):
        args["image_size"] = 32
    if name in SMALL_IMAGES:
        args["image_size"] = SMALL_IMAGES[name]
    torch.manual_seed(0)
    return BACKBONES.create(name, **args)


def inputs(model, batch=2):
    generator = torch.Generator().manual_seed(1)
    size = model.contract.size
    images = torch.randn(batch, 3, size, size, generator=generator)
    keypoints = torch.rand(batch, 5, 2, generator=generator)
    return (images, keypoints) if model.needs_keypoints else (images,)


@pytest.mark.parametrize("name", RUN)
def test_it_embeds_and_says_the_same_twice_and_one_by_one(name):
    model = small(name).eval()
    images = inputs(model)
    with torch.inference_mode():
        embeddings = model(*images)
        again = model(*images)
        alone = model(*(x[:1] for x in images))
    assert embeddings.shape == (2, model.embedding_dim)
    assert embeddings.isfinite().all()
    assert torch.equal(embeddings, again)
    torch.testing.assert_close(alone, embeddings[:1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(embeddings[0], embeddings[1], rtol=1e-3, atol=0)  # the image counts


@pytest.mark.parametrize("name", RUN)
def test_every_parameter_gets_a_gradient(name):
    model = small(name).train()
    embeddings = model(*inputs(model, batch=4))
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            # Some biases change nothing by their nature: those before a softmax over tokens, or a batch norm.
            assert parameter.ndim == 1 or parameter.grad.count_nonzero() > 0, key


@pytest.mark.parametrize("name", RUN)
def test_a_state_dict_makes_another_model_the_same(name):
    model, other = small(name).eval(), small(name).eval()
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    other.load_state_dict(model.state_dict())
    images = inputs(model)
    with torch.inference_mode():
        assert torch.equal(model(*images), other(*images))


@pytest.mark.parametrize("name", list(BACKBONES))
def test_its_own_sizes_fit_together(name):
    with torch.device("meta"):
        model = BACKBONES.create(name)
    assert run_on_meta(model).shape == (1, model.embedding_dim)


@functools.cache
def counts(name, **args):
    with torch.device("meta"):
        return profile(BACKBONES.create(name, **args))


# arXiv 2103.14803, section 4.1, which leaves attention's products out; and InsightFace's README, which does not.
@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("vit_p8s8", 12.4),
        ("vit_p12s8", 12.4),
        ("iresnet18", 2.6),
        ("iresnet50", 6.3),
        ("iresnet100", 12.1),
        ("insightface_vit_t", 1.5),
        ("insightface_vit_s", 5.7),
        ("insightface_vit_b", 11.4),
        ("insightface_vit_l", 25.3),
    ],
)
def test_macs_are_as_published(name, gmacs):
    cost = counts(name)
    macs = cost.macs - cost.attention_macs if name.startswith("vit_p") else cost.macs
    assert macs / 1e9 == pytest.approx(gmacs, abs=0.06)


def test_parameters_are_as_published():
    head = 257 * 10  # of CIFAR-10, in the published count (CCT's README)
    cost = counts("cct_7_3x1", image_size=32)
    assert (cost.parameters + head) / 1e6 == pytest.approx(3.760, abs=0.0005)
    assert (cost.macs - cost.attention_macs) / 1e9 == pytest.approx(0.947, abs=0.0005)
    assert counts("vit", image_size=224).parameters / 1e6 == pytest.approx(86, abs=0.5)  # arXiv 2010.11929, table 1


# InsightFace's (arcface_torch's README) and, for vit_kprpe_base, as built by the authors' program.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("iresnet18", 24_025_600),
        ("iresnet34", 34_139_328),
        ("iresnet50", 43_590_848),
        ("iresnet100", 65_156_160),
        ("insightface_vit_t", 19_137_536),
        ("insightface_vit_s", 76_022_784),
        ("insightface_vit_b", 113_832_960),
        ("insightface_vit_l", 255_683_584),
        ("vit_kprpe_small", 96_004_128),
        ("vit_kprpe_base", 115_076_736),
    ],
)
def test_parameters_of_the_networks_that_papers_compare_with(name, parameters):
    assert counts(name).parameters == parameters


@pytest.mark.parametrize("name", RUN)
def test_an_exported_program_equals_the_model(name):
    model = small(name).eval()
    images = inputs(model)
    program = torch.export.export(model, images).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(*images), model(*images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_says_about_the_same(name):
    model = small(name).eval()
    images = inputs(model)
    with torch.inference_mode():
        embeddings = model(*images)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(*images)
        half = model.bfloat16()(images[0].bfloat16(), *images[1:])
    for low in (mixed, half):
        assert torch.cosine_similarity(low.double(), embeddings.double(), eps=1e-30).min() > 0.99


# In training the most code runs; that of eval mode is exported above.
@pytest.mark.parametrize(("name", "training"), [*((name, True) for name in RUN), *((name, False) for name in KINDS)])
def test_it_compiles_as_one_graph_that_equals_the_model(name, training):
    model = small(name).train(training)
    images = inputs(model)
    torch.compiler.reset()  # all tests together make more graphs than one class may have
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    embeddings = []
    for run in (compiled, model):
        torch.manual_seed(0)  # of dropout
        embeddings.append(run(*images))
    torch.testing.assert_close(*embeddings, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["facerec_tiny", "vit_kprpe_tiny"])
def test_a_compiled_model_equals_the_model(name):
    model = small(name).eval()
    images = inputs(model)
    with torch.inference_mode():
        compiled = torch.compile(model, fullgraph=True, backend="inductor")
        torch.testing.assert_close(compiled(*images), model(*images), atol=1e-4, rtol=1e-4)


def test_recomputing_compiles_too_and_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = BACKBONES.create("vit_kprpe_tiny", depth=1, recompute=recompute)
        images = inputs(model, batch=4)
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if recompute else model
        run(*images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [n for n in RUN if "kprpe" in n])
def test_missing_keypoints_are_said_clearly(name):
    model = small(name)
    images, keypoints = inputs(model)
    with pytest.raises(DataError, match=r"needs the five facial keypoints.*without KP-RPE"):
        model(images)
    with pytest.raises(DataError, match=r"of shape \(batch, 5, 2\), got \(2, 4, 2\)"):
        model(images, keypoints[:, :4])


@pytest.mark.parametrize("name", ["vit_tiny", "cct_tiny", "effnet_vit_tiny", "iresnet18", "efficientnet_b0"])
def test_images_of_another_size_are_refused(name):
    model = small(name).eval()
    size = model.contract.size
    with pytest.raises(ValueError, match=f"built for images of {size}x{size}, got 48x48"):
        model(torch.zeros(1, 3, 48, 48))
