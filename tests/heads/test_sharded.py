"""Two gloo processes with half of the classes and half of the batch each give the one-process result."""

import inspect

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from facetx.heads import HEADS

DIM, CLASSES, BATCH, RANKS = 8, 7, 12, 2
NAMES = [name for name in HEADS if "engine" in inspect.signature(HEADS[name]).parameters]


def make(name, engine):
    torch.manual_seed(3)
    head = HEADS.create(name, embedding_dim=DIM, num_classes=CLASSES, engine=engine).double()
    if head.bias is not None:
        head.bias.data += torch.arange(CLASSES)[head.shard.first : head.shard.last]
    return head


def compare(rank: int, store: str) -> None:
    """Runs in each process; an assertion that fails there fails the test."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    torch.manual_seed(7)
    x = 4 * torch.randn(BATCH, DIM, dtype=torch.float64)
    y = torch.randint(CLASSES, (BATCH,))
    mine = slice(rank * BATCH // RANKS, (rank + 1) * BATCH // RANKS)
    for name in NAMES:
        whole, shard = make(name, "full"), make(name, "sharded")
        classes = slice(shard.shard.first, shard.shard.last)
        assert torch.equal(shard.weight, whole.weight[classes]), name

        all_x, my_x = x.clone().requires_grad_(), x[mine].clone().requires_grad_()
        want, got = whole(all_x, y), shard(my_x, y[mine])
        want["loss"].backward()
        got["loss"].backward()

        for key in ("loss", "accuracy", "target_cosine"):
            torch.testing.assert_close(got[key], want[key], msg=f"{name} {key} {got[key]} {want[key]}")
        torch.testing.assert_close(shard.weight.grad, whole.weight.grad[classes], msg=f"{name} weight gradient")
        if shard.bias is not None:
            torch.testing.assert_close(shard.bias.grad, whole.bias.grad[classes], msg=f"{name} bias gradient")
        # DistributedDataParallel averages over ranks, hence the factor.
        torch.testing.assert_close(my_x.grad / RANKS, all_x.grad[mine], msg=f"{name} embedding gradient")
        torch.testing.assert_close(dict(shard.named_buffers()), dict(whole.named_buffers()))

        gathered = shard.gather_weight()
        assert torch.equal(gathered, whole.weight.detach()), name
        torch.testing.assert_close(shard.logits(my_x), whole.logits(all_x)[mine])
        shard.load_weight(2 * gathered)
        assert torch.equal(shard.weight, 2 * whole.weight[classes]), name
    dist.destroy_process_group()


def test_two_processes_give_the_one_process_result(tmp_path):
    mp.spawn(compare, args=(str(tmp_path / "store"),), nprocs=RANKS)
