"""IJB-B and IJB-C: 1:1 verification of templates, and 1:N search of probe templates in two galleries."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facetx.data.base import FaceDataset
from facetx.data.lists.ijb import read_media, read_points, read_subjects, read_template_pairs
from facetx.data.sets.ijb import IJBImages
from facetx.errors import DataError
from facetx.evaluators.base import HERE, Evaluator, How, Model, Result
from facetx.evaluators.embedding import embed_dataset
from facetx.evaluators.terms import Terms
from facetx.evaluators.verification import short, unsupported
from facetx.metrics.roc import TarAtFar, tar_at_far
from facetx.metrics.templates import TemplateSearch, pool_templates, search_templates, template_scores
from facetx.tables import Table

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
CURVE = tuple(10 ** (-6 + k / 8) for k in range(48))
"""FARs of the ROC's points: eight a decade, from 1e-6 on."""
Ints = NDArray[np.int64]

DEFINITIONS = {
    "template": "its images' embeddings are averaged within each medium, and the media's means are summed",
    "flags": "N: embeddings count by their length; D: by the detector's score; F: those of the mirrors are added",
    "similarity": "cosine of the templates; a pair is accepted where it is above the threshold",
    "tar@far": "at the lowest threshold whose FAR <= the target, not interpolated; 95 % Wilson interval",
    "rank": "share of the probes, of subjects in the gallery, whose subject is among the k closest; mean of galleries",
    "tpir@fpir": "share of these probes whose subject is closest and above the lowest threshold that at most that "
    "share of the probes of other subjects exceeds; mean of the galleries",
}


@dataclass(frozen=True)
class TemplateResult(Result):
    """What came out of one run.

    Attributes:
        name: Of the benchmark.
        flags: "N1D1F1" where the norms of the embeddings, the detector's scores and mirrors count, 0 where they do not.
        tars: TAR at each of ``FARS``.
        curve: TAR at each of ``CURVE``, to be drawn.
        search: Of the probes in the galleries, None where their lists are not there.
        images, templates, pairs: How many.
    """

    name: str
    flags: str
    tars: list[TarAtFar]
    curve: list[TarAtFar]
    search: TemplateSearch | None
    images: int
    templates: int
    pairs: int

    def summary(self) -> dict[str, float]:
        """The named numbers, in 0..1."""
        found = {f"tar@far={short(t.target)}": t.tar for t in self.tars}
        if self.search is not None:
            found |= {f"rank{k}": rate for k, rate in self.search.ranks.items()}
            found |= {f"tpir@fpir={fpir:g}": rate for fpir, rate in self.search.tpir().items()}
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "summary": self.summary(),
            "flags": self.flags,
            "tar_at_far": [vars(t) for t in self.tars],
            "open_set": None
            if self.search is None
            else [[asdict(p) for p in points] for points in self.search.open_set],
            "images": self.images,
            "templates": self.templates,
            "pairs": self.pairs,
            "definitions": DEFINITIONS,
        }

    def table(self) -> Table:
        """The summary in percent; a TAR at a FAR that the pairs do not support is marked."""
        head = (f"{self.name}, {self.flags}", f"{self.templates} templates of {self.images} images, {self.pairs} pairs")
        marks = {f"tar@far={short(t.target)}": unsupported(t) for t in self.tars}
        rows = [(name, f"{100 * value:.2f} %{marks.get(name, '')}") for name, value in self.summary().items()]
        return Table(head, rows)


class TemplateVerification(Evaluator):
    """The evaluator: embeds all images, pools them into templates, and compares these.

    Args:
        name: Prefix of its numbers in logs.
        dataset: N images.
        templates, media: (N,) template and medium of each.
        first, second, same: (P,) pairs of templates, and whether they show one person.
        detector_scores: (N,) weights of the images; None counts all alike.
        norm: Whether embeddings count by their length.
        flip: Sum the embeddings of an image and of its mirror.
        search: Templates and subjects of the probes, and of each gallery; None measures 1:1 only.
    """

    dataset: FaceDataset

    def __init__(
        self,
        name: str,
        dataset: FaceDataset,
        templates: Ints,
        media: Ints,
        pairs: tuple[Ints, Ints, NDArray[np.bool_]],
        detector_scores: NDArray[np.float32] | None = None,
        norm: bool = True,
        flip: bool = True,
        search: tuple[tuple[Ints, Ints], list[tuple[Ints, Ints]]] | None = None,
    ):
        super().__init__(name, dataset)
        self.templates, self.media, self.pairs = templates, media, pairs
        self.detector_scores, self.norm, self.flip, self.search = detector_scores, norm, flip, search

    def result(self, model: Model, how: How = HERE) -> TemplateResult:
        """All of the result.

        Raises ``DataError`` where a list names a template that no image belongs to, and as
        ``facetx.evaluators.embedding.embed_views`` does.
        """
        x = embed_dataset(model, self.dataset, how, flip=self.flip)  # (N, D)
        pooled = pool_templates(x, self.templates, self.media, self.detector_scores, self.norm)
        first, second, same = self.pairs
        found = None
        try:
            scores = template_scores(pooled, first, second)
            if self.search is not None:
                probes, *galleries = (
                    (pooled.features[pooled.of(ids)], subjects) for ids, subjects in (self.search[0], *self.search[1])
                )
                found = search_templates(probes, galleries)
            points = tar_at_far(scores, same, (*FARS, *CURVE))
        except ValueError as error:
            raise DataError(f"{self.name}: {error}") from error
        return TemplateResult(
            name=self.name,
            flags=f"{pooled.flags}F{int(self.flip)}",
            tars=points[: len(FARS)],
            curve=points[len(FARS) :],
            search=found,
            images=len(self.dataset),
            templates=len(pooled.ids),
            pairs=len(same),
        )

    def terms(self) -> Terms:
        """For the receipt."""
        first, second, same = self.pairs
        lists = [self.templates, self.media, first, second]
        if self.search is not None:
            lists += [part for templates in (self.search[0], *self.search[1]) for part in templates]
        weights = [] if self.detector_scores is None else [(self.detector_scores, "<f4")]
        return Terms(
            items=np.arange(len(self.dataset)),
            protocol=[*((a, "<i8") for a in lists), (same, "|b1"), *weights],
            flip=self.flip,
            definitions=DEFINITIONS,
            norm=f"N{int(self.norm)}D{int(self.detector_scores is not None)}",
        )


def ijb(
    root: str,
    which: Literal["ijbb", "ijbc"] = "ijbc",
    size: int = 112,
    norm: bool = True,
    detector: bool = True,
    flip: bool = True,
) -> TemplateVerification:
    """IJB-B or IJB-C from the folder in which they circulate: ``loose_crop/`` and ``meta/``.

    1:N is measured too where ``meta/`` has ``<which>_1N_probe_mixed.csv`` and the two ``<which>_1N_gallery_G*.csv``.

    Args:
        root: The folder.
        which: The benchmark.
        size: Pixels a side that the model takes.
        norm, detector, flip: Flags of the result, see ``TemplateVerification``.

    Raises ``DataError`` for lists that are missing or damaged, or do not speak of the same images.
    """
    meta = Path(root) / "meta"
    media = read_media(meta / f"{which}_face_tid_mid.txt")
    names, points, scores = read_points(meta / f"{which}_name_5pts_score.txt")
    if names != media.images:
        raise DataError(f"{meta}: {which}_face_tid_mid.txt and {which}_name_5pts_score.txt list different images")
    search = None
    probes = meta / f"{which}_1N_probe_mixed.csv"
    if probes.exists():
        search = read_subjects(probes), [read_subjects(p) for p in sorted(meta.glob(f"{which}_1N_gallery_G*.csv"))]
    return TemplateVerification(
        which,
        IJBImages(Path(root) / "loose_crop", names, points, size),
        media.templates,
        media.media,
        read_template_pairs(meta / f"{which}_template_pair_label.txt"),
        scores if detector else None,
        norm,
        flip,
        search,
    )
