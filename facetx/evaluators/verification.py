"""1:1 verification on pairs of images: are the two one person?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.embedding import embed
from facetx.evaluators.terms import Terms
from facetx.metrics.roc import Roc, TarAtFar, auc, eer, roc, tar_at_far
from facetx.metrics.verification import FoldAccuracy, Thresholds, best_threshold, cosine_scores, tenfold_accuracy
from facetx.tables import Table

FARS = (1e-1, 1e-2, 1e-3)

DEFINITIONS = {
    "similarity": "cosine of the embeddings; a pair is accepted where it is above the threshold",
    "flip": "the embeddings of an image and of its mirror are summed",
    "std": "standard deviation over the folds, ddof = 0",
    "se": "standard error of the mean over the folds, std with ddof = 1 / sqrt(folds)",
    "xnorm": "mean L2 norm of the embeddings of all images and mirrors, one count for each use in a pair",
    "tar@far": "at the lowest threshold whose FAR <= the target, not interpolated; 95 % Wilson interval",
    "eer": "where FAR = 1 - TAR on the ROC, its points joined by straight lines",
}
THRESHOLDS = {
    "grid": "squared distance of unit vectors 0 to 4 by 0.01, best on the other folds, the strictest of equals",
    "exact": "midpoints between the scores of the other folds, best on these, the strictest of equals",
}
ONE_FOLD = (
    "one fold: no accuracy over folds, for a threshold must be chosen on other pairs than those it is measured on; the "
    "threshold given is the best on all pairs"
)


@dataclass(frozen=True)
class VerificationResult(Result):
    """What came out of one verification run, and how it was measured.

    Attributes:
        name: Of the evaluator.
        scores: (N,) cosines.
        same: (N,) bool.
        fold: (N,) int, 0..F-1.
        xnorm: InsightFace's XNorm, see ``DEFINITIONS``.
        flip: Whether mirrors were used.
        thresholds: How those of the folds are chosen, see ``THRESHOLDS``.
        mean_keypoints: Images whose keypoints are the mean of the others', for want of landmarks of their own; None
            where no landmarks were given.
        notes: What a reader of the numbers has to know.
    """

    name: str
    scores: NDArray[np.float64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    xnorm: float
    flip: bool
    thresholds: Thresholds = "grid"
    mean_keypoints: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def pairs(self) -> int:
        return len(self.same)

    @cached_property
    def accuracy(self) -> FoldAccuracy | None:
        """Over the folds, with the accuracy and the threshold of each; None where there is one fold."""
        several = self.fold.min() < self.fold.max()
        return tenfold_accuracy(self.scores, self.same, self.fold, self.thresholds) if several else None

    @cached_property
    def threshold(self) -> float:
        """Mean over the folds; of one fold, the best on its own pairs."""
        if self.accuracy is None:
            return best_threshold(self.scores, self.same, self.thresholds)
        return float(self.accuracy.thresholds.mean())

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether each pair was decided rightly, at its fold's threshold where there are several."""
        thresholds = self.threshold if self.accuracy is None else self.accuracy.thresholds[self.fold]
        return (self.scores > thresholds) == self.same

    @cached_property
    def roc(self) -> Roc:
        return roc(self.scores, self.same)

    @cached_property
    def auc(self) -> float:
        return auc(self.scores, self.same)

    @cached_property
    def eer(self) -> float:
        return eer(self.scores, self.same)

    @cached_property
    def tars(self) -> list[TarAtFar]:
        """At each of ``FARS``."""
        return tar_at_far(self.scores, self.same, FARS)

    def summary(self) -> dict[str, float]:
        """The named numbers; rates in 0..1, the threshold a cosine. Of one fold there is no accuracy."""
        a = self.accuracy
        over_folds = {} if a is None else {"accuracy": a.mean, "accuracy_std": a.std, "accuracy_se": a.se}
        return {
            **over_folds,
            "threshold": self.threshold,
            "xnorm": self.xnorm,
            "auc": self.auc,
            "eer": self.eer,
            **{f"tar@far={short(t.target)}": t.tar for t in self.tars},
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the summary, each fold, the TARs with their intervals, settings and definitions."""
        a = self.accuracy
        folds = [] if a is None else [
            {"accuracy": float(x), "threshold": float(t)} for x, t in zip(a.accuracies, a.thresholds)
        ]  # fmt: skip
        return {
            "name": self.name,
            "summary": self.summary(),
            "folds": folds,
            "tar_at_far": [vars(t) for t in self.tars],
            "pairs": {"same": int(self.same.sum()), "different": int((~self.same).sum())},
            "settings": {"flip": self.flip, "thresholds": self.thresholds}
            | ({} if self.mean_keypoints is None else {"mean_keypoints": self.mean_keypoints}),
            "notes": list(self.notes),
            "definitions": {**DEFINITIONS, "thresholds": THRESHOLDS[self.thresholds]},
        }

    def table(self) -> Table:
        """The summary, with the intervals of the TARs."""
        a = self.accuracy
        rows = [("accuracy", "none, for there is one fold")]
        if a is not None:
            rows = [
                ("accuracy", f"{100 * a.mean:.2f} %"),
                ("std over folds", f"{100 * a.std:.2f} %"),
                ("standard error", f"{100 * a.se:.2f} %"),
            ]
        rows += [
            ("threshold (cosine, best)" if a is None else "threshold (cosine, mean)", f"{self.threshold:.4f}"),
            ("XNorm", f"{self.xnorm:.2f}"),
            ("AUC", f"{100 * self.auc:.2f} %"),
            ("EER", f"{100 * self.eer:.2f} %"),
            *(
                (
                    f"TAR at FAR <= {short(t.target)}",
                    f"{100 * t.tar:.2f} % (95 %: {100 * t.low:.2f} to {100 * t.high:.2f}){unsupported(t)}",
                )
                for t in self.tars
            ),
        ]
        folds = "1 fold" if a is None else f"{len(a.accuracies)} folds"
        return Table((self.name, f"{self.pairs} pairs, {folds}, {'with' if self.flip else 'without'} flip"), rows)

    def tables(self) -> list[Table]:
        """The summary, then the folds."""
        return [self.table()] if self.accuracy is None else [self.table(), folds_table(self.accuracy)]


class PairVerification(Evaluator):
    """The evaluator: embeds the images of the pairs, scores the pairs, and measures over folds.

    Args:
        name: Prefix of its numbers in logs.
        dataset: Only the items that the pairs use are read.
        first, second: (N,) items of the data set.
        same: (N,) bool.
        fold: (N,) fold of each pair; with one fold there is no accuracy, and the result says so.
        flip: Sum the embeddings of an image and of its mirror.
        thresholds: "grid" (the field's) or "exact", see ``tenfold_accuracy``.
        mean_keypoints: See ``VerificationResult``.
        notes: What a reader of the numbers has to know.

    Raises ``DataError`` for pairs of one kind alone.
    """

    dataset: FaceDataset

    def __init__(
        self,
        name: str,
        dataset: FaceDataset,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        same: NDArray[np.bool_],
        fold: NDArray[np.int64],
        flip: bool = True,
        thresholds: Thresholds = "grid",
        mean_keypoints: int | None = None,
        notes: tuple[str, ...] = (),
    ):
        super().__init__(name, dataset)
        self.first, self.second, self.same = first, second, same
        self.fold = np.unique(fold, return_inverse=True)[1]
        self.flip = flip
        self.thresholds = thresholds
        self.mean_keypoints = mean_keypoints
        self.notes = (*notes, *_notes_on_folds(name, same, self.fold))

    def result(self, model: Model, how: How = HERE) -> VerificationResult:
        """All of the result. Raises ``DataError`` as ``facetx.evaluators.embedding.embed_views`` does."""
        used, place = np.unique(np.concatenate([self.first, self.second]), return_inverse=True)
        views = embed(model, self.dataset, how, indices=used.tolist(), flip=self.flip)
        embeddings = views.sum(axis=0)  # (V, M, D) -> (M, D)
        a, b = np.split(place, 2)  # (2N,) -> (N,), (N,)
        return VerificationResult(
            name=self.name,
            scores=cosine_scores(embeddings[a], embeddings[b]),
            same=self.same,
            fold=self.fold,
            xnorm=float(np.linalg.norm(views, axis=2)[:, place].mean()),
            flip=self.flip,
            thresholds=self.thresholds,
            mean_keypoints=self.mean_keypoints,
            notes=self.notes,
        )

    def terms(self) -> Terms:
        """For the receipt."""
        return Terms(
            items=np.stack([self.first, self.second], axis=1).ravel(),
            protocol=[(self.same, "|b1"), (self.fold, "<i8")],
            flip=self.flip,
            definitions={**DEFINITIONS, "thresholds": THRESHOLDS[self.thresholds]},
            thresholds=self.thresholds,
        )


def _notes_on_folds(name: str, same: NDArray[np.bool_], fold: NDArray[np.int64]) -> Iterator[str]:
    """What is odd about the folds. Raises ``DataError`` where a threshold would be chosen on pairs of one kind."""
    total = np.bincount(fold)
    ours = np.bincount(fold, same)  # same pairs of each fold
    others, other_pairs = ours.sum() - ours, total.sum() - total
    if not 0 < ours.sum() < len(same):
        kind = "one person" if ours.sum() else "two people"
        raise DataError(f"{name}: all {len(same)} pairs are of {kind}; verification needs pairs of both kinds")
    if len(total) == 1:
        yield ONE_FOLD
    elif ((others == 0) | (others == other_pairs)).any():
        raise DataError(
            f"{name}: without fold {int(np.argmax((others == 0) | (others == other_pairs))) + 1} the pairs are of one "
            "kind alone, and no threshold can be chosen on them; mix same and different pairs in each fold"
        )
    uneven = np.flatnonzero((ours == 0) | (ours == total))
    if len(total) > 1 and len(uneven):
        yield (
            f"{len(uneven)} of {len(total)} folds, fold {uneven[0] + 1} the first, have pairs of one kind alone: their "
            "accuracies are shares of that kind, so that mean and std over the folds say little"
        )


def folds_table(accuracy: FoldAccuracy) -> Table:
    """A row a fold."""
    rows = [
        (f"{i}", f"{100 * x:.2f} %", f"{t:.4f}")
        for i, (x, t) in enumerate(zip(accuracy.accuracies, accuracy.thresholds), start=1)
    ]
    return Table(("fold", "accuracy", "threshold"), rows)


def short(far: float) -> str:
    """0.001 -> "1e-3"."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)


def unsupported(tar: TarAtFar) -> str:
    """The mark of a TAR at a FAR that the pairs are too few to speak of."""
    return "" if tar.supported else "; too few pairs for this FAR"
