"""A few kills by the driver, which takes more: ``python tests/reliability/driver.py --kills 200``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("driver.py")


@pytest.mark.skipif(sys.platform != "linux", reason="the driver looks for what is left by Linux's means")
@pytest.mark.parametrize(("only", "kills"), [("training", 8), ("preparation", 8)])
def test_what_is_killed_and_begun_again_ends_as_if_it_were_not(only, kills):
    command = [sys.executable, str(DRIVER), "--kills", str(kills), "--only", only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^{kills} kills in \d+ works, 0 differences", done.stdout, re.MULTILINE)
