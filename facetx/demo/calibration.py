"""What a cosine means: the thresholds and the error rates that a verification result has, for the page to show."""

from pathlib import Path
from typing import Any

import numpy as np

from facetx.benchmarks.results import FORMAT, read_result
from facetx.errors import DataError, FacetxError
from facetx.evaluators.verification import VerificationResult

BINS = 50


def find_calibration(checkpoint: Path, weights: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The calibration of a model, and what was wrong with results that were stepped over.

    Looks for results of verification beside an exported file, and in the ``benchmarks`` folders there and of the run
    that the file lies in. Where there are several, that of the most pairs is taken.

    Args:
        checkpoint: A run's folder, or an exported file.
        weights: The digest of its weights; results of others are not of this model. None where it is not known.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    found, notes = [], []
    patterns = ("*.json", "benchmarks/*.json", "../benchmarks/*.json")
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if FORMAT.encode() not in path.read_bytes():
            continue
        try:
            result, receipt = read_result(path)
        except FacetxError as error:
            notes.append(str(error))
            continue
        if not isinstance(result, VerificationResult):
            continue
        if weights is not None and receipt.weights != weights:
            notes.append(f"{path}: was measured with other weights than these; not used")
        else:
            found.append(result)
    return (calibration(max(found, key=lambda result: result.pairs)) if found else None), notes


def read_calibration(path: str | Path, weights: str | None) -> dict[str, Any]:
    """The calibration in one result's file. Raises ``DataError`` where it is none, or of other weights."""
    result, receipt = read_result(path)
    if not isinstance(result, VerificationResult):
        raise DataError(f"{path}: is a result of parsing; thresholds come from one of verification")
    if weights is not None and receipt.weights != weights:
        raise DataError(f"{path}: was measured with other weights than the model's; evaluate this model anew")
    return calibration(result)


def calibration(result: VerificationResult) -> dict[str, Any]:
    """Plain values for the page.

    ``points`` are thresholds with the share of different pairs accepted (far) and of same pairs refused (frr), in 0..1;
    ``histogram`` is the share of each kind's scores a bin, over ``low`` to ``high``.
    """
    low, high = float(min(result.scores.min(), 0.0)), float(max(result.scores.max(), 1.0))
    shares = {
        name: (np.histogram(result.scores[kind], BINS, (low, high))[0] / kind.sum()).round(5).tolist()
        for name, kind in (("same", result.same), ("different", ~result.same))
    }
    points = [_point(result, "Most accurate", result.threshold, True)]
    points += [_point(result, f"FAR ≤ {100 * t.target:g} %", t.threshold, t.supported) for t in result.tars]
    return {
        "name": result.name,
        "flip": result.flip,
        "same": int(result.same.sum()),
        "different": int((~result.same).sum()),
        "points": points,
        "histogram": {"low": low, "high": high, **shares},
    }


def _point(result: VerificationResult, name: str, threshold: float, supported: bool) -> dict[str, Any]:
    accepted = result.scores > threshold
    return {
        "name": name,
        "threshold": float(threshold),
        "far": float(accepted[~result.same].mean()),
        "frr": float(1 - accepted[result.same].mean()),
        "supported": bool(supported),
    }
