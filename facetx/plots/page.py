"""A result as one HTML page that holds everything it shows, to be sent and opened anywhere."""

import base64
import io
import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facetx.benchmarks.catalog import published
from facetx.benchmarks.groups import groups_table
from facetx.benchmarks.suite import Outcome, pairs_of_images, published_table, summary_table, tables
from facetx.data.base import FaceDataset
from facetx.data.mask_classes import class_words
from facetx.evaluators.attributes import AttributeResult
from facetx.evaluators.identification import IdentificationResult
from facetx.evaluators.parsing import ParsingResult
from facetx.evaluators.templates import TemplateResult
from facetx.evaluators.verification import VerificationResult, folds_table
from facetx.files import write_file
from facetx.plots import parsing
from facetx.plots.attributes import in_words, plot_calibration, plot_radar
from facetx.plots.figures import plot_ranks, plot_roc, plot_score_histogram, plot_templates
from facetx.tables import Table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f4f5f7; margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 20px; margin: 0 0 4px } h3 { font-size: 15px; margin: 24px 0 8px }
section { background: #fff; border: 1px solid #e2e4e8; border-radius: 8px; padding: 20px 24px; margin-top: 20px }
.quiet { color: #6a7078 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } .wide { overflow-x: auto; margin: 12px 0 }
caption { text-align: left; color: #6a7078; padding-bottom: 4px }
th, td { padding: 5px 14px; text-align: right; border-bottom: 1px solid #e8eaed; white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 } th { font-weight: 600; color: #6a7078 }
.warning { background: #fff6e5; border-left: 4px solid #E69F00; padding: 8px 12px; margin: 12px 0 }
.plot { width: 100%; max-width: 760px; display: block }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(212px, 1fr)); gap: 14px }
figure { margin: 0; font-size: 12px; min-width: 0 } figure div { display: flex; gap: 2px; margin-bottom: 4px }
figure img { width: 50%; min-width: 0; aspect-ratio: 1; border-radius: 3px }
figure img.whole { width: 100% }
.masks { grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)) } .masks img { width: 33.3%; aspect-ratio: auto }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px }
.legend svg { width: 14px; height: 14px; margin-right: 6px; vertical-align: -2px }
figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.wrong b { color: #D55E00 } .right b { color: #009E73 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0; font-size: 13px }
dt { color: #6a7078 } dd { margin: 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 12px }
.own tbody tr:first-child { font-weight: 600 }
summary { cursor: pointer; color: #6a7078; margin-top: 16px }
"""
HARDEST = 10
"""Pairs of each kind on the page."""


def write_results(
    stem: Path, model: str, facts: dict[str, Any], outcomes: Sequence[Outcome], missing: Sequence[str] = ()
) -> str:
    """Writes ``<stem>.md`` and ``<stem>.html``, and returns the same for a terminal. Arguments as in ``write_page``."""
    parts: list[Table | str] = [*tables(outcomes, model)]
    for outcome in outcomes:
        for attribute, groups in outcome.groups.items():
            labeled = sum(g.same + g.different for g in groups)
            parts.append(groups_table(f"{outcome.title}, {attribute}", groups))
            parts.append(f"{labeled} of {outcome.result.pairs} pairs have both images in one group")
    parts += [f"warning: {o.title}: {text}" for o in outcomes for text in o.warnings]
    parts += missing
    markdown = "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in parts)
    write_file(stem.with_suffix(".md"), f"# {model}\n\n{markdown}\n")
    write_page(stem.with_suffix(".html"), model, {**facts, "weights": outcomes[0].receipt.weights}, outcomes, missing)
    return "\n\n".join(map(str, parts))


def write_page(
    path: str | Path, model: str, facts: dict[str, Any], outcomes: Sequence[Outcome], missing: Iterable[str] = ()
) -> None:
    """Writes the page; images and plots stand in it as data: URIs.

    Args:
        path: The HTML file.
        model: Its name, for the heading and the tables.
        facts: About the model and the run, shown under the heading.
        outcomes: Of the benchmarks that were run.
        missing: What was not, and how to get it.
    """
    absent = "".join(f"<li>{escape(text)}</li>" for text in missing)
    pairs = pairs_of_images(outcomes)
    body = [
        f"<h1>{escape(model)}</h1>",
        _facts(facts),
        _results(pairs, model) if pairs else "",
        *(_pairs(o) if isinstance(o.result, VerificationResult) else _other(o, model) for o in outcomes),
        f"<section><h2>Not run</h2><ul>{absent}</ul></section>" if absent else "",
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(model)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
    write_file(path, page)


def hardest_pairs(outcome: Outcome, same: bool, count: int = HARDEST) -> list[int]:
    """The pairs of one kind that are most mistaken: same pairs of the lowest scores, different ones of the highest."""
    result = outcome.result
    of_kind = np.flatnonzero(result.same == same)
    order = np.argsort(result.scores[of_kind] if same else -result.scores[of_kind], kind="stable")
    return of_kind[order[:count]].tolist()


def _results(outcomes: Sequence[Outcome], model: str) -> str:
    beside = (
        "<section><h2>Beside published results</h2>"
        f"<div class=own>{_table(published_table(outcomes, model))}</div>"
        "<p class=quiet>Accuracies in percent from arXiv 2103.14803, by model and training set.</p></section>"
    )
    return (
        f"<section><h2>Results</h2>{_table(summary_table(outcomes))}"
        "<p class=quiet>In percent. Thresholds are chosen on the other folds; both errors are over folds.</p>"
        f"{_roc(outcomes)}</section>"
        f"{beside if any(published(outcome.name) for outcome in outcomes) else ''}"
    )


def _other(outcome: Outcome, model: str) -> str:
    """A benchmark on templates or identities: its table and its curve."""
    result = outcome.result
    plot = ""
    if isinstance(result, TemplateResult):
        plot = _plot(lambda file: plot_templates(result, file), f"Curve of {outcome.title}")
    elif isinstance(result, IdentificationResult):
        plot = _plot(lambda file: plot_ranks(result, file), f"Curve of {outcome.title}")
    elif isinstance(result, AttributeResult):
        plot = _attributes(outcome)
    elif isinstance(result, ParsingResult):
        plot = _parsing(outcome)
    beside = f"<div class=own>{_table(published_table([outcome], model))}</div>" if published(outcome.name) else ""
    return (
        f"<section><h2>{escape(outcome.title)}</h2><div class=quiet>{escape(outcome.asks)}</div>{_warnings(outcome)}"
        f"{''.join(map(_table, result.tables()))}{beside}{plot}"
        f"<details><summary>Receipt</summary>{_receipt(outcome)}</details></section>"
    )


def _attributes(outcome: Outcome) -> str:
    """The plots of attributes, and the pictures that are most wrong."""
    result, dataset = outcome.result, outcome.evaluator.dataset
    radar = _plot(lambda file: plot_radar({result.name: result}, file), "Accuracy of each attribute by region")
    curve = _plot(lambda file: plot_calibration(result, file), "How far probabilities can be trusted")
    worst = "".join(
        f'<figure class=wrong><img class=whole alt="" src="{_jpeg(dataset[item]["image"])}">'
        f'<figcaption title="{escape(dataset.key(item))}"><b>{escape(in_words(result, item, attribute))}</b>'
        f"<br>{escape(dataset.key(item))}</figcaption></figure>"
        for item, attribute in result.worst(2 * HARDEST)
    )
    return f"{radar}{curve}<h3>Said most surely, and labeled otherwise</h3><div class=pairs>{worst}</div>"


def _parsing(outcome: Outcome) -> str:
    """The classes as bars; the worst images, and some in even steps, each with its label and what the model says."""
    result, dataset = outcome.result, outcome.evaluator.dataset
    legend = "".join(
        f'<li><svg viewBox="0 0 1 1"><rect width="1" height="1" fill="rgb({red},{green},{blue})"/></svg>'
        f"{escape(class_words(name))}</li>"
        for name, (red, green, blue) in list(zip(result.classes, result.colors))[1:]
    )
    parts = [
        _plot(lambda file: parsing.plot_classes(result, file), "F1 of each class"),
        f"<ul class=legend>{legend}</ul>",
    ]
    for title, items in (("The lowest F1 of an image", result.worst()), ("In even steps over the set", result.shown())):
        figures = "".join(_masks(result, dataset, item) for item in items)
        parts.append(f"<h3>{title}: image, label, and what the model says</h3><div class='pairs masks'>{figures}</div>")
    return "".join(parts)


def _masks(result: ParsingResult, dataset: FaceDataset, item: int) -> str:
    images = "".join(f'<img alt="" src="{_jpeg(picture)}">' for picture in parsing.triple(result, dataset, item))
    words, name = parsing.in_words(result, item), escape(dataset.key(item))
    return f'<figure><div>{images}</div><figcaption title="{name}"><b>{words}</b> {name}</figcaption></figure>'


def _pairs(outcome: Outcome) -> str:
    result = outcome.result
    threshold = result.threshold
    plot = _plot(lambda file: plot_score_histogram(result, file), f"Score histogram of {outcome.title}")
    parts = [
        f"<h2>{escape(outcome.title)}: {_headline(result)}</h2>"
        f"<div class=quiet>{escape(outcome.asks)}; {result.pairs} pairs, {'with' if result.flip else 'without'} flip"
        f"</div>{_warnings(outcome)}{plot}",
        *(f"<h3>By {escape(a)}, all at the threshold {threshold:.3f}</h3>{_table(groups_table(a, g))}"
          for a, g in outcome.groups.items()),
    ]  # fmt: skip
    for same, title in ((True, "One person, and least alike"), (False, "Two people, and most alike")):
        pairs = "".join(_pair(outcome, i, threshold) for i in hardest_pairs(outcome, same))
        parts.append(f"<h3>{title}</h3><div class=pairs>{pairs}</div>")
    folds = "" if result.accuracy is None else _table(folds_table(result.accuracy))
    parts.append(f"<details><summary>Folds and receipt</summary>{folds}{_receipt(outcome)}</details>")
    return f"<section>{''.join(parts)}</section>"


def _headline(result: VerificationResult) -> str:
    return f"AUC {100 * result.auc:.2f} %" if result.accuracy is None else f"{100 * result.accuracy.mean:.2f} %"


def _pair(outcome: Outcome, pair: int, threshold: float) -> str:
    evaluator, score = outcome.evaluator, float(outcome.result.scores[pair])
    ends = int(evaluator.first[pair]), int(evaluator.second[pair])
    images = "".join(f'<img alt="" src="{_jpeg(evaluator.dataset[i]["image"])}">' for i in ends)
    names = " / ".join(Path(evaluator.dataset.key(i)).stem for i in ends)
    right = (score > threshold) == bool(outcome.result.same[pair])
    kind, sign = ("right", "✓") if right else ("wrong", "✗")
    caption = f'<figcaption title="{escape(names)}"><b>{sign} {score:.3f}</b> {escape(names)}</figcaption>'
    return f"<figure class={kind}><div>{images}</div>{caption}</figure>"


def _warnings(outcome: Outcome) -> str:
    return "".join(f"<div class=warning>{escape(text)}</div>" for text in outcome.warnings)


def _receipt(outcome: Outcome) -> str:
    receipt = outcome.receipt.as_dict()
    words = receipt.pop("definitions")
    return _facts({**receipt, **{f"definition of {name}": text for name, text in words.items()}})


def _facts(facts: dict[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(_words(value))}</dd>" for key, value in facts.items())
    return f"<dl>{rows}</dl>"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(table: Table) -> str:
    return f"<div class=wide>{table.html()}</div>"


def _roc(outcomes: Sequence[Outcome]) -> str:
    curves = {o.title: o.result for o in outcomes}
    return _plot(lambda file: plot_roc(curves, file), "ROC curves")


def _plot(draw: Any, words: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plot.png"
        draw(file)
        return f'<img class=plot alt="{escape(words)}" src="{_uri("png", file.read_bytes())}">'


def _jpeg(image: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=88)
    return _uri("jpeg", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
