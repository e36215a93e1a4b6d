"""The tasks attributes and joint: their sizes, losses by hand, unknown labels, and what they publish."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import facetx
from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.data.attribute_groups import CELEBA, REGIONS, groups_of, regions_of
from facetx.data.base import Description
from facetx.data.synthetic.traits import ATTRIBUTES
from facetx.errors import ConfigError
from facetx.heads import HEADS
from facetx.inference.model import load_task
from facetx.tasks import TASKS
from facetx.tasks.attribute_losses import attribute_loss
from facetx.training import start_run

SIZES = {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 8}
NAMES = ("Young", "Bald", "Smiling", "Big_Nose")
DATA = Description(num_classes=3, attributes=NAMES)
NAN = math.nan


def backbone():
    return BACKBONES.create("vit_p8s8_tiny", **SIZES)


def task(**args):
    return TASKS.create("attributes", backbone=backbone(), data=DATA, **{"layers": (6,), **args})


def batch(count=4):
    labels = torch.randint(0, 2, (count, 4)).float()
    return {
        "image": torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8),
        "label": torch.arange(count) % 3,
        "attributes": labels,
    }


@pytest.mark.parametrize(("options", "count"), [({"num_vit": 2}, 15_608_472), ({}, 17_896_536)])
def test_the_sources_network_has_its_number_of_parameters(options, count):
    names = tuple(sorted(CELEBA))
    with torch.device("meta"):
        trunk = BACKBONES.create("timm:efficientformerv2_s2", image_size=178, embedding_dim=None, options=options)
        built = TASKS.create("attributes", backbone=trunk, data=Description(1, names))
    assert sum(p.numel() for p in built.parameters() if p.requires_grad) == count
    assert [head[-1].out_features for head in built.heads.heads] == [9, 10, 5, 2, 9, 3, 2]


def test_the_table_has_celebas_attributes_once_each():
    names = [name for own in REGIONS.values() for name in own]
    assert len(names) == len(set(names)) == 40


def test_regions_find_names_however_they_are_written_and_in_any_order():
    found = regions_of(["5 o'clock shadow", "Has_Scar", "young", "NO_BEARD", "wearing hat"])
    assert found == {"whole face": (2, 1), "hair": (4,), "lips and chin": (0, 3)}
    groups = groups_of(NAMES, {"a": ("bald", "Young"), "b": ("Big_Nose", "Smiling")})
    assert groups == {"a": (1, 0), "b": (3, 2)}


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"a": NAMES, "b": ()}, "empty groups: b; name each of the data's 4 attributes once"),
        ({"a": (*NAMES, "Beard")}, "attributes that the data lacks: Beard"),
        ({"a": NAMES[1:]}, "attributes in no group: Young"),
        ({"a": NAMES, "b": NAMES[:1]}, "attributes named twice: Young"),
    ],
)
def test_groups_that_do_not_fit_are_told(groups, words):
    with pytest.raises(ConfigError, match=words):
        task(groups=groups)


def test_each_output_comes_from_its_regions_head_in_the_datas_order():
    built = task().eval()
    given = batch()
    out = built.predict(given)
    heads = dict(zip(built.heads.groups, built.heads.heads))
    assert list(heads) == ["whole face", "hair", "nose"]
    whole, hair, nose = (heads[region](out["embedding"]) for region in heads)
    expected = torch.stack([whole[:, 1], hair[:, 0], whole[:, 0], nose[:, 0]], dim=1)  # the table has Smiling, Young
    torch.testing.assert_close(out["attributes"], expected)


def test_unknown_labels_count_for_nothing():
    built = task().eval()
    given = batch()
    given["attributes"][0, 1] = given["attributes"][3, :] = NAN
    logits = built.predict(given)["attributes"]
    known = ~given["attributes"].isnan()
    each = F.binary_cross_entropy_with_logits(logits[known], given["attributes"][known], reduction="sum")
    out = built(given)
    torch.testing.assert_close(out["loss"], each / 16)
    right = (logits > 0)[known] == (given["attributes"] > 0.5)[known]
    torch.testing.assert_close(out["accuracy"], right.float().mean())
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in built.heads.parameters())


def test_all_unknown_is_no_loss_and_no_gradient():
    built = task()
    given = batch() | {"attributes": torch.full((4, 4), NAN)}
    out = built(given)
    out["loss"].backward()
    assert out["loss"] == out["accuracy"] == 0
    assert all((p.grad == 0).all() for p in built.heads.parameters())


@pytest.mark.parametrize("loss", ["bce", "focal", "asymmetric"])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(loss):
    criterion = attribute_loss(loss, 4, {})
    logits, labels = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).float()
    labels[0, :3] = NAN
    parts = torch.stack([criterion(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(criterion(logits, labels), parts.mean())


def test_losses_by_hand():
    p, q = 0.8, 0.3
    logits = torch.logit(torch.tensor([[p], [q]], dtype=torch.float64))
    labels = torch.tensor([[1.0], [0.0]], dtype=torch.float64)

    def found(name, **args):
        return attribute_loss(name, 1, args).double()(logits, labels).item()

    assert found("bce") == pytest.approx((-math.log(p) - math.log(1 - q)) / 2)
    assert found("focal", gamma=3.0) == pytest.approx(-(0.2**3 * math.log(p) + q**3 * math.log(1 - q)) / 2)
    given = {"gamma_positive": 1.0, "gamma_negative": 2.0, "margin": 0.1}
    assert found("asymmetric", **given) == pytest.approx(-(0.2 * math.log(p) + 0.2**2 * math.log(0.8)) / 2)
    mixed = attribute_loss("bce", 1, {})(logits[:1], torch.tensor([[0.25]]))
    assert mixed.item() == pytest.approx(-0.25 * math.log(p) - 0.75 * math.log(1 - p))


def test_balanced_weights_are_of_the_labels_seen_and_bounded():
    criterion = attribute_loss("balanced", 2, {"most": 4.0})
    labels = torch.tensor([[1.0, 1.0], [0.0, NAN], [0.0, 1.0], [0.0, 1.0]])
    loss = criterion(torch.zeros(4, 2), labels)
    assert criterion.seen.tolist() == [[2, 4], [4, 1]]  # one each to begin with
    weights = [[6 / 4, 5 / 8], [6 / 8, 5 / 2]]
    expected = math.log(2) * (weights[0][0] + 3 * weights[1][0] + 3 * weights[0][1]) / 8
    assert loss.item() == pytest.approx(expected)
    criterion(torch.zeros(100, 2), torch.zeros(100, 2))
    criterion.eval()
    one = criterion(torch.zeros(1, 2), torch.tensor([[1.0, NAN]]))
    assert one.item() == pytest.approx(4.0 * math.log(2) / 2)  # 106 / 4 is more than the most
    assert criterion.seen[1, 0] == 104  # only training counts


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"loss_args": {"gamma": 1.0}}, "loss_args: bce takes none, and not gamma"),
        ({"loss": "focal", "loss_args": {"most": 1.0}}, "loss_args: focal takes gamma, and not most"),
        ({"loss": "focal", "loss_args": {"gamma": -1.0}}, "gamma must be at least 0"),
        ({"loss": "balanced", "loss_args": {"most": 0.5}}, "most must be at least 1"),
        ({"dropout": 1.0}, "dropout at least 0 and below 1"),
        ({"mixup": -1.0}, "mixup at least 0"),
    ],
)
def test_arguments_out_of_range_are_told(args, words):
    with pytest.raises(ConfigError, match=words):
        task(**args)


def test_data_without_attributes_is_told():
    with pytest.raises(ConfigError, match="the training set has no attributes to learn; take data that has"):
        TASKS.create("attributes", backbone=backbone(), data=Description(3))


def test_mixed_images_have_mixed_labels(monkeypatch):
    built = task(mixup=0.4).eval()
    given = batch()
    given["attributes"][1, 2] = NAN
    share, other = torch.tensor(0.7), torch.tensor([2, 3, 0, 1])
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self: 1 - share)
    monkeypatch.setattr(torch, "randperm", lambda count: other)
    images = built.backbone.contract(given["image"])
    logits = built.logits(built.backbone(share * images + (1 - share) * images[other]))
    labels = share * given["attributes"] + (1 - share) * given["attributes"][other]
    assert labels.isnan().sum() == 2
    torch.testing.assert_close(built(given)["loss"], built.criterion(logits, labels))
    assert built(given)["loss"] != task().eval()(given)["loss"]


def test_joint_adds_the_weighted_losses_and_publishes_no_identities():
    head = HEADS.create("softmax", embedding_dim=8, num_classes=3)
    built = TASKS.create("joint", backbone=backbone(), data=DATA, head=head, weight=0.5, layers=(6,), loss="focal")
    given = batch()
    out = built.eval()(given)
    torch.testing.assert_close(out["loss"], out["identities/loss"] + 0.5 * out["attributes/loss"])
    assert built.needs == {"image", "label", "attributes"}
    assert set(built.predict(given)) == {"embedding", "logits", "attributes"}
    published = built.published()
    assert set(published.predict(given)) == {"embedding", "attributes"}
    torch.testing.assert_close(published.predict(given)["attributes"], built.predict(given)["attributes"])
    names = set(built.state_dict())
    assert set(published.state_dict()) == {name for name in names if not name.startswith("head.")} < names
    out["loss"].backward()
    assert all(p.grad is not None for p in built.parameters())


def settings(name, **more):
    return check_settings(
        {
            "name": name,
            "task": {"name": name, "args": {"layers": [8], **more.pop("args", {})}},
            "data": {
                "name": "synthetic_faces",
                "args": {"identities": 4, "images_per_identity": 4, "size": 16},
                "workers": 0,
            },
            "model": {"name": "vit_p8s8_tiny", "args": SIZES},
            "optim": {"lr": 1e-3},
            "train": {"steps": 4, "batch_size": 8, "log_every": 2, "checkpoint_every": 2},
            **more,
        }
    )


@pytest.mark.parametrize("ema", [None, 0.9])
def test_joint_is_trained_resumed_and_loaded(tmp_path, ema):
    given = settings("joint", head="softmax", optim={"lr": 1e-3, "ema": ema}, args={"loss": "balanced"})
    start_run(given, tmp_path / "whole")
    start_run(given, tmp_path / "part")
    checkpoint = tmp_path / "part/checkpoints/step_00000002"
    start_run(given, tmp_path / "resumed", resume=str(checkpoint))
    whole, resumed = (facetx.load_model(tmp_path / name) for name in ("whole", "resumed"))
    images = facetx.DATASETS["synthetic_faces"](identities=2, images_per_identity=2, size=16)
    pictures = [images[i]["image"] for i in range(4)]
    a, b = whole.predict(pictures), resumed.predict(pictures)
    assert set(a) == {"embedding", "attributes"}
    np.testing.assert_array_equal(a["attributes"], b["attributes"])
    assert whole.model.attribute_names == ATTRIBUTES
    assert "logits" in load_task(tmp_path / "whole").predict({"image": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)})


def test_mixup_is_a_function_of_the_step(tmp_path):
    rows = []
    for name in ("a", "b"):
        start_run(settings("attributes", args={"mixup": 0.2, "dropout": 0.1}), tmp_path / name)
        rows.append(facetx.load_model(tmp_path / name).model.state_dict())
    assert all(torch.equal(rows[0][name], rows[1][name]) for name in rows[0])
