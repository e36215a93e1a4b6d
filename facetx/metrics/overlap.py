"""Cosines of all images, or identities, of one set with all of another: what is closest, and above which cosine two
are taken for one person."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.errors import DataError
from facetx.metrics.roc import MIN_EXPECTED_ACCEPTS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FALSE_MATCHES = 1
"""Comparisons of the training with the test set that may lie above the threshold by chance, as far as is known."""
HIGHEST_RATE = 1e-4
"""Small sets have too few impostors for a small rate; the threshold is then their highest score."""
CHUNK = 2048
"""Rows that are compared with as many others at once; bounds the memory to CHUNK x CHUNK scores."""


@dataclass(frozen=True)
class Threshold:
    """The cosine above which two faces are taken for one person, and what it rests on.

    Attributes:
        cosine: The threshold.
        false_rate: Share of the impostor comparisons that may lie above. None where the threshold was given.
        impostor_comparisons: Of different identities of the training set.
        supported: Whether these are enough to speak of that rate: ten of them are expected above.
        comparisons: Of the training with the test set.
        false_matches: So many of them are expected above by chance.
    """

    cosine: float
    false_rate: float | None = None
    impostor_comparisons: int = 0
    supported: bool = False
    comparisons: int = 0
    false_matches: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, of what is known, rounded for the report."""
        if self.false_rate is None:
            return {"cosine": self.cosine, "given": True}
        return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(self).items()}

    def doubt(self) -> str | None:
        """A warning in words where the comparisons do not support the rate."""
        if self.false_rate is None or self.supported:
            return None
        return (
            f"the threshold rests on {self.impostor_comparisons} impostor comparisons, and a false rate of "
            f"{self.false_rate:g} takes {MIN_EXPECTED_ACCEPTS / self.false_rate:.0f}: matches may be of other people; "
            "look through them, or give --threshold"
        )


def identity_means(x: Floats, labels: Ints) -> Floats:
    """The mean (C, D), scaled to length 1, of the rows (N, D) of each label 0..C-1."""
    sums = np.zeros((int(labels.max()) + 1, x.shape[1]), np.float32)
    np.add.at(sums, labels, x)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-12)


def impostor_threshold(
    probes: Floats, probe_labels: Ints, gallery: Floats, gallery_labels: Ints, comparisons: int
) -> Threshold:
    """The lowest threshold above which at most a share of the cosines of different identities lies.

    That share is FALSE_MATCHES / ``comparisons``, or, where the impostors support none so small, what they support
    (``facetx.metrics.roc.MIN_EXPECTED_ACCEPTS`` of them), and at most HIGHEST_RATE.

    Args:
        probes, gallery: (P, D) and (G, D) of length 1.
        probe_labels, gallery_labels: Their identities.
        comparisons: That the threshold will be used on.

    Raises ``DataError`` where all are of one identity.
    """
    classes = int(max(probe_labels.max(), gallery_labels.max())) + 1
    mates = np.bincount(probe_labels, minlength=classes) @ np.bincount(gallery_labels, minlength=classes)
    impostors = len(probes) * len(gallery) - int(mates)
    if impostors == 0:
        raise DataError("the training set has no two identities to choose a threshold by; give one (--threshold)")
    rate = min(max(FALSE_MATCHES / comparisons, MIN_EXPECTED_ACCEPTS / impostors), HIGHEST_RATE)
    above = int(rate * impostors * (1 + 1e-12))  # 10 / n * n is 10, whatever the rounding
    top = np.empty(0, np.float32)
    for rows in _chunks(len(probes)):
        for columns in _chunks(len(gallery)):
            scores = probes[rows] @ gallery[columns].T
            different = scores[probe_labels[rows, None] != gallery_labels[columns]]
            top = np.concatenate([top, different])
            if len(top) > above + 1:
                top = np.partition(top, len(top) - above - 1)[-above - 1 :]
    supported = rate * impostors * (1 + 1e-12) >= MIN_EXPECTED_ACCEPTS
    return Threshold(float(top.min()), rate, impostors, supported, comparisons, rate * comparisons)


def closest(train: Floats, test: Floats, threshold: float) -> tuple[Ints, Floats, int]:
    """For each row (N, D) of length 1 the closest of the others (M, D) and its cosine, (N,) each, and how many of all
    N x M pairs are above the threshold."""
    index, best, above = np.zeros(len(train), np.int64), np.full(len(train), -np.inf, np.float32), 0
    for rows in _chunks(len(train)):
        for columns in _chunks(len(test)):
            scores = train[rows] @ test[columns].T
            above += int((scores > threshold).sum())
            nearest = scores.argmax(axis=1)
            value = scores[np.arange(len(scores)), nearest]
            better = value > best[rows]
            index[rows][better], best[rows][better] = nearest[better] + columns.start, value[better]
    return index, best, above


def _chunks(size: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]
