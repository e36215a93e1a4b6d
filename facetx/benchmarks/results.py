"""Results of verification as JSON files that hold every score, so that they can be compared later.

Arrays stand in them as base64 of little-endian bytes, scores in float64: what is read back gives the same numbers.
"""

import base64
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, FiniteFloat, TypeAdapter

from facetx.benchmarks.receipts import Receipt
from facetx.errors import DataError
from facetx.evaluators.verification import VerificationResult
from facetx.files import read_file, write_json

FORMAT = "facetx-verification-1"
KINDS = {"scores": "<f8", "same": "|b1", "fold": "<i4"}
MOST_FOLDS = 1000
"""Each takes some 13 kB while the accuracy is measured, whatever the file's size."""


class _Plain(BaseModel, strict=True):
    """What is read of a file beside the arrays and the receipt."""

    name: str
    xnorm: FiniteFloat
    flip: bool
    thresholds: Literal["grid", "exact"]
    mean_keypoints: int | None = None
    notes: tuple[str, ...] = ()


def write_result(path: str | Path, result: VerificationResult, receipt: Receipt, **more: Any) -> None:
    """Writes a result with its receipt; the file appears whole or not at all.

    Args:
        more: Plain values that stand beside it, such as the model's checkpoint or the results of groups.
    """
    arrays = {name: _encode(getattr(result, name), kind) for name, kind in KINDS.items()}
    write_json(path, {"format": FORMAT, **result.as_dict(), **more, "receipt": receipt.as_dict(), "arrays": arrays})


def read_result(path: str | Path) -> tuple[VerificationResult, Receipt]:
    """A result, measured anew from its scores, and its receipt. Raises ``DataError`` for any other file."""
    path = Path(path)
    try:
        content = json.loads(read_file(path))
        if content["format"] != FORMAT:
            raise DataError(f"{path}: written in the format {content['format']!r}, this facetx reads {FORMAT!r}")
        scores, same, fold = (_decode(content["arrays"][name], kind) for name, kind in KINDS.items())
        if len(np.unique(fold)) > MOST_FOLDS:
            raise ValueError(f"more than {MOST_FOLDS} folds")
        if not len(scores) == len(same) == len(fold):
            raise ValueError("scores, labels and folds are not equally many")
        known = {"xnorm": content["summary"]["xnorm"], "notes": tuple(content.get("notes", ()))}
        plain = _Plain(name=content["name"], **known, **content["settings"])
        receipt = Receipt(**content["receipt"])
        TypeAdapter(Receipt).validate_json(json.dumps(content["receipt"], allow_nan=False), strict=True)
        result = VerificationResult(
            name=plain.name,
            scores=scores,
            same=same,
            fold=np.unique(fold, return_inverse=True)[1],
            **{key: value for key, value in plain if key != "name"},
        )
        result.summary()  # raises where scores and labels are none
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: no result with its scores, as scripts/evaluate.py and eval_lfw.py write ({error!r})"
        ) from error
    return result, receipt


def _encode(array: ArrayLike, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def _decode(text: str, kind: str) -> NDArray[Any]:
    data = base64.b64decode(text, validate=True)
    if kind == "|b1" and data.strip(b"\0\1"):
        raise ValueError("a label is neither 0 nor 1")
    return np.frombuffer(data, dtype=kind)
