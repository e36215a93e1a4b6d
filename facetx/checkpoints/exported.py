"""What an exported file says of itself: one model, checked as strictly as a checkpoint's ``meta.json``."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetx.contract import InputContract
from facetx.errors import CheckpointError, printable, some

KEY = "facetx"
"""Of the file's metadata; its value is ``Facts`` as JSON."""
PREPROCESSING = "in the graph: uint8 RGB (B, 3, H, W)"

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Channel = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Side = Annotated[int, Field(ge=1)]


class Source(BaseModel):
    """The run that a model is of; all None of a model that is of none.

    Attributes:
        name, seed: Of its settings.
        step: Optimizer steps done.
        model: The backbone's name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    step: int | None = None
    seed: int | None = None
    model: str | None = None


class Facts(BaseModel):
    """The description of an exported model.

    Attributes:
        format: Of this description.
        task: The task's name.
        outputs: Name -> shape of each output, without the batch.
        input: What the network expects of its images.
        preprocessing: Where the input's contract is applied.
        keypoints: Whether there is a second input ``keypoints``, float32 (B, 5, 2) in [0, 1] as (x, y).
        attributes: Names of the output "attributes", in its order.
        mask_classes, mask_colors: Names of the classes of the output "mask", by their index, and their colors: red,
            green and blue.
        license: Of the weights, where it is known.
        source: The run.
        weights, network: SHA-256 of what was exported and of what the backbone computes, as in receipts.
        precision: Of the numbers that it computes in.
        difference: Largest relative difference from PyTorch's outputs that was seen at export; None where the file
            cannot be run on the machine that wrote it.
        facetx, torch: Versions that wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    task: Name
    outputs: Annotated[dict[Name, tuple[Side, ...]], Field(min_length=1)]
    input: InputContract
    preprocessing: str = PREPROCESSING
    keypoints: bool = False
    attributes: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    mask_colors: tuple[tuple[Channel, Channel, Channel], ...] = ()
    license: str | None = None
    source: Source = Source()
    weights: Hash
    network: Hash
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    difference: Annotated[float, Field(ge=0)] | None = None
    facetx: str
    torch: str

    @property
    def embedding_dim(self) -> int:
        """Width of the output "embedding"; 0 where there is none."""
        return self.outputs["embedding"][0] if "embedding" in self.outputs else 0


def read_facts(text: str | None, where: str) -> Facts:
    """The facts in a file's metadata, which is None where the file has none of ours.

    Raises ``CheckpointError`` for metadata that ``facetx.export`` did not write.
    """
    try:
        version = None if text is None else json.loads(text).get("format")
        if text is None or version is None:
            raise CheckpointError(
                f"{where}: does not say what it expects of images and what it gives; facetx takes the files that it "
                "has exported itself: python scripts/export.py RUN --to onnx"
            )
        if version != 1:
            raise CheckpointError(f"{where}: exported in format {version}, this facetx reads format 1; export it anew")
        return Facts.model_validate_json(text, strict=True)
    except CheckpointError:
        raise
    except ValidationError as error:
        problems = some((f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), show=3)
    except (ValueError, AttributeError, RecursionError) as error:
        problems = str(error)
    raise CheckpointError(
        f"{where}: its description is damaged ({printable(problems)}); export the model anew: "
        "python scripts/export.py RUN --to onnx"
    )
