import logging
import subprocess
import sys

import pytest

SHOW = """
import logging, sys, types
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
from facetx.logs import log_in_notebook
{before}
log_in_notebook()
log_in_notebook()
logging.getLogger("facetx").info("step 10, \x1b[31mloss 3")
"""


@pytest.mark.parametrize(("before", "lines"), [("", ["INFO: step 10, \\x1b[31mloss 3"]), ("logging.basicConfig()", [])])
def test_a_notebook_shows_the_log_once_unless_it_has_its_own(before, lines):
    said = subprocess.run(
        [sys.executable, "-c", SHOW.format(before=before)], capture_output=True, text=True, check=True
    ).stderr
    assert said.splitlines() == lines


def test_elsewhere_nothing_is_set(monkeypatch):
    from facetx.logs import log_in_notebook

    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    before = list(logging.getLogger().handlers)
    log_in_notebook()
    assert logging.getLogger().handlers == before
