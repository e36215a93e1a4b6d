"""Face parsing: to which part of the face each pixel belongs, beside what its label says."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from facetx.data.attribute_groups import plain
from facetx.data.base import Description, FaceDataset
from facetx.data.mask_classes import CELEBAMASK_HQ, LAPA
from facetx.data.sample import Sides
from facetx.errors import ConfigError, DataError, some
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.prediction import predictions
from facetx.evaluators.reading import share_of
from facetx.evaluators.terms import Terms
from facetx.metrics import parsing as metrics
from facetx.metrics.parsing import BACKGROUND, Floats, Mask
from facetx.processes import total
from facetx.tables import Table
from facetx.tasks import Task

DEFINITIONS = {
    "frame": "all numbers are of pixels at the size of each mask itself: logits are resized to it bilinearly, then the "
    "highest one counts; pixels without a label count for nothing",
    "f1, iou": "of a class, 2 both / (labeled + said), and both / (labeled or said), of pixels summed over the set",
    "mean_f1": "mean of f1 over the classes, without the background, that have a labeled pixel",
    "mean_iou": "mean of iou over the classes, the background among them, that have a labeled pixel",
    "pixel_accuracy": "share of the labeled pixels that are said rightly",
    "mean_boundary_f1": "as mean_f1, of the harmonic mean of the shares of the said and of the labeled boundary that "
    "have the other within the tolerance, which is a share of the mask's diagonal",
    "image_f1": "of one image, the mean of f1 over the classes that are labeled or said there, without the background",
    "intervals": "95 %, over 1000 draws of the images with replacement",
    "flip": "the logits of an image and of its mirror are averaged",
}
PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "LaPa": {"FaRL-B": (93.88, 93.81), "SegFace": (93.03, None), "DML-CSR": (92.38, None)},
    "CelebAMask-HQ": {"FaRL-B": (89.56, 88.74), "SegFace": (89.22, None), "DML-CSR": (86.1, None)},
}
"""Mean F1 on the official test splits in percent: the figure that is quoted, and that of the last epoch.

FaRL's of arXiv 2112.03109 and its logs, SegFace's of arXiv 2412.08647; DML-CSR's (arXiv 2203.14448) as others list it.
"""
BEST_EPOCH = "FaRL-B's quoted figure is of the epoch that is best on the test split itself"
NUMBERS = ("mean_f1", "mean_iou", "pixel_accuracy", "mean_boundary_f1")
WORST = 10
SHOWN = 8
PIXELS = 2**22
"""Of the network's input, in one pass at most: its logits take as many numbers a class."""


@dataclass(frozen=True, eq=False)
class ParsingResult(Result):
    """What came out of one evaluation: N images, M classes.

    Attributes:
        name: Of the evaluator.
        classes: (M,) names, in the data's order; the first is the background.
        colors: (M,) red, green and blue, 0 to 255.
        confusion: (M, M) pixels of the whole set, a row a labeled class.
        counts: (N, 7, M) pixels of each image, see ``facetx.metrics.parsing.KINDS``.
        labels: SHA-256 of the masks, in their order.
        said: Item -> what the model says (H, W), of the worst images and some others.
        data: The data set's name.
        notes: What a reader of the numbers has to know.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    confusion: NDArray[np.int64]
    counts: NDArray[np.int32]
    labels: str
    said: dict[int, Mask] = field(default_factory=dict)
    data: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def sums(self) -> NDArray[np.int64]:
        """(7, M) of the whole set."""
        found: NDArray[np.int64] = self.counts.sum(axis=0, dtype=np.int64)
        return found

    @cached_property
    def rates(self) -> dict[str, Floats]:
        """ "f1", "iou" and "boundary_f1" (M,) in 0..1, NaN where a class has no label."""
        s = self.sums
        return {"f1": metrics.f1(s), "iou": metrics.iou(s), "boundary_f1": metrics.boundary_f1(s)}

    @cached_property
    def image_f1(self) -> Floats:
        """(N,) of each image, NaN where nothing but background is labeled and said."""
        return metrics.image_f1(self.counts)

    @cached_property
    def intervals(self) -> dict[str, Floats]:
        """95 %: (2,) of each of ``NUMBERS``, and (2, M) of "f1"."""
        drawn = metrics.resampled(self.counts)
        found = {name: metrics.intervals(values) for name, values in metrics.numbers(drawn).items()}
        return {**found, "f1": metrics.intervals(metrics.f1(drawn))}

    def summary(self) -> dict[str, float]:
        """See ``DEFINITIONS``; without what is not defined on these images."""
        return {n: float(v) for n, v in metrics.numbers(self.sums).items() if np.isfinite(v)}

    def worst(self, count: int = WORST) -> list[int]:
        """The items of the lowest F1, the lowest first, of those whose answer is kept."""
        kept = [item for item in self.said if np.isfinite(self.image_f1[item])]
        return sorted(kept, key=lambda item: (float(self.image_f1[item]), item))[:count]

    def shown(self, count: int = SHOWN) -> list[int]:
        """Items in even steps over the set."""
        return [item for item in _steps(len(self.counts), count) if item in self.said]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        labeled = self.sums[metrics.KINDS.index("labeled")]
        images = (self.counts[:, metrics.KINDS.index("labeled")] > 0).sum(axis=0)
        interval = self.intervals["f1"]
        return {
            "name": self.name,
            "data": self.data,
            "summary": self.summary(),
            "images": len(self.counts),
            "intervals": {name: _plain(self.intervals[name]) for name in NUMBERS},
            "classes": {
                name: {
                    **{rate: _plain(values[i]) for rate, values in self.rates.items()},
                    "f1_interval": _plain(interval[:, i]),
                    "images": int(images[i]),
                    "pixels": int(labeled[i]),
                    "color": list(self.colors[i]),
                }
                for i, name in enumerate(self.classes)
            },
            "confusion": self.confusion.tolist(),
            "worst": {str(item): float(self.image_f1[item]) for item in self.worst()},
            "labels": self.labels,
            "definitions": DEFINITIONS,
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """The numbers in percent, with their intervals."""
        rows = [
            (number_words(name), _percent(value), " to ".join(map(_percent, self.intervals[name])))
            for name, value in self.summary().items()
        ]
        return Table((f"{self.name}, %", f"{len(self.counts)} images", "95 % interval"), rows)

    def tables(self) -> list[Table]:
        """The means, each class, what is mistaken for what, and published figures where the data is such a set."""
        kind = published_set(self.classes, self.data)
        return [self.table(), self.each(), self.mistaken(), *([self.beside(kind)] if kind else [])]

    def each(self) -> Table:
        """A row a class, in percent."""
        labeled = self.counts[:, metrics.KINDS.index("labeled")]
        share = labeled.sum(axis=0) / max(int(labeled.sum()), 1)
        rows = []
        for i, name in enumerate(self.classes):
            rates = [_percent(values[i]) for values in self.rates.values()]
            low, high = map(_percent, self.intervals["f1"][:, i])
            cells = (str(int((labeled[:, i] > 0).sum())), f"{100 * share[i]:.2f}", rates[0], f"{low} to {high}")
            rows.append((name, *cells, *rates[1:]))
        return Table(("class, %", "images", "of the pixels", "F1", "95 % interval", "IoU", "boundary F1"), rows)

    def mistaken(self, count: int = 10) -> Table:
        """The classes that are most often taken for another, by the share of their own pixels."""
        wrong = self.confusion * (1 - np.eye(len(self.classes), dtype=np.int64))
        share = wrong / np.maximum(self.confusion.sum(axis=1, keepdims=True), 1)
        order = np.argsort(-share, axis=None, kind="stable")[:count]
        places = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, share.shape)) if share[i, j] > 0]
        rows = [(self.classes[i], self.classes[j], f"{100 * share[i, j]:.2f}") for i, j in places]
        return Table(("labeled", "said", "of its pixels, %"), rows, "Most often mistaken")

    def beside(self, kind: str) -> Table:
        """This result beside published ones of the data set ``kind``."""
        own = (self.name, _percent(self.summary().get("mean_f1", np.nan)), "-")
        rows = [(who, f"{quoted:g}", f"{last:g}" if last else "not stated")
                for who, (quoted, last) in PUBLISHED[kind].items()]  # fmt: skip
        title = f"Published mean F1 on {kind}'s official test split, comparable on that split alone; {BEST_EPOCH}"
        return Table(("model, %", "mean F1", "of its last epoch"), [own, *rows], title)


class ParsingEvaluator(Evaluator):
    """Says to which part of the face each pixel belongs, and compares that with the masks, at the masks' own size.

    Images of any size are resized to the model's square for it, as its contract says.

    Args:
        dataset: Images with masks of the model's classes, in any order; people who are trained on may be among them,
            and images not.
        mirrors: Average the logits of an image and of its mirror; published figures are most often of the image alone.
        tolerance: How far a boundary may be off, as a share of the mask's diagonal, in 0..1: 0.003 are 2.2 pixels of a
            mask of 512x512.
        name: Prefix of its numbers in logs.

    Raises ``ConfigError`` without a data set, or with one that has no masks or no images.
    """

    dataset: FaceDataset
    closed_set = True
    own_size = True
    fields = frozenset({"image", "mask"})

    def __init__(
        self,
        dataset: FaceDataset | None,
        mirrors: bool = False,
        tolerance: float = 0.003,
        name: str = "parsing",
    ):
        if dataset is None or not dataset.mask_classes:
            what = "has no data to ask by" if dataset is None else f"{dataset.name} has no masks"
            raise ConfigError(f"{what}: give data: {{name: ..., args: {{...}}}} of a data set with masks")
        if not len(dataset):
            raise ConfigError(f"{dataset.name} has no images; name another part of it")
        if not 0 <= tolerance < 1:
            raise ConfigError(f"args.tolerance must be a share of the diagonal, 0 or more and below 1, got {tolerance}")
        super().__init__(name, dataset)
        self.flip, self.tolerance = mirrors, tolerance

    def check(self, model: Model) -> tuple[Task, list[int]]:
        """The model, and the place in its output of each of the data's classes.

        Raises ``DataError`` for a model that does not parse, or has other classes than the data.
        """
        if not isinstance(model, Task) or not model.mask_classes:
            raise DataError(f"{self.name}: this model predicts no masks; take one that was trained to parse")
        return model, same_classes(model.mask_classes, self.dataset)

    def result(self, model: Model, how: How = HERE) -> ParsingResult:
        """The answer of a model that parses.

        Raises ``DataError`` as ``check`` does, and for a mask with a class that is not in the list.
        """
        model, order = self.check(model)
        theirs, names = model.mask_classes, self.dataset.mask_classes
        sides = torch.from_numpy(Sides.of(Description(0, (), theirs)).mask[: len(theirs)].astype(np.int64))
        how = replace(how, batch_size=max(1, min(how.batch_size, PIXELS // model.backbone.contract.size**2)))
        images = len(self.dataset)
        matrix = np.zeros((len(names), len(names)), np.int64)
        counts = np.zeros((images, len(metrics.KINDS), len(names)), np.int32)
        hashes, shapes = np.zeros((images, hashlib.sha256().digest_size), np.uint8), np.zeros((images, 2), np.int64)
        scores, kept = np.zeros(images), Kept(images)
        places, elsewhere = share_of(images, how.batch_size)
        again = np.zeros(images, bool)  # whether the next answer about an item is for the others' sake alone
        again[elsewhere] = True
        for items, batch, views in predictions(
            model,
            self.dataset,
            how,
            indices=places.tolist(),
            fields=frozenset({"mask"}),
            flip=self.flip,
            resize=True,
        ):
            logits = views[0]["mask"].float()
            if self.flip:
                logits = (logits + views[1]["mask"][:, sides].flip(-1).float()) / 2
            logits = logits[:, order]  # (B, M, S, S) in the data's order
            sizes = batch["mask_size"].tolist()
            for item, one, padded, (height, width) in zip(items, logits, batch["mask"].cpu().numpy(), sizes):
                if again[item]:
                    continue
                label = padded[:height, :width]
                said = _answer(one, height, width)
                tolerance = self.tolerance * float(np.hypot(height, width))
                try:
                    found, counts[item] = metrics.count(label, said, len(names), tolerance)
                except ValueError as error:
                    raise DataError(f"{self.dataset.describe(item)}: {error}: {some(names)}") from None
                matrix += found
                shapes[item] = height, width
                hashes[item] = np.frombuffer(
                    hashlib.sha256(f"{height} {width} ".encode() + label.tobytes()).digest(), np.uint8
                )
                scores[item] = metrics.image_f1(counts[item])
                kept.offer(item, float(scores[item]), said)
        matrix, counts, hashes, shapes, scores = (
            total(torch.from_numpy(part)).numpy() for part in (matrix, counts, hashes, shapes, scores)
        )
        colors, labels = self.dataset.description().mask_colors, hashlib.sha256(hashes.tobytes()).hexdigest()
        shown = kept.of_all(shapes, scores.tolist())
        result = ParsingResult(self.name, names, colors, matrix, counts, labels, shown, self.dataset.name)
        return replace(result, notes=tuple(_notes(result)))

    def terms(self) -> Terms:
        """For the receipt. The masks' own hash is in the result."""
        names = "\n".join(self.dataset.mask_classes).encode()
        protocol: list[tuple[ArrayLike, str]] = [(np.frombuffer(names, np.uint8), "|u1"), ([self.tolerance], "<f8")]
        return Terms(np.arange(len(self.dataset)), protocol, self.flip, DEFINITIONS)


class Kept:
    """The answers that pictures show: of ``WORST`` images with the lowest F1, and of ``SHOWN`` in even steps."""

    def __init__(self, images: int):
        self._steps = set(_steps(images, SHOWN))
        self._even: dict[int, Mask] = {}
        self._worst: list[tuple[float, int, Mask]] = []  # a heap, the best of them first

    def offer(self, item: int, score: float, said: Mask) -> None:
        if item in self._steps:
            self._even[item] = said
        if np.isfinite(score):
            push = heapq.heappush if len(self._worst) < WORST else heapq.heappushpop
            push(self._worst, (-score, -item, said))

    def of_all(self, shapes: NDArray[np.int64], scores: Sequence[float]) -> dict[int, Mask]:
        """Item -> its answer, of all processes' items.

        Args:
            shapes: (N, 2) of the masks.
            scores: (N,) as they were offered.
        """
        worst = heapq.nsmallest(WORST, np.flatnonzero(np.isfinite(scores)).tolist(), key=lambda i: (scores[i], i))
        here = {**{-item: said for _, item, said in self._worst}, **self._even}
        items = sorted({*worst, *self._steps})
        answers = [here.get(item, np.zeros(tuple(shapes[item]), np.uint8)) for item in items]
        together = total(torch.from_numpy(np.concatenate([answer.ravel() for answer in answers])))
        parts = together.split([answer.size for answer in answers])
        return {item: part.numpy().reshape(tuple(shapes[item])) for item, part in zip(items, parts)}


def number_words(number: str) -> str:
    """
    >>> number_words("mean_boundary_f1")
    'mean boundary F1'
    """
    return number.replace("_", " ").replace("f1", "F1").replace("iou", "IoU")


def _steps(images: int, count: int) -> list[int]:
    return sorted(set(np.linspace(0, images - 1, min(count, images)).astype(int).tolist()))


def _answer(logits: Tensor, height: int, width: int) -> Mask:
    """Logits (M, S, S) -> the class of each pixel (height, width)."""
    full = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)
    highest = full[0].max(dim=0).indices  # as argmax, which takes three times as long on a CPU
    answer: Mask = highest.to(torch.uint8).cpu().numpy()
    return answer


def same_classes(theirs: Sequence[str], dataset: FaceDataset) -> list[int]:
    """(M,) the place in the model's output of each of the data's classes.

    Raises ``DataError`` that names both lists where they are not the same classes; their order may differ.
    """
    if tuple(theirs) == tuple(dataset.mask_classes):
        return list(range(len(theirs)))
    places, ours = {plain(name): i for i, name in enumerate(theirs)}, list(map(plain, dataset.mask_classes))
    if sorted(places) != sorted(ours):
        raise DataError(
            f"{dataset.name}: its masks have other classes than the model. The data has {len(ours)}: "
            f"{', '.join(dataset.mask_classes)}. The model has {len(theirs)}: {', '.join(theirs)}. Only here: "
            f"{_names(set(ours) - set(places))}; only there: {_names(set(places) - set(ours))}. Take data with the "
            "model's classes, or a model of the data's"
        )
    return [places[name] for name in ours]


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _notes(result: ParsingResult) -> list[str]:
    """What is not measured, said. Raises ``DataError`` where nothing is."""
    labeled, said = (result.sums[metrics.KINDS.index(kind)] for kind in ("labeled", "said"))
    if not labeled.any():
        raise DataError(f"{result.name}: {result.data} has no pixel with a label")
    absent = [i for i in range(len(labeled)) if not labeled[i]]
    notes = []
    if absent:
        words = [f"{result.classes[i]} (said of {said[i]} pixels)" if said[i] else result.classes[i] for i in absent]
        notes.append(f"no pixel is labeled so, so they are not in the means: {', '.join(words)}")
    if not labeled[BACKGROUND + 1 :].any():
        notes.append(f"all labeled pixels are {result.classes[BACKGROUND]}, so there is no mean F1")
    return notes


def published_set(classes: Sequence[str], data: str) -> str | None:
    """Which of ``PUBLISHED`` a data set is, by its classes and its name."""
    for kind, names in (("LaPa", LAPA), ("CelebAMask-HQ", CELEBAMASK_HQ)):
        if sorted(map(plain, classes)) == sorted(map(plain, names)) and plain(kind)[:5] in plain(data):
            return kind
    return None


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if np.isfinite(share) else "-"


def _plain(values: Any) -> Any:
    """For JSON: None in place of NaN."""
    if np.ndim(values):
        return [_plain(value) for value in values]
    return float(values) if np.isfinite(values) else None
