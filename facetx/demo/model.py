"""What the page must know of an exported model: read from the file's own metadata."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetx.checkpoints.exported import KEY, Facts, read_facts
from facetx.data.align import template
from facetx.data.attribute_groups import regions_of
from facetx.data.mask_classes import class_words, colors_of
from facetx.demo.calibration import find_calibration, read_calibration
from facetx.errors import CheckpointError, printable
from facetx.exporting import TARGETS, export


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


@contextmanager
def exported_file(checkpoint: str | Path) -> Iterator[Path]:
    """An ONNX file that is given, as it is; of a run or one of its checkpoints, a file that is gone afterwards.

    Raises ``FacetxError`` for what is no model, and for one that cannot be exported.
    """
    if Path(checkpoint).suffix == TARGETS["onnx"]:
        yield Path(checkpoint)
        return
    with tempfile.TemporaryDirectory(prefix="facetx-page-") as folder:
        yield export(checkpoint, Path(folder) / "model.onnx").path


def read_model(path: str | Path, calibration: str | Path | None = None, run: str | Path | None = None) -> PageModel:
    """The model of an ONNX file that ``facetx.export`` wrote.

    Args:
        path: The file.
        run: Where results of verification are looked for in place of the file's neighborhood.
        calibration: A result of verification, as ``scripts/evaluate.py`` writes it, whose thresholds and error rates
            the page shows; None for one that lies beside the model, or in its run.

    Raises ``CheckpointError`` for a file that is no such model, and ``DataError`` for a calibration of another.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a folder; the page takes an exported model: python scripts/export.py {path} --to onnx"
        )
    facts = _read(path)
    embeds, tells, parses = (name in facts.outputs for name in ("embedding", "attributes", "mask"))
    if not (embeds or tells or parses):
        raise CheckpointError(
            f"{path}: gives {', '.join(facts.outputs)}; the page shows embeddings, attributes and masks"
        )
    known: dict[str, Any] | None = None
    notes: list[str] = []
    if embeds and calibration is not None:
        known = read_calibration(calibration, facts.weights)
    elif embeds:
        known, notes = find_calibration(Path(run or path), facts.weights)
    contract = facts.input
    about = {
        "name": facts.source.name or path.stem,
        "task": facts.task,
        "size": contract.size,
        "input": str(contract),
        "template": template(contract.size).tolist() if contract.alignment == "arcface" else None,
        "keypoints": facts.keypoints,
        "embeds": embeds,
        "regions": _regions(facts.attributes) if tells else [],
        "classes": _classes(facts) if parses else [],
        "calibration": known,
        "license": facts.license,
        "weights": facts.weights,
    }
    return PageModel(path, about, tuple(notes))


def _regions(names: Sequence[str]) -> list[dict[str, Any]]:
    """For each region of the face, its attributes with their places in the model's output."""
    return [
        {
            "name": region.capitalize(),
            "attributes": [{"name": names[i], "label": label(names[i]), "index": i} for i in places],
        }
        for region, places in regions_of(names).items()
    ]


def _classes(facts: Facts) -> list[dict[str, Any]]:
    """The classes of the mask, the background first, with their places in the model's output and their colors."""
    colors = facts.mask_colors or colors_of(facts.mask_classes)
    return [
        {"name": name, "label": class_words(name).capitalize(), "index": i, "color": list(color)}
        for i, (name, color) in enumerate(zip(facts.mask_classes, colors))
    ]


def label(name: str) -> str:
    """An attribute's name in words.

    >>> label("5_o_Clock_Shadow")
    "5 o'clock shadow"
    """
    return name.replace("_o_Clock", " o'clock").replace("_", " ").capitalize()


def _read(path: Path) -> Facts:
    """What an ONNX file says of itself."""
    try:
        import onnx
    except ImportError:
        raise CheckpointError("reading an ONNX file needs the package onnx: pip install 'facetx[export]'") from None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise CheckpointError(f"{path}: is no ONNX file, or a damaged one ({printable(str(error))})") from None
    file = onnx.load(str(path), load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in file.graph.initializer):
        raise CheckpointError(f"{path}: keeps its weights in a file beside it; the page needs all in one file")
    texts = {entry.key: entry.value for entry in file.metadata_props}
    facts = read_facts(texts.get(KEY), str(path))
    if "attributes" in facts.outputs and facts.outputs["attributes"] != (len(facts.attributes),):
        raise CheckpointError(
            f"{path}: has {len(facts.attributes)} names for attributes of shape {list(facts.outputs['attributes'])}"
        )
    masks = facts.outputs.get("mask")
    if masks is not None and (len(masks) != 3 or masks[0] != len(facts.mask_classes)):
        raise CheckpointError(f"{path}: has {len(facts.mask_classes)} names for masks of shape {list(masks)}")
    return facts
