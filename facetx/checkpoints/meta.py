"""What a checkpoint says of itself, in ``meta.json``: one model, checked as strictly as settings, in every use."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from facetx.config.parts import Part
from facetx.config.settings import HeadSettings, ModelSettings
from facetx.contract import InputContract
from facetx.data.base import Description
from facetx.errors import CheckpointError, some
from facetx.files import write_file

FORMAT: Literal[2] = 2
META = "meta.json"
_LARGEST = 2**24
"""Bytes; a description takes some thousands."""


class DamagedError(CheckpointError):
    """A checkpoint whose files are not what was written. The one before it is taken."""


class FileFacts(BaseModel):
    """Of a file beside ``meta.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class KeptSettings(BaseModel):
    """The settings of the run, of which its model is built again; others may be missing, or be of another time."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    seed: int | None = None
    plugins: tuple[str, ...] = ()
    model: ModelSettings
    task: Part = Part(name="recognition")
    head: tuple[HeadSettings, ...] = ()


class Meta(BaseModel):
    """The description of a checkpoint. Make one with ``Meta.make``.

    Attributes:
        format: Of the folder; this facetx writes 2.
        step: Optimizer steps done.
        settings: Of the run.
        input: What the network expects of its images.
        data: What a task must know of the training set to be built; None where it is not known, as of imported weights.
        digest: Of the training set, see ``FaceDataset.digest``; None where it is not known.
        metrics: The row of the log of this step, with the numbers of its evaluation once that is done.
        evaluated: Whether the evaluation that is due at this step has been done.
        torch: PyTorch's version.
        source: Of imported weights: where they come from.
        license: Of imported weights.
        files: Facts of the files beside this one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    format: Literal[1, 2] = FORMAT
    step: Annotated[int, Field(ge=0)]
    settings: KeptSettings
    input: InputContract
    data: Description | None = None
    digest: dict[str, Any] | None = None
    metrics: dict[str, Any] = {}
    evaluated: bool = True
    torch: str | None = None
    source: dict[str, Any] | None = None
    license: str | None = None
    files: dict[Annotated[str, Field(pattern=r"^(model\.safetensors|state\.pt|train\.pt)$")], FileFacts] = {}

    @classmethod
    def make(cls, **values: Any) -> "Meta":
        """One of plain values, settings, contracts and descriptions."""
        return cls.model_validate_json(json.dumps(to_jsonable_python(values)), strict=True)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")


def write_meta(folder: Path, meta: Meta) -> None:
    """Writes ``meta.json``, whole or not at all, with its own hash in it."""
    content = meta.as_dict()
    write_file(folder / META, json.dumps({**content, "sha256": _hash(content)}, indent=1) + "\n")


def read_meta(folder: Path) -> Meta:
    """The description in a checkpoint's folder.

    Raises ``DamagedError`` where it is missing, changed, or incomplete, and ``CheckpointError`` where it is of another
    format, or cannot be read just now.
    """
    if not (folder / META).is_file():
        raise DamagedError(f"{folder}: no checkpoint, {META} is missing")
    try:
        with (folder / META).open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise CheckpointError(f"{folder}: {META} cannot be read: {error.strerror or error}") from error
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{folder}: {META} is damaged ({error})") from error
    if not isinstance(content, dict) or len(raw) > _LARGEST:
        raise DamagedError(f"{folder}: {META} is damaged (it holds no description of a checkpoint)")
    version = content.get("format")
    if version == 1:
        content = _of_format_1(content)
    elif content.pop("sha256", None) != _hash(content):
        raise DamagedError(f"{folder}: {META} is damaged, or was changed by hand (its own hash differs)")
    elif version != FORMAT:
        raise CheckpointError(f"{folder}: written in format {version}, this facetx reads formats 1 to {FORMAT}")
    try:
        return Meta.model_validate_json(json.dumps(content), strict=True)
    except (ValidationError, RecursionError) as error:
        raise DamagedError(f"{folder}: {META} is damaged ({_problems(error)})") from error


def _hash(content: dict[str, Any]) -> str:
    """Of all values; how the file is laid out does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """It had the number of identities alone, and no hash of its own; it was written after the evaluation."""
    content = {k: v for k, v in content.items() if k != "num_classes"} | {
        "data": {"num_classes": content["num_classes"]} if "num_classes" in content else None
    }
    return content


def _problems(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return some((f"{'.'.join(str(key) for key in e['loc'])}: {e['msg']}" for e in error.errors()), show=3)
