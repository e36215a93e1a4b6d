"""The plan of a training in many processes, held against what 2 and 4 of them really hand to torch.distributed."""

import json
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from worlds import in_processes, with_

from facetx.config import check_settings
from facetx.data.loader import training_loader
from facetx.nn.compiled import repeated_blocks
from facetx.nn.profile import parameter_count
from facetx.processes import is_first
from facetx.training import build
from facetx.training.plan import Plan, activations_of
from facetx.training.step import training_step

CLASSES, BATCH, DIM = 20, 12, 16
KINDS = {
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
}


class Sent(TorchDispatchMode):
    """Bytes of the collectives that are called while it is on, by kind: of the largest tensor list that each has."""

    def __init__(self):
        super().__init__()
        self.bytes = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = str(operation)
        if name.startswith("c10d."):
            kind = next(KINDS[key] for key in KINDS if key in name)
            sides = [[t for t in tree_leaves(arg) if isinstance(t, torch.Tensor)] for arg in args]
            self.bytes[kind] += max(sum(t.nbytes for t in side) for side in sides)
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def tiny(small):
    args = {**small["model"]["args"], "dim": DIM, "depth": 2, "dropout": 0.0}
    raw = with_(small, model={"args": args}, train={"batch_size": BATCH})
    raw["data"] = {
        "name": "synthetic_faces",
        "args": {"identities": CLASSES, "images_per_identity": 2, "size": 32},
        "workers": 0,
    }
    return {**raw, "evaluators": [], "select": None}


@pytest.mark.parametrize("number", [2, 4])
def test_the_traffic_is_what_is_really_sent(tiny, tmp_path, number):
    cases = [("ddp", "sharded"), ("ddp", "full"), ("fsdp", "sharded")]

    def work():
        for parallel, engine in cases:
            raw = with_(tiny, train={"parallel": parallel})
            raw["head"] = {"name": "cosface", "args": {"engine": engine}}
            run = build(check_settings(raw))
            run.task.train()
            batches = list(training_loader(run.items, run.sampler(0), 0, False))[:3]
            for step, batch in enumerate(batches):  # DistributedDataParallel settles its buckets in the first two
                with Sent() as sent:
                    training_step(run, batch, step)
            if is_first():
                backbone = run.outline.backbone
                blocks = sum(map(parameter_count, repeated_blocks(backbone)))
                found = [parameter_count(backbone), blocks, dict(sent.bytes)]
                (tmp_path / f"{parallel} {engine}.json").write_text(json.dumps(found))

    assert in_processes(number, work) == [0] * number
    for parallel, engine in cases:
        parameters, blocks, sent = json.loads((tmp_path / f"{parallel} {engine}.json").read_text())
        plan = Plan(number, BATCH // number, CLASSES, DIM, parameters, blocks, parallel, engine)
        planned = Counter()
        for message in plan.messages():
            planned[message.kind] += message.bytes
        planned["all_reduce"] += 4 * 4 + 4 * (parallel == "fsdp" or engine == "sharded")  # scalars, and the norm
        assert sent.keys() == {kind for kind in planned if planned[kind]}
        for kind in sent:
            padding = 0.15 * planned[kind] if parallel == "fsdp" else 0  # of small weights that cannot be dealt evenly
            assert planned[kind] <= sent[kind] <= planned[kind] + padding, (parallel, engine, kind)


def test_a_ring_sends_its_part(tiny):
    plan = Plan(4, 32, 1000, 64, 10_000, engine="full")
    assert plan.sent("backbone") == 2 * 3 / 4 * 40_000
    assert plan.sent("head") == 2 * 3 / 4 * 4 * 1000 * 64
    assert Plan(1, 32, 1000, 64, 10_000).sent("backbone") == 0


def test_memory_falls_where_it_is_split():
    one, eight = (Plan(n, 32, 1000, 64, 10_000, activations=7).memory() for n in (1, 8))
    assert one["backbone"] == eight["backbone"] == 4 * 10_000 * 4
    assert one["head"] == 8 * eight["head"] == 4 * 1000 * 64 * 3
    assert one["activations"] == eight["activations"] == 7 * 32
    whole, some = (Plan(8, 32, 100_000, 64, 1, sample_rate=r).memory()["head's step"] for r in (1.0, 0.1))
    assert some < whole / 2
    split = Plan(8, 32, 1000, 64, 10_000, parallel="fsdp").memory()["backbone"]
    assert split == 4 * 10_000 * 4 // 8 + 8 * 10_000


def test_time_is_that_of_the_pieces():
    plan = Plan(8, 100, 1000, 64, 1_000_000)
    times = plan.seconds(rate=1000, tflops=1, bandwidth=1e9)
    assert times["backbone"] == 0.1
    assert times["head"] == pytest.approx(3 * 2 * 800 * 125 * 64 / 1e12)
    assert times["gradients"] == 0  # 7 MB in 7 ms, while the backward pass takes 66 ms
    assert plan.seconds(1000, 1, 1e8)["gradients"] == pytest.approx(7e6 / 1e8 - 0.066)
    assert times["embeddings"] == pytest.approx(plan.sent("head") / 1e9)


def test_activations_grow_with_the_image():
    import facetx

    small, large = (
        activations_of(facetx.create_backbone("vit_p8s8_tiny", image_size=size, dim=16, depth=1, heads=2, head_dim=8))
        for size in (32, 64)
    )
    assert 3 < large / small < 5
