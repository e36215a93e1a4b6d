"""Task rewards: what hand-made masks are worth, and that the mean of the estimates is the gradient, by enumeration."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli

import facetx
from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.data.base import Description
from facetx.data.sample import IGNORED
from facetx.errors import ConfigError, UnknownNameError
from facetx.tasks import REWARDS, TASKS
from facetx.tasks.parsing_reward import sampled
from facetx.tasks.rewards import counts, rewards
from facetx.training import start_run

NAMES = ("background", "left_eye", "right_eye")
SIZES = {"image_size": 16, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 8}


def task(classes=NAMES, **args):
    backbone = BACKBONES.create("vit_p8s8_tiny", **SIZES)
    return TASKS.create("parsing_reward", backbone=backbone, data=Description(1, (), classes), width=8, **args)


def worth(reward, sample, mask, classes=3, background=False, mean_over="either", **args):
    """What a sample is worth: (number, parts by class)."""
    sample, mask = torch.tensor(sample), torch.tensor(mask)
    parts = rewards(REWARDS.create(reward, **args), *counts(sample, mask, classes), background, mean_over)
    return parts.sum().item(), parts.tolist()


def test_counts_are_those_of_the_labeled_pixels():
    tp, fp, fn = counts(torch.tensor([[1, 1, 2, 0]]), torch.tensor([[1, 2, IGNORED, 1]]), 3)
    assert (tp.tolist(), fp.tolist(), fn.tolist()) == ([0, 1, 0], [1, 1, 0], [0, 1, 1])


#       the mask: 1 1 1 1 | 0 0 2 2        drawn: 1 1 1 0 | 1 0 2 2
MASK, DRAWN = [[1, 1, 1, 1], [0, 0, 2, 2]], [[1, 1, 1, 0], [1, 0, 2, 2]]


@pytest.mark.parametrize(
    ("reward", "args", "first", "second"),
    [  # of class 1: tp 3, fp 1, fn 1; of class 2: tp 2
        ("f1", {"w": 0.3}, 0.75 - 0.3 * 1 / 4, 1.0),
        ("f1", {"w": 0.0}, 0.75, 1.0),
        ("pq", {"w": 0.3}, 3 / 5, 1.0),
        ("f1_pixels", {"w": 0.3}, 0.75 - 0.3, 1.0),
        ("iou", {}, 3 / 5, 1.0),
    ],
)
def test_rewards_of_hand_made_masks(reward, args, first, second):
    total, parts = worth(reward, DRAWN, MASK, **args)
    assert parts == pytest.approx([0, first / 2, second / 2])
    assert total == pytest.approx((first + second) / 2)


def test_a_class_that_neither_has_does_not_count_and_one_that_is_made_up_does():
    assert worth("f1", [[1, 0]], [[1, 0]])[0] == 1  # right_eye is nowhere
    assert worth("f1", [[1, 2]], [[1, 0]], w=0.3)[1] == pytest.approx([0, 1 / 2, -0.3 / 2])
    assert worth("pq", [[1, 2]], [[1, 0]], w=0.3)[1] == pytest.approx([0, 1 / 2, -0.3 / 2])
    assert worth("f1", [[1, 2]], [[1, 0]], mean_over="labeled")[1] == [0, 1, 0]
    assert worth("f1", [[0, 0]], [[0, 0]]) == (0, [0, 0, 0])
    assert worth("f1", [[0, 0]], [[0, 0]], background=True)[0] == 1


def test_panoptic_quality_matches_above_one_half_alone():
    assert worth("pq", [[1, 1, 0, 0]], [[1, 0, 0, 0]], w=0.4)[0] == pytest.approx(-0.4)  # IoU is 1/2
    assert worth("pq", [[1, 1, 1, 0]], [[1, 1, 0, 0]], w=0.4)[0] == pytest.approx(2 / 3)
    assert worth("pq", [[0, 0, 0, 0]], [[1, 1, 0, 0]], w=0.4)[0] == 0  # missed, and no false positive


def exact_gradient(built, logits, mask):
    """The gradient of the expected reward, by all masks there are and their probabilities."""
    logits = logits.clone().requires_grad_()
    log_p = logits.log_softmax(1)
    total = 0
    for y in every_mask(logits):
        score = torch.gather(log_p, 1, y[:, None]).squeeze(1).masked_fill(mask == IGNORED, 0)
        parts = built._rewards(*counts(y, mask, logits.shape[1])).sum(-1)  # (B,) or (1,)
        labels = mask != IGNORED
        free = 1 / logits.shape[1] ** int((~labels).sum())  # what is drawn there does not count
        total = total + score.sum().exp() * free * parts.mean()
    total.backward()
    return logits.grad


def every_mask(logits):
    batch, classes, height, width = logits.shape
    for flat in itertools.product(range(classes), repeat=batch * height * width):
        yield torch.tensor(flat).view(batch, height, width)


def mean_of_estimates(built, logits, mask):
    """The gradient of -loss, by all tuples of masks that may be drawn and their probabilities."""
    logits = logits.clone().requires_grad_()
    masks = list(every_mask(logits))
    log_p = logits.detach().log_softmax(1)
    share = [torch.gather(log_p, 1, y[:, None]).sum().exp() for y in masks]
    total = torch.zeros_like(logits)
    for chosen in itertools.product(range(len(masks)), repeat=built.draws):
        loss, _ = built.policy_loss(logits, mask, torch.stack([masks[i] for i in chosen]))
        (gradient,) = torch.autograd.grad(loss, logits)
        total -= gradient * torch.stack([share[i] for i in chosen]).prod()
    return total


UNBIASED = [
    {"baseline": "none"},
    {"baseline": "second"},
    {"baseline": "leave_one_out", "samples": 2},
    {"baseline": "leave_one_out", "samples": 3},
    {"credit": "pixel"},
    {"credit": "pixel", "mean_over": "labeled", "background": True},
    {"baseline": "second", "mean_over": "labeled"},
]


@pytest.mark.parametrize("reward", ["f1", "pq", "f1_pixels"])
@pytest.mark.parametrize("args", UNBIASED, ids=str)
def test_the_mean_of_the_estimates_is_the_gradient_of_the_expected_reward(args, reward):
    built, logits = task(reward=reward, **args), torch.randn(1, 3, 1, 2)
    mask = torch.tensor([[[1, 2]]])
    expected = exact_gradient(built, logits, mask)
    assert expected.norm() > 0.01
    torch.testing.assert_close(mean_of_estimates(built, logits, mask), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("args", [{"baseline": "second"}, {"credit": "pixel"}], ids=str)
@pytest.mark.parametrize("over", ["image", "batch"])
def test_it_is_so_of_two_images_too_and_where_pixels_are_not_labeled(args, over):
    built, logits = task(NAMES[:2], over=over, **args), torch.randn(2, 2, 1, 2)
    mask = torch.tensor([[[1, IGNORED]], [[1, 0]]])
    expected = exact_gradient(built, logits, mask)
    assert expected[0, :, 0, 1].abs().sum() == 0
    torch.testing.assert_close(mean_of_estimates(built, logits, mask), expected, rtol=1e-4, atol=1e-6)


def test_the_mean_of_the_log_probabilities_divides_the_gradient_by_the_pixels():
    logits, mask = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 4, 5))
    drawn = sampled(logits, 2)
    losses = [task(log_prob=name).policy_loss(logits, mask, drawn)[0] for name in ("sum", "mean")]
    torch.testing.assert_close(losses[0], 20 * losses[1])


def spread(built, logits, mask, times=200):
    """The mean squared distance of estimates from their mean."""
    found = []
    for _ in range(times):
        given = logits.clone().requires_grad_()
        loss, _ = built.policy_loss(given, mask, sampled(given, built.draws))
        found.append(torch.autograd.grad(loss, given)[0])
    return torch.stack(found).var(0).sum().item()


def test_credit_by_pixel_has_far_less_variance():
    logits, mask = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    of_image, of_pixel = spread(task(), logits, mask), spread(task(credit="pixel"), logits, mask)
    assert of_pixel < of_image / 20


def test_credit_by_class_holds_a_reward_against_its_own_pixels():
    built = task(credit="class", baseline="none")
    logits = torch.zeros(1, 3, 1, 4, requires_grad=True)
    mask, y = torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[[1, 0, 0, 0]]]])
    loss, reward = built.policy_loss(logits, mask, y)
    loss.backward()
    # left_eye has F1 2/3, half of the mean; right_eye 0. Pixels 0 and 1 are of left_eye by what is drawn or labeled.
    assert reward.item() == pytest.approx(1 / 3)
    pull = torch.tensor([2 / 3, -1 / 3])  # of log p by the logit of what is drawn, and of the others
    torch.testing.assert_close(-logits.grad[0, :, 0, 0], torch.stack([pull[1], pull[0], pull[1]]) / 3)
    torch.testing.assert_close(-logits.grad[0, :, 0, 1], torch.stack([pull[0], pull[1], pull[1]]) / 3)
    assert logits.grad[0, :, 0, 2:].abs().sum() == 0


def test_advantages_are_normalized_over_the_masks_of_an_image_or_over_a_class():
    own = torch.randn(4, 3, 2, dtype=torch.float64)
    of_image = task(samples=4, baseline="leave_one_out", normalize="image")._above_baseline(own.sum(-1))
    torch.testing.assert_close(of_image.std(0, correction=0), torch.ones(3).double())
    torch.testing.assert_close(of_image.mean(0), torch.zeros(3).double())
    of_class = task(samples=4, baseline="none", credit="class", normalize="class")._above_baseline(own)
    torch.testing.assert_close(of_class.std((0, 1), correction=0), torch.ones(2).double())


def test_the_notes_own_code_is_one_setting():
    """Its two functions, as far as they say what they compute, beside ours for two classes."""

    def f1_and_false_positives(preds, labels):
        tp, fp, fn = (preds * labels).sum(), (preds * (1 - labels)).sum(), ((1 - preds) * labels).sum()
        precision, recall = tp / (tp + fp + 1e-6), tp / (tp + fn + 1e-6)
        return 2 * precision * recall / (precision + recall + 1e-6), fp

    logits = torch.randn(3, 2, 6, 6)
    labels = torch.randint(0, 2, (3, 6, 6))
    built = task(NAMES[:2], reward="f1_pixels", over="batch", log_prob="mean")
    drawn = sampled(logits, 2)
    found, _ = built.policy_loss(logits, labels, drawn)
    of_one = logits[:, 1] - logits[:, 0]
    (f1, fp), (f1_base, fp_base) = (f1_and_false_positives(y.float(), labels.float()) for y in drawn)
    reward = (f1 - 0.3 * fp) - (f1_base - 0.3 * fp_base)
    log_prob = Bernoulli(logits=of_one).log_prob(drawn[0].float()).mean((1, 2))
    torch.testing.assert_close(found, (-log_prob * reward).mean(), rtol=1e-4, atol=1e-5)


def test_what_is_sampled_is_what_is_scored():
    built = task(dropout=0.5, context=True).train()
    assert not any(module.training for module in built.modules())
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    before = {name: value.clone() for name, value in built.named_buffers()}
    torch.testing.assert_close(built.logits({"image": image}), built.logits({"image": image}), rtol=0, atol=0)
    assert all(torch.equal(before[name], value) for name, value in built.named_buffers())
    logits = torch.tensor([2.0, 0.0, -1.0]).view(1, 3, 1, 1)
    drawn = sampled(logits.expand(-1, -1, 100, 100), 4)
    share = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    torch.testing.assert_close(share, logits.flatten().softmax(0), rtol=0, atol=0.01)


def test_its_gradient_reaches_the_backbone_and_the_likelihood_may_be_added():
    batch = {
        "image": torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8),
        "mask": torch.randint(0, 3, (2, 16, 16), dtype=torch.uint8),
    }
    for credit in ("image", "class", "pixel"):
        built = task(credit=credit, baseline="leave_one_out", samples=2)
        found = built(batch)
        found["loss"].backward()
        assert all(p.grad.isfinite().all() for p in built.decoder.parameters())
        assert sum(p.grad.abs().sum() for p in built.backbone.parameters() if p.grad is not None) > 0
        assert found["loss"].requires_grad
        assert not found["reward"].requires_grad
    torch.manual_seed(0)
    built = task()
    torch.manual_seed(1)
    alone = built(batch)["loss"]
    built.ml_weight = 0.5
    torch.manual_seed(1)
    likelihood = built.criterion(built.logits(batch), batch["mask"])
    torch.testing.assert_close(built(batch)["loss"], alone + 0.5 * likelihood)


def test_a_reward_of_ones_own(monkeypatch):
    monkeypatch.setattr(REWARDS, "_table", dict(REWARDS._table))

    @facetx.REWARDS.register
    def recall(power: float = 1.0):
        return lambda tp, fp, fn: (tp / (tp + fn).clamp(min=1)) ** power

    assert worth("recall", DRAWN, MASK, power=2.0)[1] == pytest.approx([0, 0.75**2 / 2, 1 / 2])
    assert task(reward="recall", reward_args={"power": 2.0}).reward is not None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"baseline": "leave_one_out"}, "needs at least 2 samples"),
        ({"normalize": "image"}, "needs at least 2 samples"),
        ({"normalize": "class"}, "goes with the credit class"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"ml_weight": -1.0}, "ml_weight at least 0"),
        ({"reward_args": {"v": 0.3}}, "f1 takes w, and not v"),
        ({"reward_args": {"w": 1.0}}, "w must be at least 0 and below 1"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together_are_errors(args, says):
    with pytest.raises(ConfigError, match=says):
        task(**args)


def test_an_unknown_reward_is_an_error():
    with pytest.raises(UnknownNameError, match="no reward is named 'f2'"):
        task(reward="f2")


def test_it_goes_on_from_a_run_by_likelihood_and_raises_the_reward(tmp_path):
    def settings(name, task, **more):
        return check_settings(
            {
                "name": name,
                "task": task,
                "data": {
                    "name": "synthetic_faces",
                    "args": {"identities": 12, "images_per_identity": 2},
                    "workers": 0,
                    "cache": True,
                },
                "model": {"name": "timm:test_convnext", "args": {"image_size": 64, "embedding_dim": None}, **more},
                "optim": {"lr": 5e-3 if name == "ml" else 1e-3, "weight_decay": 0.0},
                "train": {"steps": 20, "batch_size": 12, "log_every": 20, "checkpoint_every": 20},
            }
        )

    first = start_run(settings("ml", {"name": "parsing", "args": {"width": 16}}), tmp_path / "ml")
    args = {"width": 16, "credit": "pixel"}
    start = settings("reward", {"name": "parsing_reward", "args": args}, init_from=str(tmp_path / "ml"))
    second = start_run(start, tmp_path / "reward")
    batch = {k: v for k, v in second.run.items.dataset[0].items() if k in ("image", "mask")}
    image = torch.from_numpy(batch["image"]).permute(2, 0, 1)[None]
    mask = torch.from_numpy(batch["mask"])[None].long()

    def expected(run):
        drawn = sampled(run.task.eval().logits({"image": image}), 8)
        return second.run.task.policy_loss(torch.zeros(1, 11, 64, 64), mask, drawn)[1].item()

    assert expected(second.run) > expected(first.run) + 0.02
