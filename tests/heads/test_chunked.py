"""What the chunked engine promises beyond its numbers: little memory, no product twice, ordinary backward rules."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from facetx.heads import HEADS

BATCH, CLASSES, DIM = 32, 500, 16


class Sizes(TorchDispatchMode):
    """Records the shapes of all tensors that are made."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in given:
                self.shapes.append((str(func), tuple(t.shape)))
        return out


class Products(TorchDispatchMode):
    """Counts the multiplications of all matrix products."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_", "bmm"):
            a, b = args[-2:]
            self.count += a.numel() * b.shape[-1]
        return func(*args, **(kwargs or {}))


def make(engine, name="cosface"):
    head = HEADS.create(name, embedding_dim=DIM, num_classes=CLASSES, engine=engine)
    return head, torch.randn(BATCH, DIM, requires_grad=True), torch.randint(CLASSES, (BATCH,))


@pytest.mark.parametrize("name", ["cosface", "arcface", "sphereface", "sface", "softmax"])
def test_it_never_makes_batch_x_classes_nor_a_copy_of_the_weights(name):
    counts = {}
    for engine in ("full", "chunked"):
        head, x, y = make(engine, name)
        with Sizes() as sizes:
            head(x, y)["loss"].backward()
        large = [s for s in sizes.shapes if torch.Size(s[1]).numel() > CLASSES * DIM / 2]
        counts[engine] = len(large)
        if engine == "chunked":  # one: the gradient of the weights
            assert [shape for _, shape in large] == [(CLASSES, DIM)], large
    assert counts["full"] > 3


def test_it_computes_no_product_twice():
    counts = {}
    for engine in ("full", "chunked"):
        head, x, y = make(engine)
        with Products() as products:
            head(x, y)["loss"].backward()
        counts[engine] = products.count
    assert counts["chunked"] == counts["full"] == 3 * BATCH * CLASSES * DIM  # logits, and two gradients


def test_a_retained_graph_differentiates_again():
    head, x, y = make("chunked")
    loss = head(x, y)["loss"]
    once = torch.autograd.grad(loss, [x, head.weight], retain_graph=True)
    again = torch.autograd.grad(loss, [x, head.weight])
    for a, b in zip(once, again):
        assert torch.equal(a, b)


def test_gradients_accumulate():
    head, x, y = make("chunked")
    head(x, y)["loss"].backward()
    first = head.weight.grad.clone()
    head(x, y)["loss"].backward()
    torch.testing.assert_close(head.weight.grad, 2 * first)


def test_the_weights_may_be_frozen():
    head, x, y = make("chunked")
    head.weight.requires_grad_(False)
    head(x, y)["loss"].backward()
    assert x.grad.abs().sum() > 0
