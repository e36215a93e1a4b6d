"""One table in three forms: whatever its cells hold, the columns stay."""

from html.parser import HTMLParser

import pytest

from facetx.tables import Table

AWKWARD = Table(("name", "a | b"), [("x|y\\|z", "1\n2"), ("<b>", "<= 3 & 4")])


def test_text_is_aligned():
    assert Table(("of", "n"), [("a", "10"), ("bcd", "2")], "T").text().splitlines() == [
        "T",
        "of    n",
        "---  --",
        "a    10",
        "bcd   2",
    ]
    assert str(AWKWARD) == AWKWARD.text()
    assert len(AWKWARD.text().splitlines()) == 4


def test_no_cell_says_anything_to_a_terminal():
    table = Table(("\x1b[2J",), [("a\x1b]0;x\x07",)], "\x1b[H")
    for text in (table.text(), table.markdown()):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "x1b[2J" in text


def test_markdown_keeps_its_columns_whatever_stands_in_them():
    lines = AWKWARD.markdown().splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    for line in lines:  # what is left without the escaped characters has three bars: two columns
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert lines[2].startswith("| x\\|y\\\\\\|z ")
    assert "\\<b>" in lines[3]
    assert "<= 3 & 4" in lines[3]
    long = Table(("a", "b"), [("x" * 99, "1"), ("y", "2")]).markdown().splitlines()
    assert long[1:] == ["| -- | -: |", f"| {'x' * 99} |  1 |", "| y  |  2 |"]
    assert Table(("a",), [], "top").markdown().splitlines() == ["**top**", "", "| a  |", "| -- |"]
    mixed = Table(("a", "b", "c"), [("1,000", "-", "5.20 %"), ("-3", "-", "wide")])
    assert mixed._numbers == [True, False, False]


def test_html_gives_back_the_cells():
    cells = []

    class Cells(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag in ("table", "thead", "tbody", "tr", "th", "td", "caption")
            if tag in ("th", "td"):
                cells.append("")

        def handle_data(self, data):
            cells[-1] += data

    Cells().feed(AWKWARD.html())
    assert cells == [*AWKWARD.head, *AWKWARD.rows[0], *AWKWARD.rows[1]]
    assert "<caption>a &lt; b</caption>" in Table(("x",), [], "a < b").html()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 columns cannot take a row of 1"):
        Table(("a", "b"), [("c",)])
