"""The recognition task: contract, keypoints, margin warm-up."""

import pytest
import torch

from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.base import Description
from facetx.errors import ConfigError, DataError
from facetx.heads import HEADS
from facetx.tasks import TASKS
from facetx.training import loop

DATA = Description(num_classes=4)
SIZES = {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 8}


def batch(size=16):
    return {"image": torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8), "label": torch.arange(4)}


def test_the_task_applies_the_contract_of_its_backbone():
    backbone = BACKBONES.create("vit_p8s8_tiny", **SIZES).eval()
    backbone.contract = InputContract(size=16, color="BGR", mean=(10.0,), std=(3.0,))
    given = batch()
    expected = backbone((given["image"].flip(1).float() - 10) / 3)
    task = TASKS.create(
        "recognition", backbone=backbone, data=DATA, head=HEADS.create("softmax", embedding_dim=8, num_classes=4)
    )
    torch.testing.assert_close(task.embed(given), expected)


def test_margins_grow_over_the_warm_up_as_a_function_of_the_step():
    backbone = BACKBONES.create("vit_p8s8_tiny", **SIZES).eval()
    head = HEADS.create("cosface", embedding_dim=8, num_classes=4, scale=8.0, margin=0.3)
    plain = HEADS.create("normalized_softmax", embedding_dim=8, num_classes=4, scale=8.0)
    plain.load_state_dict(head.state_dict())
    task = TASKS.create("recognition", backbone=backbone, data=DATA, head=head, margin_warmup_steps=10)
    given, losses = batch(), []
    for step in (0, 5, 10, 99):
        task.at_step(step)
        losses.append(task(given)["loss"].item())
    assert losses[0] == pytest.approx(plain(task.embed(given), given["label"])["loss"].item(), rel=1e-5)
    assert losses[0] < losses[1] < losses[2] == losses[3]


def test_missing_keypoints_are_told_before_training(small, tmp_path):
    model = {"name": "vit_kprpe_tiny", "args": {"image_size": 32}}
    with pytest.raises(DataError, match=r"vit_kprpe_tiny needs five facial keypoints.*data\.args\.landmarks"):
        loop.train(check_settings({**small, "model": model, "evaluators": [], "select": None}), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_recognition_without_a_head_is_told(small, tmp_path):
    for head in ([], None):
        settings = {key: value for key, value in small.items() if key != "head"} | (
            {} if head is None else {"head": head}
        )
        with pytest.raises(ConfigError, match="head: the task recognition needs one, such as head: cosface"):
            loop.train(check_settings(settings), tmp_path)
