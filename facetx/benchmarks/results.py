"""Results of verification and of parsing as JSON files that hold every score, or every image's pixel counts, so that
they can be compared later.

Arrays stand in them as base64 of little-endian bytes, scores in float64: what is read back gives the same numbers.
"""

import base64
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter

from facetx.benchmarks.receipts import Receipt
from facetx.errors import DataError
from facetx.evaluators.parsing import ParsingResult
from facetx.evaluators.verification import VerificationResult
from facetx.files import read_file, write_json
from facetx.metrics.parsing import KINDS as PIXEL_KINDS

Comparable = VerificationResult | ParsingResult
"""Results that can be compared with another of their kind."""
FORMAT = "facetx-verification-1"
FORMATS: dict[str, dict[str, str]] = {
    FORMAT: {"scores": "<f8", "same": "|b1", "fold": "<i4"},
    "facetx-parsing-1": {"counts": "<i4"},
}
"""The arrays of each format, and their types."""
MOST_FOLDS = 1000
"""Each takes some 13 kB while the accuracy is measured, whatever the file's size."""

Color = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]


class _Plain(BaseModel, strict=True):
    """What is read of a file beside the arrays and the receipt."""

    name: str
    xnorm: FiniteFloat
    flip: bool
    thresholds: Literal["grid", "exact"]
    mean_keypoints: int | None = None
    notes: tuple[str, ...] = ()


class _PlainClass(BaseModel, strict=True):
    color: Color


class _PlainParsing(BaseModel, strict=True):
    name: str
    data: str
    classes: Annotated[dict[str, _PlainClass], Field(min_length=1, max_length=255)]
    confusion: list[list[Annotated[int, Field(ge=0, lt=2**53)]]]
    labels: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    notes: tuple[str, ...] = ()


def write_result(path: str | Path, result: Comparable, receipt: Receipt, **more: Any) -> None:
    """Writes a result with its receipt; the file appears whole or not at all.

    Args:
        more: Plain values that stand beside it, such as the model's checkpoint or the results of groups.
    """
    form = FORMAT if isinstance(result, VerificationResult) else "facetx-parsing-1"
    arrays = {name: _encode(getattr(result, name), kind) for name, kind in FORMATS[form].items()}
    write_json(path, {"format": form, **result.as_dict(), **more, "receipt": receipt.as_dict(), "arrays": arrays})


def read_result(path: str | Path) -> tuple[Comparable, Receipt]:
    """A result, measured anew from what it holds, and its receipt. Raises ``DataError`` for any other file."""
    path = Path(path)
    try:
        content = json.loads(read_file(path))
        form = content["format"]
        if form not in FORMATS:
            raise DataError(f"{path}: written in the format {form!r}, this facetx reads {' and '.join(FORMATS)}")
        arrays = {name: _decode(content["arrays"][name], kind) for name, kind in FORMATS[form].items()}
        result = _verification(content, **arrays) if form == FORMAT else _parsing(content, **arrays)
        receipt = Receipt(**content["receipt"])
        TypeAdapter(Receipt).validate_json(json.dumps(content["receipt"], allow_nan=False), strict=True)
        result.summary()  # raises where scores and labels are none
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: no result with its scores, as scripts/evaluate.py and eval_lfw.py write ({error!r})"
        ) from error
    return result, receipt


def _verification(
    content: dict[str, Any], scores: NDArray[Any], same: NDArray[Any], fold: NDArray[Any]
) -> VerificationResult:
    if len(np.unique(fold)) > MOST_FOLDS:
        raise ValueError(f"more than {MOST_FOLDS} folds")
    if not len(scores) == len(same) == len(fold):
        raise ValueError("scores, labels and folds are not equally many")
    known = {"xnorm": content["summary"]["xnorm"], "notes": tuple(content.get("notes", ()))}
    plain = _Plain(name=content["name"], **known, **content["settings"])
    return VerificationResult(
        name=plain.name,
        scores=scores,
        same=same,
        fold=np.unique(fold, return_inverse=True)[1],
        **{key: value for key, value in plain if key != "name"},
    )


def _parsing(content: dict[str, Any], counts: NDArray[Any]) -> ParsingResult:
    kept = {name: content[name] for name in _PlainParsing.model_fields}
    plain = _PlainParsing.model_validate_json(json.dumps(kept), strict=True)
    classes = tuple(plain.classes)
    each = counts.reshape(-1, len(PIXEL_KINDS), len(classes))
    matrix = np.array(plain.confusion, np.int64)
    sums = each.sum(axis=0, dtype=np.int64)
    if matrix.shape != (len(classes), len(classes)) or not len(each) or (each < 0).any():
        raise ValueError("counts of pixels are of no image, negative, or not of these classes")
    both, labeled, said, labeled_edge, labeled_met, said_edge, said_met = each.transpose(1, 0, 2)
    parts = ((both, labeled), (both, said), (labeled_met, labeled_edge), (said_met, said_edge))
    if any((part > whole).any() for part, whole in parts):
        raise ValueError("more pixels are met than there are")
    if not np.array_equal(sums[:3], [np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)]):
        raise ValueError("the images' counts are not those of the confusion matrix")
    return ParsingResult(
        name=plain.name,
        classes=classes,
        colors=tuple(found.color for found in plain.classes.values()),
        confusion=matrix,
        counts=each,
        labels=plain.labels,
        data=plain.data,
        notes=plain.notes,
    )


def _encode(array: ArrayLike, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def _decode(text: str, kind: str) -> NDArray[Any]:
    data = base64.b64decode(text, validate=True)
    if kind == "|b1" and data.strip(b"\0\1"):
        raise ValueError("a label is neither 0 nor 1")
    return np.frombuffer(data, dtype=kind)
