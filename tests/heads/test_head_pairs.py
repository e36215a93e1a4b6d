"""Pair losses against loops in plain floats and published programs, and batches that cannot work."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import shared

from facetx.errors import DataError
from facetx.heads import HEADS

DIM = 5
LABELS = [0, 1, 0, 2, 1, 0, 3, 2]
CASES = [
    ("contrastive", {}),
    ("contrastive", {"margin": 3.0, "power": 1, "reduction": "nonzero"}),
    ("contrastive", {"margin": 0.7, "normalize": True}),
    ("triplet", {"mining": "batch_hard"}),
    ("triplet", {"mining": "semi_hard", "margin": 0.5}),
    ("triplet", {"mining": "all"}),
    ("triplet", {"mining": "all", "normalize": False, "squared": True}),
    ("circle", {}),
    ("circle", {"margin": 0.4, "gamma": 20.0}),
    ("logistic_pairs", {}),
    ("logistic_pairs", {"alpha": 2.0, "threshold": 0.1, "negative_cost": 25.0}),
    ("npairs", {}),
    ("npairs", {"l2": 0.02}),
]


def make(name, **args):
    return HEADS.create(name, embedding_dim=DIM, num_classes=4, **args)


def dot(a, b):
    return math.fsum(p * q for p, q in zip(a, b))


def unit(x):
    return [v / math.sqrt(dot(x, x)) for v in x]


def distance(a, b):
    return math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(a, b)))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def nonzero_mean(values):
    return mean(v for v in values if v > 0)


def naive_contrastive(x, y, margin=1.0, power=2, normalize=False, reduction="mean"):
    x = [unit(v) for v in x] if normalize else x
    pull, push = [], []
    for i in range(len(x)):
        for j in range(i):
            d = distance(x[i], x[j])
            if y[i] == y[j]:
                pull.append(d**power / power)
            else:
                push.append(max(0.0, margin - d) ** power / power)
    return nonzero_mean(pull) + nonzero_mean(push) if reduction == "nonzero" else mean(pull + push)


def naive_triplet(x, y, margin=0.2, mining="batch_hard", normalize=True, squared=False):
    x = [unit(v) for v in x] if normalize else x
    n = range(len(x))
    d = [[distance(a, b) ** (2 if squared else 1) for b in x] for a in x]
    losses = []
    for a in n:
        positives = [p for p in n if p != a and y[p] == y[a]]
        negatives = [q for q in n if y[q] != y[a]]
        if mining == "batch_hard" and positives:
            losses.append(max(0.0, max(d[a][p] for p in positives) - min(d[a][q] for q in negatives) + margin))
        if mining != "batch_hard":
            for p in positives:
                for q in negatives:
                    if mining == "all" or d[a][p] < d[a][q] < d[a][p] + margin:
                        losses.append(max(0.0, d[a][p] - d[a][q] + margin))
    return mean(losses) if mining == "batch_hard" else nonzero_mean(losses)


def naive_circle(x, y, margin=0.25, gamma=256.0):
    x, losses = [unit(v) for v in x], []
    for a in range(len(x)):
        s = [(dot(x[a], x[b]), y[a] == y[b]) for b in range(len(x)) if b != a]
        pull = [-gamma * max(0.0, 1 + margin - v) * (v - 1 + margin) for v, same in s if same]
        push = [gamma * max(0.0, v + margin) * (v - margin) for v, same in s if not same]
        if pull and push:
            z = [p + q for p in pull for q in push]
            top = max(0.0, *z)
            losses.append(top + math.log(math.exp(-top) + sum(math.exp(v - top) for v in z)))
    return mean(losses)


def naive_logistic_pairs(x, y, alpha=10.0, threshold=0.5, negative_cost=1.0):
    x, pull, push = [unit(v) for v in x], [], []
    for i in range(len(x)):
        for j in range(i):
            z = alpha * (dot(x[i], x[j]) - threshold)
            (pull if y[i] == y[j] else push).append(math.log1p(math.exp(-z if y[i] == y[j] else negative_cost * z)))
    return mean(pull) + mean(push)


def naive_npairs(x, y, l2=0.0):
    anchors, positives = [], []
    for label in sorted(set(y)):
        images = [x[i] for i in range(len(x)) if y[i] == label]
        if len(images) > 1:
            anchors.append(images[0])
            positives.append(images[1])
    n = range(len(anchors))
    losses = [
        math.log(sum(math.exp(dot(anchors[i], positives[j]) - dot(anchors[i], positives[i])) for j in n)) for i in n
    ]
    return mean(losses) + l2 * mean(dot(a, a) + dot(p, p) for a, p in zip(anchors, positives))


NAIVE = {
    "contrastive": naive_contrastive,
    "triplet": naive_triplet,
    "circle": naive_circle,
    "logistic_pairs": naive_logistic_pairs,
    "npairs": naive_npairs,
}


@pytest.mark.parametrize(("name", "args"), CASES)
def test_loss_equals_the_naive_recomputation(name, args):
    x = torch.randn(len(LABELS), DIM, dtype=torch.float64)
    want = NAIVE[name](x.tolist(), LABELS, **args)
    assert want > 0
    assert make(name, **args)(x, torch.tensor(LABELS))["loss"].item() == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(("name", "args"), [c for c in CASES if c[0] != "circle"])  # its weights take no gradient
def test_gradcheck(name, args):
    head, y = make(name, **args), torch.tensor(LABELS)
    x = torch.randn(len(LABELS), DIM, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: head(x, y)["loss"], (x,))


@pytest.mark.parametrize(
    ("name", "args", "key"),
    [
        (
            "contrastive",
            {"margin": 1.0, "power": 1, "reduction": "nonzero"},
            "pml_contrastive_posm0_negm1_l2_unnormalised_avgnonzero",
        ),
        ("triplet", {"mining": "all", "margin": 0.2}, "pml_triplet_m0.2_l2_normalised_avgnonzero"),
        ("circle", {"margin": 0.4, "gamma": 80.0}, "pml_circle_m0.4_gamma80"),
    ],
)
def test_parity_with_published_programs(name, args, key):
    with np.load(shared("fixtures/losses.npz"), allow_pickle=False) as file:
        x, y = torch.from_numpy(file["embedding"]).requires_grad_(), torch.from_numpy(file["label"])
        want, grad = (torch.from_numpy(file[f"value/{key}/{k}"]) for k in ("loss", "grad_embedding"))
    loss = HEADS.create(name, embedding_dim=x.shape[1], num_classes=12, **args)(x, y)["loss"]
    loss.backward()
    torch.testing.assert_close(loss, want, rtol=1e-9, atol=0)
    torch.testing.assert_close(x.grad, grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("name", "args"), CASES)
def test_identical_images_of_two_identities_stay_finite(name, args):
    x = torch.ones(4, DIM, requires_grad=True)
    loss = make(name, **args)(x, torch.tensor([0, 0, 1, 1]))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("name", "args"), CASES)
def test_bf16_autocast_changes_nothing(name, args):
    head, y, x = make(name, **args), torch.tensor(LABELS), torch.randn(len(LABELS), DIM).bfloat16()
    plain = head(x.float(), y)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = head(x, y)["loss"]
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)


@pytest.mark.parametrize("name", sorted(NAIVE))
def test_batches_without_pairs_are_told(name):
    head, x = make(name), torch.randn(4, DIM)
    with pytest.raises(DataError, match=r"no two of the 4 images of the batch show one identity.*K >= 2"):
        head(x, torch.arange(4))
    with pytest.raises(DataError, match=r"all 4 images of the batch show one identity.*P >= 2"):
        head(x, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match="label 9 is out of range"):
        head(x, torch.tensor([0, 0, 1, 9]))


def test_satisfied_triplets_give_zero_with_a_zero_gradient():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    for mining in ("batch_hard", "semi_hard", "all"):
        head = HEADS.create("triplet", embedding_dim=2, num_classes=2, mining=mining)
        loss = head(x, torch.tensor([0, 0, 1, 1]))["loss"]
        (grad,) = torch.autograd.grad(loss, x)
        assert loss == 0
        assert not grad.any()


def test_circle_does_not_differentiate_its_weights():
    x = F.normalize(torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    y = torch.tensor([0, 0, 1, 1])
    head = HEADS.create("circle", embedding_dim=3, num_classes=2, margin=0.25, gamma=5.0)
    head(x, y)["loss"].backward()

    z = x.detach().clone().requires_grad_()
    s = F.normalize(z) @ F.normalize(z).T
    losses = []
    for a, p in ((0, 1), (1, 0), (2, 3), (3, 2)):
        negatives = [n for n in range(4) if y[n] != y[a]]
        pull = -5 * (1.25 - s[a, p].item()) * (s[a, p] - 0.75)
        push = torch.stack([5 * max(0.0, s[a, n].item() + 0.25) * (s[a, n] - 0.25) for n in negatives])
        losses.append(torch.log1p((pull + push).exp().sum()))
    torch.stack(losses).mean().backward()
    torch.testing.assert_close(x.grad, z.grad)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("contrastive", {"margin": 0.0}, "margin must be above 0"),
        ("contrastive", {"power": 3}, "power must be one of 1, 2, got 3"),
        ("contrastive", {"reduction": "sum"}, "reduction must be one of 'mean', 'nonzero'"),
        ("triplet", {"margin": -1.0}, "margin must be above 0"),
        ("triplet", {"mining": "hardest"}, "mining must be one of 'batch_hard', 'semi_hard', 'all', got 'hardest'"),
        ("circle", {"margin": 2.0}, r"margin must be in \[0, 1\]"),
        ("logistic_pairs", {"threshold": 2.0}, "threshold must be in"),
        ("npairs", {"l2": -1.0}, "l2 must be in"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(name, args, message):
    with pytest.raises(ValueError, match=message):
        make(name, **args)
