"""A small model of all kinds of answers, as an exported ONNX file; and stand-ins for npm's packages.

It is a plugin of the tests beside it, and is imported by them too, so PYTEST_DONT_REWRITE.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facetx.benchmarks.receipts import Receipt
from facetx.benchmarks.results import write_result
from facetx.contract import InputContract
from facetx.data.mask_classes import LAPA
from facetx.data.synthetic.traits import ATTRIBUTES
from facetx.demo.packages import PACKAGES
from facetx.evaluators.verification import VerificationResult

WEIGHTS = "5a" * 32
FACTS = {
    "format": 1,
    "task": "joint",
    "outputs": {"embedding": [24], "attributes": [len(ATTRIBUTES)], "mask": [len(LAPA), 64, 64]},
    "input": InputContract(size=64).as_dict(),
    "attributes": list(ATTRIBUTES),
    "mask_classes": list(LAPA),
    "mask_colors": [[25 * k, 250 - 25 * k, 255 if k % 2 else 0] for k in range(len(LAPA))],
    "license": "MIT",
    "source": {"name": "small_faces", "step": 3},
    "weights": WEIGHTS,
    "network": "a5" * 32,
    "facetx": "0.1.0",
    "torch": "2.8.0",
}


class Answers(nn.Module):
    """uint8 images (B, 3, 64, 64) -> embeddings (B, 24), logits of the attributes (B, A), and those of the classes
    (B, M, 64, 64), which are the same in each square of 8 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        self.contract = InputContract(size=64)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.embedding = nn.Linear(128, 24)
        self.attributes = nn.Linear(24, len(ATTRIBUTES))
        self.mask = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, len(LAPA), 1), nn.Upsample(scale_factor=8))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = self.contract(image)
        embedding = self.embedding(self.trunk(scaled))
        return embedding, 8 * self.attributes(embedding), self.mask(scaled)


@dataclass(frozen=True)
class Exported:
    """The file, and the network that it was made of."""

    path: Path
    network: Answers


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    torch.manual_seed(0)
    network = Answers().eval()
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8),),
        str(path),
        input_names=["image"],
        output_names=["embedding", "attributes", "mask"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    say(path, FACTS)
    return Exported(path, network)


def say(path: Path, facts: dict, source: Path | None = None) -> Path:
    """Writes these facts into an ONNX file's metadata, in place of those that it had."""
    import onnx

    file = onnx.load(str(source or path))
    del file.metadata_props[:]
    onnx.helper.set_model_props(file, {"facetx": json.dumps(facts)})
    onnx.save(file, str(path))
    return path


def scored() -> VerificationResult:
    """200 pairs of each kind; of two people they score 0.00 to 0.40, of one 0.31 to 0.91."""
    scores = np.concatenate([np.linspace(0.31, 0.91, 200), np.linspace(0, 0.4, 200)])
    return VerificationResult("drawn", scores, np.repeat([True, False], 200), np.tile(np.arange(10), 40), 1.0, True)


def write_result_file(path: Path, weights: str = WEIGHTS) -> Path:
    """``scored`` as a result's file, measured with these weights."""
    write_result(path, scored(), Receipt(weights, "n", "i", "p", None, True, "l2", "grid", {}, {}, "fp32", "cpu", {}))
    return path


@pytest.fixture
def packages(tmp_path) -> Path:
    """A node_modules whose files are there, and hold their own names."""
    root = tmp_path / "node_modules"
    for package in PACKAGES:
        for name in package.files:
            (root / package.name / name).parent.mkdir(parents=True, exist_ok=True)
            (root / package.name / name).write_text(name)
        (root / package.name / "package.json").write_text(json.dumps({"version": package.version}))
    return root
