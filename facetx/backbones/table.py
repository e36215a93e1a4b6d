"""The table of all backbones in docs/backbones.md: ``python -m facetx.backbones.table [FILE]`` writes it anew."""

import inspect
import re
import sys
from pathlib import Path

import torch

from facetx.backbones import BACKBONES
from facetx.errors import DataError
from facetx.nn.profile import profile
from facetx.tables import Table

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_HEAD = ("name", "parameters (M)", "GMACs", "without QK^T and AV", "input", "tokens", "embedding", "paper")


def markdown_table() -> str:
    """One row a backbone, at its own sizes, counted by ``facetx.nn.profile``, by name."""
    return Table(_HEAD, [_row(name) for name in BACKBONES]).markdown() + "\n"


def _row(name: str) -> tuple[str, ...]:
    with torch.device("meta"):
        model = BACKBONES.create(name)
    counts = profile(model)
    without = counts.macs - counts.attention_macs
    tokens = "" if counts.tokens is None else counts.tokens
    keypoints = " and 5 keypoints" if model.needs_keypoints else ""
    return (
        f"`{name}`",
        f"{counts.parameters / 1e6:.1f}",
        f"{counts.macs / 1e9:.2f}",
        f"{without / 1e9:.2f}",
        f"{model.contract.size}{keypoints}",
        f"{tokens}",
        f"{model.embedding_dim}",
        _paper(name),
    )


def _paper(name: str) -> str:
    """The first paper that the docstring of the family's file names."""
    found = re.search(r"arXiv\s+(\d{4}\.\d{5})", inspect.getmodule(BACKBONES[name]).__doc__ or "")
    return f"[{found[1]}](https://arxiv.org/abs/{found[1]})" if found else ""


def renewed(page: str, table: str) -> str:
    """The text of a page with what stands between its two marks replaced. Raises ``DataError`` if it lacks them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"the page has no place for the table of backbones; put the lines {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n{table}{END}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/backbones.md")
    file.write_text(renewed(file.read_text(encoding="utf-8"), markdown_table()), encoding="utf-8")
