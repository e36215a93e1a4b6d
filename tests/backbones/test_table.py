"""The documented table is the table of today."""

from pathlib import Path

import pytest

from facetx.backbones import BACKBONES
from facetx.backbones.table import markdown_table, renewed
from facetx.errors import DataError

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"


@pytest.fixture(scope="module")
def table():
    return markdown_table()


def test_the_table_in_the_docs_is_not_stale(table):
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page, table) == page, "run: python -m facetx.backbones.table"


def test_every_backbone_has_a_row_with_its_figures(table):
    rows = table.splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(BACKBONES)
    row = next(r for r in rows if "`vit_p8s8`" in r)
    cells = ["63.2", "13.21", "12.41", "112", "197", "512", "[2103.14803](https://arxiv.org/abs/2103.14803)"]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == cells


def test_a_page_without_a_place_for_it_is_refused():
    with pytest.raises(DataError, match="no place for the table"):
        renewed("# Backbones", "")
