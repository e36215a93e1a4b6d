"""The task parsing: its losses by hand, pixels that are not labeled, the classes that it keeps, and that it learns."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import facetx
from facetx.backbones import BACKBONES
from facetx.checkpoints.backbone import build_backbone
from facetx.checkpoints.task import start_task_from
from facetx.config import check_settings, load_settings
from facetx.data.base import Description
from facetx.data.mask_classes import CELEBAMASK_HQ, LAPA, colors_of
from facetx.data.sample import IGNORED
from facetx.errors import ConfigError
from facetx.heads import HEADS
from facetx.inference.model import load_task
from facetx.nn.positions import resized_positions
from facetx.tasks import TASKS
from facetx.tasks.mask_losses import MaskLoss
from facetx.training import start_run
from facetx.training.build import build

ROOT = Path(__file__).parents[2]
NAMES = ("background", "left_eye", "right_eye")
DATA = Description(1, (), NAMES, colors_of(NAMES))
SIZES = {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 8}


def task(**args):
    return TASKS.create("parsing", backbone=BACKBONES.create("vit_p8s8_tiny", **SIZES), data=DATA, **args)


def batch(count=4):
    mask = torch.randint(0, 3, (count, 16, 16), dtype=torch.uint8)
    mask[:, 0, :5] = IGNORED
    return {"image": torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8), "mask": mask}


def by_hand(name, logits, mask, weights=(1, 1, 1), gamma=0.0):
    """The loss, pixel by pixel."""
    p = logits.double().softmax(1)
    count, classes, height, width = p.shape
    total = 0.0
    for b in range(count):
        pixels = [(i, j) for i in range(height) for j in range(width) if mask[b, i, j] != IGNORED]
        if name != "dice":
            of = [(p[b, mask[b, i, j], i, j].item(), weights[mask[b, i, j]]) for i, j in pixels]
            total -= sum(w * math.log(q) * (1 - q) ** gamma for q, w in of) / (height * width)
        if name in ("dice", "cross_entropy_dice"):
            score, weight = 0.0, 0.0
            for c in range(classes):
                own = sum(mask[b, i, j] == c for i, j in pixels)
                if own:
                    both = sum(p[b, c, i, j] for i, j in pixels if mask[b, i, j] == c)
                    score += weights[c] * (1 - 2 * both / (own + sum(p[b, c, i, j] for i, j in pixels)))
                    weight += weights[c]
            total += score / weight if weight else 0
    return float(total) / count


@pytest.mark.parametrize("weights", [{}, {"left_eye": 3.0, "background": 0.5}])
@pytest.mark.parametrize("name", ["cross_entropy", "dice", "cross_entropy_dice", "focal"])
def test_losses_are_what_their_formulas_say(name, weights):
    logits, mask = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    mask[0, 1:3] = IGNORED
    mask[1][mask[1] == 2] = 0  # a class that an image lacks
    found = MaskLoss(name, NAMES, weights)(logits, mask.to(torch.uint8))
    gamma = 2.0 if name == "focal" else 0.0
    assert found.item() == pytest.approx(
        by_hand(name, logits, mask, [weights.get(n, 1) for n in NAMES], gamma), rel=1e-5
    )


def test_cross_entropy_of_labeled_images_is_pytorchs():
    logits, mask = torch.randn(3, 3, 4, 4), torch.randint(0, 3, (3, 4, 4))
    torch.testing.assert_close(MaskLoss("cross_entropy", NAMES)(logits, mask), F.cross_entropy(logits, mask))
    torch.testing.assert_close(MaskLoss("focal", NAMES, gamma=0.0)(logits, mask), F.cross_entropy(logits, mask))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "cross_entropy_dice", "focal"])
def test_pixels_without_a_label_get_no_gradient_and_an_image_without_any_no_nan(name):
    logits, mask = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    mask[0, :2], mask[1] = IGNORED, IGNORED
    loss = MaskLoss(name, NAMES)(logits, mask)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad[0, :, :2].abs().sum() == 0
    assert logits.grad[0, :, 2:].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "cross_entropy_dice", "focal"])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(name):
    built = task(loss=name).eval()
    whole = batch()
    parts = [{k: v[i : i + 2] for k, v in whole.items()} for i in (0, 2)]
    mean = sum(built(part)["loss"] for part in parts) / 2
    torch.testing.assert_close(built(whole)["loss"], mean)
    assert built.parts_are_independent


def test_the_right_answer_costs_nothing():
    mask = torch.randint(0, 3, (2, 4, 4))
    sure = 100 * F.one_hot(mask, 3).permute(0, 3, 1, 2).float()
    for name in ("cross_entropy", "dice", "cross_entropy_dice", "focal"):
        assert MaskLoss(name, NAMES)(sure, mask).item() == pytest.approx(0, abs=1e-5)


def test_it_says_what_it_needs_and_predicts():
    built, given = task().eval(), batch()
    assert built.needs == {"image", "mask"}
    logits = built.predict(given)["mask"]
    assert logits.shape == (4, 3, 16, 16)
    assert logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert built.predict(given)["mask"].dtype == torch.float32
    assert (built.mask_classes, built.mask_colors) == (NAMES, colors_of(NAMES))
    known = given["mask"] != IGNORED
    share = (logits.argmax(1) == given["mask"])[known].float().mean()
    torch.testing.assert_close(built(given)["accuracy"], share)


def test_bad_arguments_are_errors():
    with pytest.raises(ConfigError, match="has no masks to learn"):
        TASKS.create("parsing", backbone=BACKBONES.create("vit_p8s8_tiny", **SIZES), data=Description(3))
    with pytest.raises(ConfigError, match="no class is named 'left_ey'; did you mean 'left_eye'"):
        task(class_weights={"left_ey": 2.0})
    with pytest.raises(ConfigError, match="at least 0"):
        task(class_weights={"left_eye": -1.0})
    with pytest.raises(ConfigError, match="gives no feature maps"):
        TASKS.create("parsing", backbone=BACKBONES.create("torchvision:googlenet"), data=DATA)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned a little of the drawn faces, and its settings."""
    settings = check_settings(
        {
            "name": "parsing",
            "task": {"name": "parsing", "args": {"width": 32}},
            "data": {
                "name": "synthetic_faces",
                "args": {"identities": 48, "images_per_identity": 2},
                "workers": 0,
                "cache": True,
                "transforms": ["flip"],
            },
            "model": {"name": "timm:test_convnext", "args": {"image_size": 64, "embedding_dim": None}},
            "optim": {"lr": 5e-3},
            "train": {"steps": 40, "batch_size": 12, "log_every": 10, "checkpoint_every": 40},
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "parsing"
    return start_run(settings, folder), folder


def test_it_learns_the_drawn_faces(run):
    logged = [json.loads(line) for line in (run[1] / "metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["train/loss"] < 0.75 * logged[0]["train/loss"]
    assert logged[-1]["train/accuracy"] > 0.78  # skin, hair or background alone are half


def test_its_checkpoint_knows_the_classes_their_order_and_colors(run):
    _, folder = run
    loaded = load_task(folder)
    assert loaded.mask_classes == LAPA
    assert loaded.mask_colors == colors_of(LAPA)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    outcome = run[0].run.task.eval()
    torch.testing.assert_close(
        loaded.eval().predict({"image": image})["mask"], outcome.predict({"image": image})["mask"]
    )


def on_drawn_faces(task, size, pooling, steps=1, **more):
    """Settings of a small run; ``more`` of its model."""
    return check_settings(
        {
            "name": "small",
            "task": task,
            "data": {"name": "synthetic_faces", "args": {"identities": 4, "images_per_identity": 2}, "workers": 0},
            "model": {"name": "vit_p8s8_tiny", "args": {**SIZES, "image_size": size, "pooling": pooling}, **more},
            "head": [{"name": "cosface"}] if task == "recognition" else [],
            "optim": {"lr": 1e-3},
            "train": {"steps": steps, "batch_size": 4, "checkpoint_every": 1},
        }
    )


@pytest.mark.parametrize("pooling", ["class_token", "flatten"])
def test_it_starts_from_a_recognition_run_of_another_size(tmp_path, pooling, caplog):
    first = start_run(on_drawn_faces("recognition", 32, pooling), tmp_path / "identity").run.backbone.state_dict()
    with caplog.at_level("WARNING", "facetx"):
        settings = on_drawn_faces("parsing", 64, pooling, init_from=str(tmp_path / "identity"))
        built = build(settings).backbone
    assert ("begins anew: the neck" in caplog.text) == (pooling == "flatten")
    for name, value in built.state_dict().items():
        if name == "positions.positions":
            expected = resized_positions(first[name], 1 if pooling == "class_token" else 0, (8, 8))
            torch.testing.assert_close(value, expected)
        elif not name.startswith("neck."):
            torch.testing.assert_close(value, first[name], rtol=0, atol=0)
    assert start_run(settings, tmp_path / "parsing").step == 1


def joint(name="vit_p8s8_tiny", **args):
    data = Description(3, (), NAMES, colors_of(NAMES))
    trunk = BACKBONES.create(name, **(SIZES if name == "vit_p8s8_tiny" else {"image_size": 32, "embedding_dim": 8}))
    head = HEADS.create("cosface", embedding_dim=trunk.embedding_dim, num_classes=3)
    return TASKS.create("joint_parsing", backbone=trunk, data=data, head=head, **{"width": 8, **args})


@pytest.mark.parametrize("name", ["vit_p8s8_tiny", "timm:lcnet_050"])
def test_identity_and_parsing_in_one_are_both(name):
    built = joint(name, weight=2.0).eval()
    size = built.backbone.contract.size
    given = {
        "image": torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8),
        "mask": torch.randint(0, 3, (4, size, size), dtype=torch.uint8),
        "label": torch.tensor([0, 1, 2, 0]),
    }
    assert built.needs == {"image", "label", "mask"}
    found = built(given)
    parts = found["identities/loss"] + 2 * found["parsing/loss"]
    torch.testing.assert_close(found["loss"], parts)
    view = built.published()
    torch.testing.assert_close(found["parsing/loss"], view(given)["loss"])
    torch.testing.assert_close(built.loss(built.embed(given), given)["loss"], found["loss"])
    predicted = built.predict(given)
    torch.testing.assert_close(predicted["mask"], view.predict(given)["mask"])
    torch.testing.assert_close(predicted["embedding"], built.embed(given))
    assert built.mask_classes == view.mask_classes == NAMES
    assert not any(key.startswith("head.") for key in view.state_dict())
    assert view.state_dict().keys() < built.state_dict().keys()
    found["loss"].backward()
    assert all(p.grad is not None for p in built.decoder.parameters())
    with pytest.raises(ConfigError, match="weight must be above 0"):
        joint(weight=0.0)


def test_a_joint_run_is_loaded_as_one_that_parses_and_embeds(tmp_path):
    settings = check_settings(
        {
            **on_drawn_faces("recognition", 32, "class_token").model_dump(mode="json"),
            "task": {"name": "joint_parsing", "args": {"width": 8}},
        }
    )
    start_run(settings, tmp_path / "joint")
    loaded = facetx.load_model(tmp_path / "joint", "cpu")
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert loaded.model.predict({"image": image})["mask"].shape == (1, 11, 32, 32)
    picture = image[0].permute(1, 2, 0).numpy()
    assert loaded.embed([picture]).shape == (1, 8)
    whole = load_task(tmp_path / "joint")
    assert set(whole.predict({"image": image})) == {"embedding", "mask", "logits"}
    pytest.importorskip("onnxscript", reason="the export needs the extra 'export'")
    facetx.export(tmp_path / "joint", tmp_path / "joint.onnx")
    exported = facetx.load_model(tmp_path / "joint.onnx")
    np.testing.assert_allclose(exported.embed([picture]), loaded.embed([picture]), atol=1e-4)
    np.testing.assert_allclose(exported.predict([picture])["mask"], loaded.predict([picture])["mask"], atol=1e-3)


def test_classes_in_another_order_begin_anew_and_the_same_ones_do_not(tmp_path, caplog):
    start_run(on_drawn_faces("parsing", 32, "class_token"), tmp_path / "first")
    first = load_task(tmp_path / "first").state_dict()
    trunk = BACKBONES.create("vit_p8s8_tiny", **{**SIZES, "image_size": 32})
    for classes, same in ((LAPA, True), (LAPA[::-1], False)):
        built = TASKS.create("parsing", backbone=trunk, data=Description(1, (), classes))
        with caplog.at_level("INFO", "facetx"):
            caplog.clear()
            start_task_from(built, str(tmp_path / "first"))
        state = built.state_dict()
        assert torch.equal(state["decoder.smooth.0.0.weight"], first["decoder.smooth.0.0.weight"])
        assert torch.equal(state["decoder.classifier.1.weight"], first["decoder.classifier.1.weight"]) == same
        assert ("begins anew: decoder.classifier.1.weight" in caplog.text) != same


@pytest.mark.parametrize(
    ("config", "size", "count"),
    [
        ("parsing_celebamask", 256, 1_596_588),
        ("parsing_celebamask", 512, 1_596_588),
        ("parsing_reward", 256, 1_596_588),
        ("parsing_vit", 256, 1_628_147),
    ],
)
def test_the_shipped_networks_are_as_small_as_they_say(config, size, count):
    settings = load_settings(ROOT / f"configs/{config}.yaml", [f"model.args.image_size={size}", "model.init_from=null"])
    with torch.device("meta"):
        trunk = build_backbone(settings.model)
        data = Description(1, (), CELEBAMASK_HQ)
        built = TASKS.create(settings.task.name, backbone=trunk, data=data, **settings.task.args)
    assert sum(p.numel() for p in built.parameters()) == count <= 1_820_000
    logits = built.eval().logits({"image": torch.empty(1, 3, size, size, dtype=torch.uint8, device="meta")})
    assert logits.shape == (1, 19, size, size)
