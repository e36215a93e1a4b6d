"""A task of one's own, in one short file: it trains, evaluates, resumes, publishes and loads with no other change."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

import facetx
from facetx.config import check_settings

MY_TASK = '''
import torch

import facetx
from facetx.evaluators import Evaluator, Result, predictions


@facetx.TASKS.register
class brightness(facetx.Task):
    """How bright an image is, in 0..1: one number from each."""

    def __init__(self, backbone, data):
        super().__init__(backbone)
        self.number = torch.nn.Linear(backbone.embedding_dim, 1)

    def predict(self, batch):
        return {"brightness": self.number(self.embed(batch)).squeeze(1)}

    def forward(self, batch):
        error = self.predict(batch)["brightness"] - batch["image"].float().mean(dim=(1, 2, 3)) / 255
        return {"loss": error.square().mean(), "error": error.detach().abs().mean()}

    def published(self):
        return self


@facetx.EVALUATORS.register
class brightness_error(Evaluator):
    """Its mean error on a data set."""

    whole_task = True

    def __init__(self, dataset: facetx.FaceDataset, name: str = "brightness"):
        super().__init__(name, dataset)

    def result(self, model, how):
        errors = []
        for _, batch, (found,) in predictions(model, self.dataset, how):
            errors.append(found["brightness"].cpu() - batch["image"].cpu().float().mean(dim=(1, 2, 3)) / 255)
        return Error(self.name, float(torch.cat(errors).abs().mean()))


class Error(Result):
    def __init__(self, name, error):
        self.name, self.error = name, error

    def summary(self):
        return {"error": self.error}

    def as_dict(self):
        return {"name": self.name, "summary": self.summary()}
'''

SETTINGS = {
    "name": "bright",
    "task": "brightness",
    "data": {"name": "synthetic_faces", "args": {"identities": 8, "images_per_identity": 4}, "workers": 0},
    "model": {
        "name": "vit_p8s8_tiny",
        "args": {"image_size": 32, "dim": 16, "depth": 2, "heads": 2, "head_dim": 8, "mlp_dim": 32, "dropout": 0.1},
        "freeze": ["encoder.blocks.0"],
    },
    "optim": {"lr": 1e-2, "ema": 0.9, "layer_decay": 0.8},
    "schedule": "constant",
    "train": {"steps": 30, "batch_size": 8, "log_every": 5, "checkpoint_every": 10},
    "evaluators": [
        {
            "name": "brightness_error",
            "every": 10,
            "data": {"name": "synthetic_faces", "args": {"identities": 4, "first_identity": 100}},
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the task's module lies, with two runs of it: one straight, one that was stopped and resumed."""
    folder = tmp_path_factory.mktemp("my_task")
    (folder / "my_task.py").write_text(MY_TASK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        for name, steps in (("straight", 30), ("resumed", 20), ("resumed", 30)):
            train(folder, name, train={**SETTINGS["train"], "steps": steps})
        yield folder
    sys.modules.pop("my_task")
    facetx.TASKS._table.pop("brightness")
    facetx.EVALUATORS._table.pop("brightness_error")


def train(folder, name, **changes):
    facetx.start_run(check_settings({**SETTINGS, **changes, "plugins": ["my_task"]}), folder / name)


def rows(folder, name):
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def weights(folder, name):
    return load_file(folder / name / "checkpoints/step_00000030/model.safetensors")


def test_it_learns_and_is_evaluated(folder):
    found = rows(folder, "straight")
    losses = [row["train/loss"] for row in found if "train/loss" in row]
    assert losses[-1] < 0.2 * losses[0]
    assert [row["step"] for row in found if "brightness/error" in row] == [10, 20, 30]
    assert [row["brightness/error"] for row in found if "brightness/error" in row][-1] < 0.15


def test_its_averaged_weights_are_published_whole(folder):
    published = weights(folder, "straight")
    assert {"number.weight", "number.bias", "backbone.encoder.norm.weight"} <= published.keys()
    assert "brightness" in (folder / "straight/settings.yaml").read_text()
    assert "my_task" in yaml.safe_load((folder / "straight/settings.yaml").read_text())["plugins"]


def test_another_run_begins_with_all_that_was_published(folder, caplog):
    model = {**SETTINGS["model"], "init_from": str(folder / "straight")}
    train(folder, "more", model=model, train={**SETTINGS["train"], "steps": 1}, optim={"lr": 1e-9})
    assert "begins anew" not in caplog.text
    more = load_file(folder / "more/checkpoints/step_00000001/model.safetensors")
    for name, value in weights(folder, "straight").items():
        torch.testing.assert_close(more[name], value, atol=1e-6, rtol=0, msg=name)


def test_a_resumed_run_is_the_straight_one(folder):
    assert rows(folder, "resumed") == rows(folder, "straight")
    straight, resumed = weights(folder, "straight"), weights(folder, "resumed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_what_is_frozen_stays(folder):
    early = load_file(folder / "straight/checkpoints/step_00000020/model.safetensors")
    late = weights(folder, "straight")
    moved = {name for name in late if not torch.equal(early[name], late[name])}
    assert not [name for name in moved if name.startswith("backbone.encoder.blocks.0.")]
    assert "backbone.encoder.blocks.1.mlp.0.weight" in moved


def test_it_is_loaded_where_its_module_is_found(folder):
    code = """
import json, numpy, facetx
model = facetx.load_model("straight")
image = numpy.full((32, 32, 3), 128, numpy.uint8)
print(json.dumps([float(model.predict(image)["brightness"][0]), list(model.embed(image).shape)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    number, shape = json.loads(done.stdout)
    assert abs(number - 0.5) < 0.25
    assert shape == [1, 16]
