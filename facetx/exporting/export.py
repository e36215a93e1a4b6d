"""One model into one file, which is checked before it is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetx.checkpoints.exported import Facts
from facetx.config.dataset import open_dataset
from facetx.config.parts import Part
from facetx.data.base import FaceDataset
from facetx.errors import ConfigError, FacetxError, UnknownNameError, did_you_mean
from facetx.evaluators.base import Model
from facetx.exporting import coreml, onnx_file, torch_files
from facetx.exporting.check import Inputs, Run, difference, examples, first_images
from facetx.exporting.graph import Subject, subject_of
from facetx.files import write_file
from facetx.inference.model import FaceModel

TARGETS = {"onnx": ".onnx", "coreml": ".mlpackage", "torchscript": ".pt", "exported": ".pt2"}
"""Name of a kind of file -> how its name ends."""
WORDS = {"onnx": "ONNX", "coreml": "Core ML", "torchscript": "TorchScript", "exported": "an exported program"}


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Of it; Core ML's is a folder.
        facts: What it says of itself.
        checked: In words.
    """

    path: Path
    facts: Facts
    checked: str


def export(
    model: str | Path | FaceModel | Model,
    out: str | Path,
    to: str = "onnx",
    opset: int = 20,
    images: FaceDataset | None = None,
) -> Exported:
    """Writes a trained model as a file that other programs run.

    The inputs are ``image``, uint8 RGB (B, 3, H, W) of the contract's size for any batch B, scaled inside, and
    ``keypoints`` (B, 5, 2) where the model needs them; Core ML takes one image. Outputs have the names that the task's
    ``predict`` gives them; a backbone has ``embedding``. The file says what it is, see
    ``facetx.checkpoints.exported.Facts``. It is run beside PyTorch, see ``facetx.exporting.check``, before it appears.

    Args:
        model: A run's folder, a checkpoint's, a loaded model, a backbone, or a task.
        out: The file; its name ends as ``TARGETS`` says. An earlier one is replaced.
        to: "onnx", "coreml", "torchscript" or "exported" (PyTorch's exported program).
        opset: Of ONNX.
        images: To check on beside noise and drawn faces; of a run, its own training set's where that can be opened.

    Raises ``ExportError`` for a model that cannot be exported, or whose file computes something else: then no file
    is left. ``ConfigError`` for a package that is missing.
    """
    out = Path(out)
    if to not in TARGETS:
        raise UnknownNameError(f"no export to {to!r}; {did_you_mean(to, TARGETS)}")
    if out.suffix != TARGETS[to]:
        raise ConfigError(f"{out}: the name of an export to {to} ends in {TARGETS[to]}")
    if to == "onnx":
        onnx_file.require(opset)
    elif to == "coreml":
        coreml.require()
    subject = subject_of(model, WORDS[to])
    if to == "coreml":
        out.parent.mkdir(parents=True, exist_ok=True)
        facts = coreml.write_coreml(subject, out, _name(subject))
        return Exported(out, facts, "its description was read back; what it computes can be seen on a Mac alone")
    more, where = (first_images(images, subject.facts), images.name) if images else _own_images(subject)
    content, run = _converted(subject, to, opset, subject.facts, str(out))
    seen = difference(subject.graph, run, examples(subject.facts, more), str(out))
    facts = subject.facts.model_copy(update={"difference": seen})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content(facts))
    words = f"differs from PyTorch by {seen:.1e} of an output's largest value at most, at batch 1, 2 and 7, of noise"
    return Exported(out, facts, f"{words}, drawn faces{f' and {where}' if where else ''}")


def _converted(subject: Subject, to: str, opset: int, facts: Facts, out: str) -> tuple[Any, Run]:
    """What gives the file's bytes for its facts, and what runs it."""
    name = _name(subject)
    if to == "onnx":
        proto = onnx_file.onnx_model(subject, opset, name)
        return lambda f: onnx_file.with_facts(proto, f), onnx_file.run_onnx(onnx_file.with_facts(proto, facts), out)
    if to == "torchscript":
        script = torch_files.torchscript(subject, name)
        return lambda f: torch_files.script_bytes(script, f), torch_files.run_script(
            torch_files.script_bytes(script, facts)
        )
    program = torch_files.exported_program(subject, name)
    return lambda f: torch_files.program_bytes(program, f), torch_files.run_program(
        torch_files.program_bytes(program, facts)
    )


def _name(subject: Subject) -> str:
    source, model = subject.facts.source, type(subject.graph.model).__name__
    return f"{source.name}, step {source.step}" if source.name else model


def _own_images(subject: Subject) -> tuple[list[Inputs], str]:
    """Images of a run's training set, and its name, where they can be read here and fit the model."""
    data = subject.meta.get("settings", {}).get("data")
    if not data:
        return [], ""
    part = Part(name=data["name"], args=data.get("args", {}))
    try:
        found = open_dataset(part, subject.facts.input.size, data.get("crop", False))
        return first_images(found, subject.facts), part.name
    except (FacetxError, OSError):
        return [], ""
