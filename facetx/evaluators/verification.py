"""1:1 verification on pairs of images: are the two one person?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from facetx.evaluators.embedding import Backbone, FaceDataset, embed_views
from facetx.evaluators.terms import Terms
from facetx.metrics.roc import Roc, TarAtFar, auc, eer, roc, tar_at_far
from facetx.metrics.verification import FoldAccuracy, cosine_scores, tenfold_accuracy

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


@dataclass(frozen=True)
class VerificationResult:
    """What came out of one verification run, and how it was measured.

    Attributes:
        name: Of the benchmark.
        scores: (N,) cosines.
        same: (N,) bool.
        fold: (N,) int.
        accuracy: Over the folds, with the accuracy and the threshold of each.
        xnorm: InsightFace's XNorm, see ``DEFINITIONS``.
        flip: Whether mirrors were used.
        mean_keypoints: Images whose keypoints are the mean of the others', for want of landmarks of their own; None
            where no landmarks were given.
    """

    name: str
    scores: NDArray[np.float64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    accuracy: FoldAccuracy
    xnorm: float
    flip: bool
    mean_keypoints: int | None = None

    @property
    def pairs(self) -> int:
        return len(self.same)

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
        """The named numbers; rates in 0..1, the threshold a cosine, mean over the folds."""
        return {
            "accuracy": self.accuracy.mean,
            "accuracy_std": self.accuracy.std,
            "accuracy_se": self.accuracy.se,
            "threshold": float(self.accuracy.thresholds.mean()),
            "xnorm": self.xnorm,
            "auc": self.auc,
            "eer": self.eer,
            **{f"tar@far={short(t.target)}": t.tar for t in self.tars},
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the summary, each fold, the TARs with their intervals, settings and definitions."""
        return {
            "name": self.name,
            "summary": self.summary(),
            "folds": [
                {"accuracy": float(a), "threshold": float(t)}
                for a, t in zip(self.accuracy.accuracies, self.accuracy.thresholds)
            ],
            "tar_at_far": [vars(t) for t in self.tars],
            "pairs": {"same": int(self.same.sum()), "different": int((~self.same).sum())},
            "settings": {"flip": self.flip, "thresholds": self.accuracy.mode}
            | ({} if self.mean_keypoints is None else {"mean_keypoints": self.mean_keypoints}),
            "definitions": {**DEFINITIONS, "thresholds": THRESHOLDS[self.accuracy.mode]},
        }

    def table(self) -> str:
        """A Markdown table that reads well in a terminal too, then one of the folds."""
        a = self.accuracy
        rows = [
            ("accuracy", f"{100 * a.mean:.2f} %"),
            ("std over folds", f"{100 * a.std:.2f} %"),
            ("standard error", f"{100 * a.se:.2f} %"),
            ("threshold (cosine, mean)", f"{a.thresholds.mean():.4f}"),
            ("XNorm", f"{self.xnorm:.2f}"),
            ("AUC", f"{100 * self.auc:.2f} %"),
            ("EER", f"{100 * self.eer:.2f} %"),
        ]
        for t in self.tars:
            note = "" if t.supported else "; too few pairs for this FAR"
            rows.append(
                (
                    f"TAR at FAR <= {short(t.target)}",
                    f"{100 * t.tar:.2f} % (95 %: {100 * t.low:.2f} to {100 * t.high:.2f}){note}",
                )
            )
        kinds = f"{len(self.same)} pairs, {len(a.accuracies)} folds, {'with' if self.flip else 'without'} flip"
        folds = [
            (f"{i}", f"{100 * x:.2f} %", f"{t:.4f}")
            for i, (x, t) in enumerate(zip(a.accuracies, a.thresholds), start=1)
        ]
        by_fold = markdown_table(("fold", "accuracy", "threshold"), folds)
        return f"{markdown_table((self.name, kinds), rows)}\n\n{by_fold}"


class PairVerification:
    """The evaluator: embeds the images of the pairs, scores the pairs, and measures over folds.

    Args:
        name: Prefix of its numbers in logs.
        dataset: See ``facetx.evaluators.embedding.FaceDataset``; only the items that the pairs use are read.
        first, second: (N,) items of the data set.
        same: (N,) bool.
        fold: (N,) fold of each pair.
        flip: Sum the embeddings of an image and of its mirror.
        thresholds: "grid" (the field's) or "exact", see ``tenfold_accuracy``.
        mean_keypoints: See ``VerificationResult``.
    """

    needs_head = False

    def __init__(
        self,
        name: str,
        dataset: FaceDataset,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        same: NDArray[np.bool_],
        fold: NDArray[np.int64],
        flip: bool = True,
        thresholds: Literal["grid", "exact"] = "grid",
        mean_keypoints: int | None = None,
    ):
        self.name = name
        self.dataset = dataset
        self.first, self.second, self.same, self.fold = first, second, same, fold
        self.flip = flip
        self.thresholds = thresholds
        self.mean_keypoints = mean_keypoints

    def __call__(
        self,
        backbone: Backbone,
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 128,
        workers: int = 0,
        amp: bool = False,
    ) -> Iterator[tuple[str, float]]:
        """Yields (name, value) of each number in ``VerificationResult.summary``."""
        result = self.result(backbone, device=device, batch_size=batch_size, workers=workers, amp=amp)
        yield from result.summary().items()

    def result(
        self,
        backbone: Backbone,
        *,
        device: str | torch.device = "cpu",
        batch_size: int = 128,
        workers: int = 0,
        amp: bool = False,
        embed: Callable[..., NDArray[np.float32]] = embed_views,
    ) -> VerificationResult:
        """All of the result. The arguments are those of ``facetx.evaluators.embedding.embed_views``, and ``embed`` is
        what stands in for it (``facetx.benchmarks.embedding_cache.EmbeddingCache``)."""
        used, place = np.unique(np.concatenate([self.first, self.second]), return_inverse=True)
        views = embed(
            backbone,
            self.dataset,
            indices=used.tolist(),
            flip=self.flip,
            device=device,
            batch_size=batch_size,
            workers=workers,
            amp=amp,
        )
        embeddings = views.sum(axis=0)  # (V, M, D) -> (M, D)
        a, b = np.split(place, 2)  # (2N,) -> (N,), (N,)
        scores = cosine_scores(embeddings[a], embeddings[b])
        return VerificationResult(
            name=self.name,
            scores=scores,
            same=self.same,
            fold=self.fold,
            accuracy=tenfold_accuracy(scores, self.same, self.fold, self.thresholds),
            xnorm=float(np.linalg.norm(views, axis=2)[:, place].mean()),
            flip=self.flip,
            mean_keypoints=self.mean_keypoints,
        )

    def terms(self) -> Terms:
        """For the receipt."""
        folds = np.unique(self.fold, return_inverse=True)[1]
        return Terms(
            items=np.stack([self.first, self.second], axis=1).ravel(),
            protocol=[(self.same, "|b1"), (folds, "<i8")],
            flip=self.flip,
            definitions={**DEFINITIONS, "thresholds": THRESHOLDS[self.thresholds]},
            thresholds=self.thresholds,
        )


def short(far: float) -> str:
    """0.001 -> "1e-3"."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table with its columns padded."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows)]
    lines = [head, tuple("-" * w for w in widths), *rows]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)
