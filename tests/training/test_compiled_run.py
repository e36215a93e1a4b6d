"""A run that is compiled: nothing is compiled anew once it has trained and evaluated."""

import pytest
import torch
from torch._dynamo.utils import counters

from facetx.config import check_settings
from facetx.nn.compiled import compile_network
from facetx.tasks import base
from facetx.training import loop, start_run


@pytest.mark.parametrize("how", [True, "blocks"])
def test_nothing_is_compiled_after_the_first_evaluation(small, tmp_path, monkeypatch, plain_pictures, how):
    small["train"] |= {"compile": how, "batch_size": 7}  # an evaluation's last batch has fewer
    small["model"]["args"]["depth"] = 3
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(base, "compile_network", lambda net, how, _: compile_network(net, how, backend="aot_eager"))
    evaluate, graphs = loop.evaluate, []

    def evaluate_and_count(*args):
        results = evaluate(*args)
        graphs.append(counters["stats"]["unique_graphs"])
        return results

    monkeypatch.setattr(loop, "evaluate", evaluate_and_count)
    start_run(check_settings(small), tmp_path / "run")
    assert graphs == [2, 2]  # one that learns, one that does not
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("how", [True, "blocks"])
def test_a_compiled_run_ends_with_the_weights_of_another(small, tmp_path, monkeypatch, plain_pictures, how):
    small["model"]["args"] |= {"depth": 2, "dropout": 0.0}  # whose random numbers differ
    monkeypatch.setattr(base, "compile_network", lambda net, how, _: compile_network(net, how, backend="aot_eager"))
    plain = start_run(check_settings(small), tmp_path / "plain")
    small["train"]["compile"] = how
    compiled = start_run(check_settings(small), tmp_path / "compiled")
    for (name, ours), theirs in zip(compiled.run.task.named_parameters(), plain.run.task.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=name)
    assert compiled.results["val"].summary() == plain.results["val"].summary()
