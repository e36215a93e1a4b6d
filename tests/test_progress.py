"""Progress: silence at first, then a bar on a terminal, or lines in a log."""

import io
import logging
import sys

import pytest

from facetx import progress as module
from facetx.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "facetx")
    return caplog


def work(steps=4):
    with progress(8, "embed faces") as advance:
        for _ in range(steps):
            advance(2)


def test_short_work_tells_nothing(monkeypatch, log):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    work()
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    work()
    assert (screen.getvalue(), file.getvalue(), log.text) == ("", "", "")


def test_long_work_tells_how_far_it_is(monkeypatch, log):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    work(2)
    assert "embed faces" in screen.getvalue()
    assert "/8" in screen.getvalue()
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(3)
    assert [r.getMessage().split(",")[0] for r in log.records] == ["embed faces: 2 of 8 images"]  # then one each period
    monkeypatch.setattr(module, "PERIOD", 0.0)
    work(4)
    assert [r.getMessage().split(",")[0] for r in log.records[1:]] == [
        f"embed faces: {n} of 8 images" for n in (2, 4, 6)
    ]


def test_names_are_shown_as_what_can_be_seen(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with progress(8, "faces \x1b[2J") as advance:
        advance(2)
    assert "faces \\x1b[2J" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
