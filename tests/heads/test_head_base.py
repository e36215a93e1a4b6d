"""What the base class of heads does for all: wrong heads of one's own, true float32, no look at the device."""

import inspect

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from facetx.errors import ConfigError, DataError
from facetx.heads import HEADS, Head, JointHead
from facetx.heads.precision import product, true_float32
from facetx.registry import Registry

CENTERS = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]
CASES = [
    *((name, {}) for name in HEADS),
    *((name, {"engine": engine}) for name in ("arcface", "adaface", "softmax") for engine in ("chunked", "sampled")),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"mining": "all"}),
    ("contrastive", {"reduction": "nonzero"}),
    ("npairs", {"l2": 0.1}),
    ("magface", {"easy_margin": True}),
]
LABELS = torch.arange(12) % 4


def make(name, **args):
    return HEADS.create(name, embedding_dim=8, num_classes=4, **args)


class Own(Head):
    """A user's head that returns whatever the test wants."""

    def __init__(self, answer):
        super().__init__(8, 4)
        self.answer = answer

    def forward(self, embeddings, labels):
        return self.answer(embeddings)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x.mean(), 'head Own: forward returns a Tensor; it must return a dict of scalars, with "loss"'),
        (lambda x: {}, "head Own: forward returns a dict of nothing; "),
        (lambda x: {"los": x.mean()}, "head Own: forward returns a dict of 'los'; "),
        (lambda x: {"loss": x.mean(1), "a": 0.5}, r"head Own: forward returns 'loss', 'a', which must be a scalar"),
        (lambda x: {"loss": x.mean().detach()}, 'head Own: "loss" carries no gradient'),
    ],
)
def test_what_an_own_head_returns_is_checked_and_named(answer, message):
    with pytest.raises(ConfigError, match=message):
        Own(answer)(torch.randn(12, 8, requires_grad=True), LABELS)


def test_an_own_head_needs_nothing_but_its_forward():
    head = Registry("head", [Own], base=Head).create("Own", answer=lambda x: {"loss": x.mean()})
    x = torch.randn(12, 8, requires_grad=True)
    assert torch.equal(head(x, LABELS)["loss"], x.mean())
    assert head(x.bfloat16(), LABELS)["loss"].dtype == torch.float32
    assert (head.has_logits, head.needs_pairs, head.per_sample) == (False, False, False)
    with pytest.raises(ValueError, match="Own has no class centers"):
        head.logits(x)
    with pytest.raises(DataError, match="label 9 is out of range"):
        head(x, LABELS + 9)


def test_what_is_no_head_is_named_where_it_is_built():
    class Half(Head):
        def __init__(self):
            nn.Module.__init__(self)

        def forward(self, embeddings, labels):
            return {}

    table = Registry("head", {"mine": nn.Linear, "half": Half}, base=Head)
    with pytest.raises(ConfigError, match=r"head mine: gives a Linear, which is no Head; .* facetx.heads.base.Head"):
        table.create("mine", in_features=2, out_features=2)
    with pytest.raises(ConfigError, match=r"head half: lacks embedding_dim, num_classes; .* call super\(\).__init__"):
        table.create("half")
    with pytest.raises(ConfigError, match=r"head Half: its __init__ must begin with super\(\)"):
        Half()(torch.randn(12, 8), LABELS)


def test_heads_say_what_they_are():
    for name in HEADS:
        assert make(name).has_logits == (name in CENTERS)
        assert make(name).per_sample == (name in CENTERS and name not in ("adaface", "curricularface"))
    assert not make("cosface", engine="sampled").per_sample
    joint = JointHead([(1.0, make("cosface")), (1.0, make("center_loss"))])
    assert (joint.has_logits, joint.per_sample, joint.needs_pairs) == (True, False, False)
    assert JointHead([(1.0, make("cosface")), (1.0, make("triplet"))]).needs_pairs
    assert not JointHead([(1.0, make("triplet"))]).has_logits


@pytest.fixture
def _restored():
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_true_float32_ends_with_what_was_before(before):
    torch.set_float32_matmul_precision(before)

    def inside():
        with torch.autocast("cpu", torch.bfloat16), true_float32(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
            assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32
            raise KeyError

    with pytest.raises(KeyError):
        inside()
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.usefixtures("_restored")
def test_true_float32_takes_a_setting_of_one_backend():
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this PyTorch has one setting for all backends")
    for overall, own in (("high", "ieee"), ("highest", "tf32")):
        torch.set_float32_matmul_precision(overall)
        matmul.fp32_precision = own
        with true_float32(torch.device("cpu")):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == own


def test_product_is_a_product_and_differentiates_twice():
    a, b = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    torch.testing.assert_close(product(a, b), a @ b.T)
    assert torch.autograd.gradcheck(product, (a, b))
    assert torch.autograd.gradgradcheck(product, (a, b))


class Products(TorchDispatchMode):
    """Records the precision that each matrix product runs in."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "matmul"):
            self.precisions.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize(("name", "args"), CASES)
def test_every_product_of_a_head_is_true_float32_forward_and_backward(name, args):
    torch.set_float32_matmul_precision("high")
    head, x = make(name, **args), torch.randn(12, 8, requires_grad=True)
    with Products() as products:
        loss = head(x, LABELS)["loss"]
        torch.autograd.grad(loss, x, retain_graph=True)
        loss.backward()  # where gradients were made along with the loss, now they are made anew
        if head.has_logits:
            head.logits(x)
    assert set(products.precisions) <= {"highest"}
    assert products.precisions or name in ("center_loss", "contrastive", "triplet")
    assert torch.get_float32_matmul_precision() == "high"


class NoLook(TorchDispatchMode):
    """Refuses what would wait for a device: reading values, results whose shape hangs on them, numbers copied there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "equal"), name
        if name in ("where", "_to_copy", "copy_", "index_put", "index_put_", "index"):
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            assert len({t.device.type for t in tensors}) == 1, f"{name} copies a number to the device"
        if name == "_to_copy":
            assert args[0].device == torch.device((kwargs or {}).get("device") or args[0].device)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "args"), CASES)
def test_no_head_looks_at_the_device(name, args):
    """On PyTorch's device without values, where a look is an error; what copies numbers is caught on the way."""
    head = make(name, **args).to("meta")
    x = torch.randn(12, 8, device="meta", requires_grad=True)
    labels = torch.zeros(12, dtype=torch.int64, device="meta")
    with NoLook():
        head(x, labels)["loss"].backward()
    assert x.grad.shape == x.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "args"), CASES)
def test_no_head_synchronizes_with_a_gpu_and_its_numbers_are_those_of_the_cpu(name, args):
    head, x = make(name, **args), torch.randn(12, 8)
    torch.manual_seed(0)
    rows = x.clone().requires_grad_()
    want = head(rows, LABELS)
    want["loss"].backward()

    head, labels = make(name, **args).cuda() if args.get("engine") == "sampled" else head.cuda(), LABELS.cuda()
    there = x.cuda().requires_grad_()
    head(there.detach(), labels)  # libraries and kernels are loaded now
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = head(there, labels)
        got["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if name in CENTERS and args.get("engine") != "sampled" and name not in ("adaface", "curricularface"):
        torch.testing.assert_close(got["loss"].cpu(), want["loss"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(there.grad.cpu(), rows.grad, rtol=1e-3, atol=1e-4)
