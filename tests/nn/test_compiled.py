"""A network is compiled once: one graph for its blocks, and none anew for a data set's last batch."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import copied
from torch import nn
from torch._dynamo.utils import counters

from facetx.backbones import BACKBONES
from facetx.data.base import Description
from facetx.errors import ConfigError
from facetx.heads import HEADS
from facetx.nn.compiled import KEPT_IN, compile_network, is_compiled, repeated_blocks
from facetx.tasks import TASKS

TINY = {"image_size": 32, "dim": 16, "heads": 2, "head_dim": 8, "mlp_dim": 32}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """Graphs of other tests do not count, and none are kept in the user's cache."""
    monkeypatch.setenv(KEPT_IN, str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit):
        yield


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(
    ("name", "count"), [("vit_p8s8_tiny", 6), ("iresnet18", 8), ("facerec_tiny", 6), ("timm:vit_tiny_patch16_224", 12)]
)
def test_the_blocks_that_repeat_are_found(name, count):
    assert len(list(repeated_blocks(BACKBONES.create(name)))) == count


@pytest.mark.parametrize("depth", [2, 12])
def test_all_blocks_share_one_graph_and_compute_the_same(depth):
    model = BACKBONES.create("vit_p8s8_tiny", depth=depth, **TINY).eval()
    plain = copied(model)
    compile_network(model, "blocks", backend="aot_eager")
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))
    assert graphs() == 1
    assert is_compiled(model)
    assert not is_compiled(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_blocks_that_differ_are_all_compiled_none_left_out():
    model = BACKBONES.create("vit_p8s8_tiny", depth=12, **TINY).train()
    for layer, block in enumerate(model.encoder.blocks):
        block.attention.scale *= 1 + layer
    compile_network(model, "blocks", backend="eager")
    model(torch.randn(3, 3, 32, 32))
    assert graphs() == 12


def test_blocks_of_several_drop_path_rates_share_one_graph():
    model = BACKBONES.create("vit_p8s8_tiny", depth=12, drop_path=0.5, dropout=0.1, **TINY).train()
    compile_network(model, "blocks", backend="aot_eager")
    model(torch.randn(3, 3, 32, 32))
    assert graphs() == 1


def test_a_network_without_blocks_says_so():
    with pytest.raises(ConfigError, match="a Sequential has no blocks that repeat; set it to true"):
        compile_network(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "blocks")
    model = nn.Linear(2, 2)
    compile_network(model, False)
    assert not is_compiled(model)


def test_what_the_compiler_makes_is_kept_where_the_user_says_or_in_the_users_cache(monkeypatch, tmp_path):
    compile_network(nn.Linear(2, 2), True)
    assert os.environ[KEPT_IN] == str(tmp_path)
    monkeypatch.delenv(KEPT_IN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compile_network(nn.Linear(2, 2), True)
    assert os.environ[KEPT_IN] == str(tmp_path / "cache/facetx/compiled")


@pytest.mark.parametrize("name", ["parsing", "joint_parsing"])
@pytest.mark.parametrize("how", [True, "blocks"])
def test_a_dense_task_has_the_way_to_its_maps_compiled(how, name):
    backbone = BACKBONES.create("vit_p8s8_tiny", depth=2, **TINY)
    head = {"head": HEADS.create("cosface", embedding_dim=16, num_classes=3)} if name == "joint_parsing" else {}
    data = Description(3, (), ("background", "skin"))
    task = TASKS.create(name, backbone=backbone, data=data, width=8, **head).eval()
    plain = copied(task)
    task.compile_network(how, backend="aot_eager")
    images = {"image": torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)}
    with torch.no_grad():
        torch.testing.assert_close(task.predict(images)["mask"], plain.predict(images)["mask"])
    assert graphs() == (2 if how is True else 1)
    assert task.state_dict().keys() == plain.state_dict().keys()


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_without_the_compiler_all_is_computed_and_it_is_there_when_asked_for():
    code = """
import sys, torch
from facetx.nn.compiled import without_compiler
here = lambda: "torch._dynamo.symbolic_convert" in sys.modules
x = torch.empty(2, 4, device="meta")
with without_compiler():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    torch.nn.functional.layer_norm(x, (4,))
    print(here())
    torch._dynamo.reset()
    print(here())
print(here(), "reset" in dir(sys.modules["torch._dynamo"]))
print(torch.compile(lambda a: a + 1, backend="eager", fullgraph=True)(torch.ones(1)).item())
"""
    assert python(code) == ["False", "True", "True", "True", "2.0"]


def test_afterwards_it_can_be_imported():
    code = """
import sys, torch
from facetx.nn.compiled import without_compiler
with without_compiler():
    pass
print("torch._dynamo" in sys.modules)
print(torch.compile(lambda a: a + 1, backend="eager", fullgraph=True)(torch.ones(1)).item())
with without_compiler():
    print("torch._dynamo.symbolic_convert" in sys.modules)
"""
    assert python(code) == ["False", "2.0", "True"]
