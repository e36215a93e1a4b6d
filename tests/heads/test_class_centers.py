"""Every class-center head against a naive recomputation in plain Python floats, and at the edges."""

import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import shared

from facetx.errors import DataError
from facetx.heads import HEADS, ClassCenterHead

NAMES = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]
MARGIN_ONLY = ["adaface", "arcface", "combined_margin", "cosface", "curricularface"]


def build(name, dim=6, classes=5, **args) -> ClassCenterHead:
    """A float64 head with class centers of length about 1, in eval mode so that running statistics stand still."""
    head = HEADS.create(name, embedding_dim=dim, num_classes=classes, **args).double().eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight)
    return head


def batch(dim=6, classes=5, size=8, length=20.0):
    x = torch.randn(size, dim, dtype=torch.float64)
    return x * length / dim**0.5, torch.randint(classes, (size,))


def psi(phi: float) -> float:
    k = math.floor(phi / math.pi)
    return (-1) ** k * math.cos(phi) - 2 * k


def cross_entropy(target: float, others: list[float]) -> float:
    return math.log(math.exp(target) + sum(math.exp(o) for o in others)) - target


def naive_loss(name: str, x: list[float], centers: list[list[float]], label: int, bias: list[float]) -> float:
    """The default head's loss of one image, written from the paper's equation."""

    def dot(a, b):
        return math.fsum(p * q for p, q in zip(a, b))

    norm = math.sqrt(dot(x, x))
    cosines = [dot(x, w) / norm / math.sqrt(dot(w, w)) for w in centers]
    if name == "softmax":
        logits = [dot(x, w) + b for w, b in zip(centers, bias)]
        return cross_entropy(logits.pop(label), logits)
    t = cosines.pop(label)
    theta = math.acos(t)
    if name == "normalized_softmax":
        target = t
    elif name == "modified_softmax":
        return cross_entropy(norm * t, [norm * c for c in cosines])
    elif name == "sphereface":
        target = (5 * t + psi(4 * theta)) / 6
        return cross_entropy(norm * target, [norm * c for c in cosines])
    elif name == "cosface":
        target = t - 0.35
    elif name == "arcface":
        target = psi(theta + 0.5)
    elif name == "combined_margin":
        target = psi(theta + 0.3) - 0.2
    elif name == "sface":
        intra = 64 / (1 + math.exp(-80 * (theta - 0.9)))
        return -intra * t + sum(64 / (1 + math.exp(80 * (math.acos(c) - 1.2))) * c for c in cosines)
    elif name == "adaface":
        quality = max(-1.0, min(1.0, 0.333 * (norm - 20) / (100 + 1e-3)))
        target = math.cos(min(math.pi, max(0.0, theta - 0.4 * quality))) - 0.4 * (1 + quality)
    elif name == "curricularface":
        target = psi(theta + 0.5)
        cosines = [c * (0.0 + c) if c > target else c for c in cosines]
    elif name == "magface":
        a = max(10.0, min(110.0, norm))
        target = psi(theta + 0.45 + (0.8 - 0.45) * (a - 10) / (110 - 10))
        return cross_entropy(64 * target, [64 * c for c in cosines]) + 35 * (1 / a + a / 110**2)
    return cross_entropy(64 * target, [64 * c for c in cosines])


@pytest.mark.parametrize("name", NAMES)
def test_loss_equals_the_naive_recomputation(name):
    head, (x, y) = build(name), batch()
    bias = [] if head.bias is None else head.bias.tolist()
    expected = [naive_loss(name, x[i].tolist(), head.weight.tolist(), int(y[i]), bias) for i in range(len(y))]
    assert head(x, y)["loss"].item() == pytest.approx(sum(expected) / len(expected), rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sface"])  # its factors take no gradient: test_criterion.py
@pytest.mark.parametrize("engine", ["full", "chunked"])
def test_gradcheck(name, engine):
    head, (x, y) = build(name, engine=engine), batch(size=5)
    if name == "adaface":  # all qualities at their bound, since they take no gradient
        head.criterion.mean.fill_(0)
        head.criterion.std.fill_(0.1)
    x.requires_grad_()
    head.weight.requires_grad_(False)

    def loss(x, weight):
        return torch.func.functional_call(head, {"weight": weight}, (x, y))["loss"]

    assert torch.autograd.gradcheck(loss, (x, head.weight.clone().requires_grad_()))


FIXTURES = [
    ("cosface", {"margin": 0.4}, "insightface_cosface_m0.4_s64"),
    ("arcface", {"margin": 0.5, "gradient": "straight_through"}, "insightface_arcface_m0.5_s64"),
    ("combined_margin", {"m2": 0.5, "m3": 0.0, "gradient": "straight_through"}, "insightface_arcface_m0.5_s64"),
    ("arcface", {"margin": 0.5}, "pml_arcface_margin28.6479deg_s64"),
    ("cosface", {"margin": 0.35}, "pml_cosface_m0.35_s64"),
    ("sphereface", {"margin": 4.0, "annealing": 0.0}, "pml_sphereface_m4_s1"),
    ("normalized_softmax", {"scale": 20.0}, "pml_normsoftmax_t0.05"),
    ("sface", {"k": 80.0, "a": 0.9, "b": 1.2}, "sface_s64_k80_a0.90_b1.2"),
]


@pytest.mark.parametrize(("name", "args", "key"), FIXTURES, ids=[f"{f[0]}-{f[2]}" for f in FIXTURES])
@pytest.mark.parametrize("engine", ["full", "chunked"])
def test_parity_with_published_programs(name, args, key, engine):
    with np.load(shared("fixtures/losses.npz"), allow_pickle=False) as file:
        arrays = {k: torch.from_numpy(file[k]) for k in file.files}
    x, y = arrays["embedding"].requires_grad_(), arrays["label"]
    head = build(name, x.shape[1], len(arrays["weight"]), engine=engine, **args)
    head.load_weight(arrays["weight"])
    result = head(x, y)
    result["loss"].backward()
    want = {k.rpartition("/")[2]: v for k, v in arrays.items() if k.startswith(f"value/{key}/")}

    torch.testing.assert_close(result["loss"], want["loss"], rtol=1e-9, atol=0)
    if "grad_embedding" in want:
        torch.testing.assert_close(x.grad, want["grad_embedding"], rtol=1e-7, atol=1e-12)
    if "grad_cosine" in want:
        unit = x.detach().requires_grad_()
        cosine = F.linear(F.normalize(unit), F.normalize(head.weight))
        (grad,) = torch.autograd.grad(cosine, unit, want["grad_cosine"])
        torch.testing.assert_close(x.grad, grad, rtol=1e-7, atol=1e-12)
    if "logits" in want:
        scaled = head.logits(x)
        rows = torch.arange(len(y))
        scaled[rows, y] = 64 * head.criterion.margin(scaled[rows, y] / 64, 1.0)
        torch.testing.assert_close(scaled, want["logits"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MARGIN_ONLY)
def test_margin_scale_zero_is_the_normalized_softmax(name):
    (x, y), plain, head = batch(), build("normalized_softmax"), build(name)
    head.load_weight(plain.weight.detach())
    assert head(x, y)["loss"] != plain(x, y)["loss"]
    head.set_margin_scale(0.0)
    assert torch.equal(head(x, y)["loss"], plain(x, y)["loss"])


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cosface", {"margin": 0.0}),
        ("arcface", {"margin": 0.0}),
        ("arcface", {"margin": 0.0, "gradient": "straight_through"}),
        ("combined_margin", {"m2": 0.0, "m3": 0.0}),
        ("adaface", {"margin": 0.0}),
        ("magface", {"margin_low": 0.0, "margin_high": 0.0, "regularizer": 0.0}),
        ("sphereface", {"margin": 1.0}),
    ],
)
def test_margin_zero_is_the_normalized_softmax(name, args):
    (x, y), plain, head = batch(), build("normalized_softmax"), build(name, **args)
    x = 64 * F.normalize(x)  # the length takes the scale's place in SphereFace
    head.load_weight(plain.weight.detach())
    torch.testing.assert_close(head(x, y)["loss"], plain(x, y)["loss"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["full", "chunked"])
def test_cosines_of_exactly_one_and_minus_one_stay_finite(name, engine):
    head = HEADS.create(name, embedding_dim=4, num_classes=3, engine=engine)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4)[:3])
    x = (20 * torch.stack([torch.eye(4)[0], -torch.eye(4)[1]])).requires_grad_()
    result = head(x, torch.tensor([0, 1]))
    result["loss"].backward()
    assert all(value.isfinite() for value in result.values())
    assert x.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["full", "chunked", "sampled"])
def test_one_class(name, engine):
    head = build(name, classes=1, engine=engine).train()
    x, y = batch(classes=1)
    x.requires_grad_()
    result = head(x, y)
    result["loss"].backward()
    assert result["accuracy"] == 1
    assert result["loss"].isfinite()
    assert x.grad.isfinite().all()
    if name not in ("sface", "magface"):  # they have more than the softmax
        assert result["loss"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_image_twice_counts_twice(name):
    head, (x, y) = build(name), batch(size=4)
    once, twice = head(x, y)["loss"], head(torch.cat([x, x]), torch.cat([y, y]))["loss"]
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64(name):
    head, (x, y) = build(name), batch()
    exact = head(x, y)["loss"]
    torch.testing.assert_close(head.float()(x.float(), y)["loss"].double(), exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ["full", "chunked"])
def test_bf16_autocast_changes_nothing(name, engine):
    head, (x, y) = build(name, engine=engine).float(), batch()
    x = x.bfloat16()
    plain = head(x.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = head(x, y)
        logits = head.logits(x)
    assert under["loss"].dtype == torch.float32
    assert torch.equal(under["loss"], plain["loss"])
    assert torch.equal(logits, head.logits(x.float()))


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_and_logits_leave_the_margin_out(name):
    head, (x, y) = build(name), batch(size=32)
    logits, result = head.logits(x), head(x, y)
    assert logits.shape == (32, 5)
    assert result["accuracy"] == (logits.argmax(1) == y).double().mean()
    assert not result["accuracy"].requires_grad
    if name != "softmax":
        cosine = F.linear(F.normalize(x), F.normalize(head.weight))
        scale = 1 * x.norm(dim=1, keepdim=True) if name in ("sphereface", "modified_softmax") else 64
        torch.testing.assert_close(logits, scale * cosine)
        torch.testing.assert_close(result["target_cosine"], cosine[torch.arange(32), y].mean())
    torch.testing.assert_close(result["embedding_norm"], x.norm(dim=1).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_learn_the_batch(name):
    head = HEADS.create(name, embedding_dim=8, num_classes=4)
    x = (5 * torch.randn(12, 8)).requires_grad_()
    y = torch.arange(12) % 4
    optimizer = torch.optim.Adam([x, *head.parameters()], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        head(x, y)["loss"].backward()
        optimizer.step()
    assert head(x, y)["accuracy"] == 1


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range_is_named(label):
    head, (x, y) = build("cosface"), batch()
    y[3] = label
    with pytest.raises(DataError, match=f"label {label} is out of range: the head has 5 classes"):
        head(x, y)


def test_modified_softmax_is_spherefaces_equation_without_a_margin():
    (x, y), modified, sphere = batch(), build("modified_softmax"), build("sphereface", margin=1.0, annealing=0.0)
    sphere.load_weight(modified.weight.detach())
    torch.testing.assert_close(modified(x, y)["loss"], sphere(x, y)["loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("engine", ["full", "chunked", "sampled"])
def test_softmax_without_its_bias_is_softmax_with_a_bias_of_zero(engine):
    (x, y), without = batch(), build("softmax", bias=False, engine=engine)
    with_bias = build("softmax", engine=engine)
    assert without.bias is None
    assert "bias" not in without.state_dict()
    with torch.no_grad():
        with_bias.bias.zero_()
        with_bias.load_weight(without.weight)
    assert torch.equal(with_bias(x, y)["loss"], without(x, y)["loss"])
    with_bias(x, y)["loss"].backward()
    share = F.softmax(with_bias.logits(x), dim=1).mean(0) - F.one_hot(y, 5).double().mean(0)
    torch.testing.assert_close(with_bias.bias.grad, share)


@pytest.mark.parametrize("m", [(1.0, 0.3, 0.2), (0.9, 0.4, 0.15)])
def test_the_papers_combined_margins(m):
    head, (x, y) = build("combined_margin", m1=m[0], m2=m[1], m3=m[2]), batch()
    cosine = F.linear(F.normalize(x), F.normalize(head.weight))
    rows = torch.arange(len(y))
    turned = m[0] * cosine[rows, y].arccos() + m[1]
    cosine[rows, y] = torch.where(turned < math.pi, turned.cos(), -turned.cos() - 2) - m[2]
    torch.testing.assert_close(head(x, y)["loss"], F.cross_entropy(64 * cosine, y))


def test_wrong_shapes_are_told():
    head, (x, y) = build("cosface"), batch()
    with pytest.raises(DataError, match=r"embeddings of shape \(batch, 6\).*got \(8, 5\)"):
        head(x[:, :5], y)
    with pytest.raises(DataError, match="labels of shape"):
        head(x, y[:3])
    with pytest.raises(DataError, match="batch is empty"):
        head(x[:0], y[:0])


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("cosface", {"scale": 0.0}, "scale must be above 0"),
        ("cosface", {"margin": -0.1}, r"margin must be in \[0, 2\]"),
        ("arcface", {"margin": 28.6}, r"margin \(radians\) must be in \[0, 3.14159\], got 28.6"),
        ("cosface", {"engine": "quick"}, "engine must be one of 'full', 'chunked', 'sampled', 'sharded', got 'quick'"),
        ("cosface", {"chunk_size": 0}, "chunk_size must be at least 1"),
        ("cosface", {"sample_rate": 0.0}, "sample_rate must be in"),
        ("sface", {"k": -1.0}, "k must be above 0"),
        ("adaface", {"momentum": 2.0}, "momentum must be in"),
        ("magface", {"norm_low": 120.0}, "norm_low must be below norm_high"),
        ("cosface", {"classes": 0}, "num_classes must be at least 1"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(name, args, message):
    with pytest.raises(ValueError, match=message):
        build(name, **args)


def test_margin_scale_outside_its_range_is_an_error():
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 1.5"):
        build("cosface").set_margin_scale(1.5)
