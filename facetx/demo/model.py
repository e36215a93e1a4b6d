"""What the page must know of an exported model: read from the file's own metadata."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetx.contract import InputContract
from facetx.data.align import template
from facetx.data.attribute_groups import regions_of
from facetx.demo.calibration import find_calibration, read_calibration
from facetx.errors import CheckpointError, printable

METADATA = "facetx"
"""The key of the ONNX file's metadata that ``facetx.export`` writes."""


@dataclass(frozen=True)
class PageModel:
    """An ONNX file, and what the page says and asks of it.

    Attributes:
        path: The file.
        about: Plain values, which the page loads as ``model.json``.
        notes: For the terminal.
    """

    path: Path
    about: dict[str, Any]
    notes: tuple[str, ...] = ()


def read_model(path: str | Path, calibration: str | Path | None = None) -> PageModel:
    """The model of an ONNX file that ``facetx.export`` wrote.

    Args:
        path: The file.
        calibration: A result of verification, as ``scripts/evaluate.py`` writes it, whose thresholds and error rates
            the page shows; None for one that lies beside the model, or in its run.

    Raises ``CheckpointError`` for a file that is no such model, and ``DataError`` for a calibration of another.
    """
    path = Path(path)
    inputs, facts = _read(path)
    names = facts.get("attributes") or []
    outputs = facts["outputs"]
    if "embedding" not in outputs and not ("attributes" in outputs and names):
        raise CheckpointError(f"{path}: gives {', '.join(outputs)}; the page shows embeddings and attributes")
    known: dict[str, Any] | None = None
    notes: list[str] = []
    if "embedding" in outputs:
        weights = facts.get("weights")
        if calibration is not None:
            known = read_calibration(calibration, weights)
        else:
            known, notes = find_calibration(path, weights)
    contract = InputContract(**facts["input"])
    about = {
        "name": facts.get("source", {}).get("name") or path.stem,
        "task": facts["task"],
        "size": contract.size,
        "input": str(contract),
        "template": template(contract.size).tolist() if contract.alignment == "arcface" else None,
        "keypoints": "keypoints" in inputs,
        "embeds": "embedding" in outputs,
        "regions": _regions(names) if "attributes" in outputs else [],
        "calibration": known,
        "license": facts.get("license"),
        "weights": facts.get("weights"),
    }
    return PageModel(path, about, tuple(notes))


def _regions(names: list[str]) -> list[dict[str, Any]]:
    """For each region of the face, its attributes with their places in the model's output."""
    return [
        {
            "name": region.capitalize(),
            "attributes": [{"name": names[i], "label": label(names[i]), "index": i} for i in places],
        }
        for region, places in regions_of(names).items()
    ]


def label(name: str) -> str:
    """An attribute's name in words.

    >>> label("5_o_Clock_Shadow")
    "5 o'clock shadow"
    """
    return name.replace("_o_Clock", " o'clock").replace("_", " ").capitalize()


def _read(path: Path) -> tuple[list[str], dict[str, Any]]:
    """The names of the inputs of an ONNX file, and the facts that its metadata holds."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise CheckpointError("reading an ONNX file needs the package onnx: pip install 'facetx[export]'") from None
    try:
        file = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DecodeError:
        raise CheckpointError(f"{path}: is no ONNX file") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in file.graph.initializer):
        raise CheckpointError(f"{path}: keeps its weights in a file beside it; the page needs all in one file")
    texts = {entry.key: entry.value for entry in file.metadata_props}
    try:
        facts = json.loads(texts[METADATA])
        InputContract(**facts["input"])
        names = facts.get("attributes") or []
        if not (isinstance(facts["outputs"], dict) and isinstance(facts["task"], str) and isinstance(names, list)):
            raise TypeError("a value is of another type")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: does not say what it expects and gives ({printable(str(error))}); make the file by "
            "python scripts/export.py RUN --to onnx"
        ) from error
    return [value.name for value in file.graph.input], facts
