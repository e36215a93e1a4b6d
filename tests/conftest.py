"""Shared by all tests: reference data that a user does not have, and a small world to train in."""

import copy
import dataclasses
import pickle
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facetx.backbones import BACKBONES
from facetx.backbones.importers import IMPORTERS
from facetx.config import check_settings
from facetx.contract import InputContract
from facetx.data.sample import Map, moved
from facetx.nn.backbone import Backbone
from facetx.tasks import Task
from facetx.training import start_run

# A shell that starts the tests in the background, or nohup, has them ignore these signals, and all that they start.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


class Blocks(Backbone):
    """A backbone for ``faces``: the image, coarsely, which is the pattern of its identity."""

    embedding_dim = 48

    def __init__(self, size: int = 32):
        super().__init__()
        self.contract = InputContract(size=size)

    def forward(self, images, keypoints=None):
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)

    def features(self, images, keypoints=None):
        return [images]


class ByPlace(Task):
    """Parses without training: by how often some masks have each class at a place, and a little by colors.

    Args:
        data: Images with masks.
        size: Pixels a side of the network's input.
        noise: Of what it knows of places, which makes it worse.
    """

    def __init__(self, data, size=32, noise=0.0):
        super().__init__(Blocks(size))
        about = data.description()
        self.mask_classes, self.mask_colors = about.mask_classes, about.mask_colors
        samples = [moved(data[i], Map.resize(data[i]["mask"].shape, (size, size))) for i in range(8)]
        kinds = np.arange(len(self.mask_classes))[:, None, None]
        share = np.mean([sample["mask"] == kinds for sample in samples], axis=0)  # (M, size, size)
        share += noise * np.random.default_rng(0).random(share.shape)
        self.places = nn.Parameter(torch.from_numpy(np.log(share + 0.02)).float())
        self.colors = nn.Parameter(torch.from_numpy(np.array([[k, k, k] for k in kinds.ravel()]) / 500.0).float())

    def forward(self, batch):
        raise AssertionError("nothing is trained here")

    def predict(self, batch):
        images = batch["image"].float() / 255  # (B, 3, H, W)
        return {"mask": self.places + torch.einsum("bchw,mc->bmhw", images, self.colors)}

    def published(self):
        return self


def copied(data):
    """``data`` as a loader's spawned worker gets it: by what it pickles of itself."""
    pickle.dumps(data)  # raises where it cannot travel
    return copy.deepcopy(data)  # the same state, and nothing is unpickled


def assert_parity(ours, theirs, within=5e-6):
    """Two networks' outputs differ by float32's rounding alone, relative to their own size, whatever that is."""
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= within * np.linalg.norm(theirs)


SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """A file or folder of the reference material beside the project; the test is skipped where it is absent."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"needs ../shared/{path}, reference material that is not part of the project")
    return found


@pytest.fixture(scope="session")
def trained_mobilefacenet():
    """A network that knows faces: MobileFaceNet's published weights (LFW 99.1), of embeddings of 128, in eval mode."""
    with np.load(shared("weights/mobilefacenet_casia.npz"), allow_pickle=False) as file:
        state = {k.removeprefix("state/"): torch.from_numpy(file[k]) for k in file.files}
    importer = IMPORTERS["mobilefacenet"]
    name, args, weights = importer(state)
    model = BACKBONES.create(name, **args).eval()
    model.load_state_dict(weights)
    model.contract = dataclasses.replace(importer.contract, size=model.contract.size)
    return model


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """Six identities of five PNGs of 32x32: a pattern of each identity's own, under noise."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for identity in range(6):
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        folder = root / f"person_{identity}"
        folder.mkdir()
        for i in range(5):
            noisy = np.clip(pattern + rng.normal(0, 20, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{i}.png")
    return root


@pytest.fixture
def small(faces) -> dict:
    """Plain settings of a run that takes a second: a ViT of 16 tokens on ``faces``, 5 batches an epoch."""
    return {
        "name": "small",
        "data": {
            "name": "image_folder",
            "args": {"root": str(faces)},
            "transforms": ["flip", {"name": "shift", "args": {"pixels": 2}}],
            "workers": 0,
        },
        "model": {
            "name": "vit_p8s8_tiny",
            "args": {"image_size": 32, "dim": 16, "depth": 1, "heads": 2, "head_dim": 8, "mlp_dim": 32, "dropout": 0.1},
        },
        "head": {"name": "cosface", "args": {"scale": 16.0, "margin": 0.1}},
        "optim": {"lr": 1e-3},
        "train": {"steps": 12, "batch_size": 6, "log_every": 3, "checkpoint_every": 4},
        "evaluators": [
            {
                "name": "folder_pairs",
                "every": 6,
                "allow_overlap": True,
                "args": {"root": str(faces), "part": "all", "folds": 2, "pairs_per_fold": 5, "name": "val"},
            }
        ],
        "select": "val/accuracy",
    }


@pytest.fixture
def plain_pictures(monkeypatch):
    """Pictures cost more than such runs; what is drawn is a page with the names of the results."""

    def draw(folder, rows, results, evaluators):
        folder.mkdir(exist_ok=True)
        (folder / "page.txt").write_text(str([*results]))

    monkeypatch.setattr("facetx.training.run.write_pictures", draw)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, faces) -> Callable[[dict], Path]:
    """Gives the folder of the one run of a file's tests that nothing has disturbed, by the settings."""
    done: list[Path] = []

    def get(raw: dict) -> Path:
        if not done:
            folder = tmp_path_factory.mktemp("unbroken") / "run"
            start_run(check_settings(raw), folder)
            done.append(folder)
        return done[0]

    return get


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The models here are too small to share between threads, and a process of one thread can fork."""
    torch.set_num_threads(1)
    # Autograd counts the devices at its first backward pass, and starts threads for those that are no CPU. Once
    # torch.export has been here it finds a stand-in for CUDA, and no process could be forked after that.
    torch.ones(1, requires_grad=True).backward()


@pytest.fixture
def script(capsys, monkeypatch):
    """A function that runs a script in this process, which spares a start of Python: exit code, output, errors."""

    def run(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(Path(__file__).parents[1] / "scripts" / name), run_name="__main__")
        return SimpleNamespace(returncode=end.value.code, **capsys.readouterr()._asdict())

    return run
