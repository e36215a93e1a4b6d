"""Results by group of people, from any file that labels images: the four of RFW, or attributes.

The file is CSV: the header ``image,<attribute>,...``, then a row an image or a person. An image is spoken of by its
path below the image folder (``Name/Name_0001.jpg``), that path without suffix, its folder (``Name``, for all images of
a person), or in a ``.bin`` by its number from 0 on. An empty field is no label.
"""

import csv
from pathlib import Path

from facetx.data.base import FaceDataset
from facetx.errors import DataError
from facetx.evaluators.verification import PairVerification, VerificationResult
from facetx.files import read_file
from facetx.metrics.groups import GroupRates, group_rates
from facetx.tables import Table

Labels = dict[str, dict[str, str]]


def read_groups(path: str | Path) -> Labels:
    """Attribute -> image or person -> group. Raises ``DataError`` with the line for a file of another form."""
    path = Path(path)
    try:
        rows = list(csv.reader(read_file(path).decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read the groups ({error})") from None
    if not rows or len(rows[0]) < 2 or rows[0][0].strip() != "image":
        raise DataError(f"{path}:1: expected the header line image,<attribute>,... such as image,race")
    attributes = [name.strip() for name in rows[0][1:]]
    labels: Labels = {name: {} for name in attributes}
    for n, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(rows[0]):
            raise DataError(f"{path}:{n}: expected {len(rows[0])} fields, found {len(row)}: {','.join(row)[:80]!r}")
        for name, value in zip(attributes, row[1:]):
            if value.strip():
                labels[name][row[0].strip()] = value.strip()
    return labels


def results_by_group(
    evaluator: PairVerification, result: VerificationResult, labels: Labels
) -> dict[str, list[GroupRates]]:
    """The rates of each group of each attribute, at one threshold for all, the result's.

    A pair belongs to a group where both of its images do; pairs across groups, or without a label, are left out.
    Raises ``DataError`` where that is every pair.
    """
    found = {}
    for attribute, of in labels.items():
        label = {i: _label(evaluator.dataset, i, of) for i in {*evaluator.first.tolist(), *evaluator.second.tolist()}}
        ends = zip(evaluator.first.tolist(), evaluator.second.tolist())
        groups = [label[a] if label[a] == label[b] else None for a, b in ends]
        if not any(groups):
            raise DataError(
                f"{evaluator.name}: no pair has both images in one group of {attribute!r}; the labels speak of images "
                f"such as {next(iter(of), 'none')!r}, the data of {evaluator.dataset.key(0)!r}"
            )
        found[attribute] = group_rates(result.scores, result.same, groups, result.threshold)
    return found


def groups_table(attribute: str, groups: list[GroupRates]) -> Table:
    """The groups, from the lowest accuracy to the highest."""
    rows = [
        (
            g.name,
            f"{g.same}",
            f"{g.different}",
            _percent(g.accuracy, g.accuracy_interval),
            _percent(g.tar, g.tar_interval),
            _percent(g.far, g.far_interval),
        )
        for g in sorted(groups, key=lambda g: g.accuracy)
    ]
    return Table((attribute, "same", "different", "accuracy (95 %)", "TAR (95 %)", "FAR (95 %)"), rows)


def _label(dataset: FaceDataset, index: int, of: dict[str, str]) -> str | None:
    key = dataset.key(index)
    folder, _, name = key.rpartition("/")
    return of.get(key) or of.get(f"{folder}/{name.rpartition('.')[0]}") or of.get(folder)


def _percent(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{100 * value:.2f} % ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
