"""Two gloo processes with a part of the classes and half of the batch each give the one-process result."""

import inspect

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from facetx.errors import ConfigError
from facetx.heads import HEADS
from facetx.processes import gathered, own, split_as

DIM, CLASSES, BATCH, RANKS = 8, 7, 12, 2
NAMES = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]


def make(name, engine, **args):
    torch.manual_seed(3)
    head = HEADS.create(name, embedding_dim=DIM, num_classes=CLASSES, engine=engine, **args).double()
    if head.bias is not None:
        head.bias.data += torch.arange(CLASSES)
    head.split(torch.device("cpu"))
    return head


def compare(rank: int, store: str) -> None:
    """Runs in each process; an assertion that fails there fails the test."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    torch.manual_seed(7)
    x = 4 * torch.randn(BATCH, DIM, dtype=torch.float64)
    y = torch.randint(CLASSES, (BATCH,))
    mine = slice(rank * BATCH // RANKS, (rank + 1) * BATCH // RANKS)
    classes = slice(0, 4) if rank == 0 else slice(4, 7)
    for name in NAMES:
        whole, shard = make(name, "full"), make(name, "sharded")
        assert torch.equal(own(shard.weight), whole.weight[classes]), name

        all_x, my_x = x.clone().requires_grad_(), x[mine].clone().requires_grad_()
        whole.per_sample = True  # it is given all images, as in one process
        want, got = whole(all_x, y), shard(my_x, y[mine])
        want["loss"].backward()
        got["loss"].backward()

        for key in ("loss", "accuracy", "target_cosine"):
            torch.testing.assert_close(got[key], want[key], msg=f"{name} {key} {got[key]} {want[key]}")
        gradient = own(shard.weight.grad)
        torch.testing.assert_close(gradient, whole.weight.grad[classes], msg=f"{name} weight gradient")
        if shard.bias is not None:
            torch.testing.assert_close(own(shard.bias.grad), whole.bias.grad[classes], msg=f"{name} bias gradient")
        # DistributedDataParallel averages over processes, hence the factor.
        torch.testing.assert_close(my_x.grad / RANKS, all_x.grad[mine], msg=f"{name} embedding gradient")
        torch.testing.assert_close(dict(shard.named_buffers()), dict(whole.named_buffers()))

        rows = gathered(shard.weight, shard.weight)
        assert torch.equal(rows, whole.weight.detach()), name
        torch.testing.assert_close(shard.logits(my_x), whole.logits(all_x)[mine])
        shard.load_weight(2 * rows)
        assert torch.equal(own(shard.weight), 2 * whole.weight[classes]), name

    check_sampling(x, y, mine, rank)
    with pytest.raises(ConfigError, match="1 classes cannot be split over 2 processes"):
        HEADS.create("cosface", embedding_dim=DIM, num_classes=1, engine="sharded").split(torch.device("cpu"))
    dist.destroy_process_group()


def check_sampling(x, y, mine, rank):
    """With a part of the rows, the loss is that of the images' classes and those chosen; all rows at rate 1."""
    few = y % 2 * 6  # classes 0 and 6 alone, one on each process
    losses = {}
    for rate in (1.0, 0.5):
        shard = make("cosface", "sharded", sample_rate=rate)
        shard.load_weight(make("cosface", "full").weight)
        my_x = x[mine].clone().requires_grad_()
        loss = shard(my_x[:1], few[mine][:1])["loss"]  # two images in all: as many rows are kept at least
        loss.backward()
        losses[rate] = loss.detach()
        touched = own(shard.weight.grad).abs().sum(1) > 0
        assert touched.sum() == len(touched) if rate == 1 else touched.sum() == 2, (rate, touched)
        here = few[[0, BATCH // RANKS]] - (0 if rank == 0 else 4)
        assert touched[here[(here >= 0) & (here < len(touched))]].all()
    assert losses[0.5] < losses[1.0]  # fewer others


def test_two_processes_give_the_one_process_result(tmp_path):
    mp.start_processes(compare, args=(str(tmp_path / "store"),), nprocs=RANKS, start_method="fork")


def test_without_other_processes_it_is_full_or_sampled():
    x, y = torch.randn(5, DIM), torch.arange(5)
    whole, alone = (make("cosface", engine).float() for engine in ("full", "sharded"))
    assert torch.equal(whole(x, y)["loss"], alone(x, y)["loss"])
    some, sampled = (
        make("cosface", "sharded", sample_rate=0.5).float(),
        make("cosface", "sampled", sample_rate=0.5).float(),
    )
    losses = []
    for head in (some, sampled):
        torch.manual_seed(1)
        losses.append(head(x, y)["loss"])
    assert torch.equal(*losses)
    assert not some.per_sample


def test_a_tensor_that_is_whole_stays_so():
    whole = torch.ones(3, 2)
    assert split_as(whole, torch.zeros(3, 2)) is whole
    assert gathered(whole, whole) is whole
