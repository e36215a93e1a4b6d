"""Shared by all tests: the way to reference data that a user does not have."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """A file or folder of the reference material beside the project; the test is skipped where it is absent."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"needs ../shared/{path}, reference material that is not part of the project")
    return found


@pytest.fixture(autouse=True)
def _same_start():
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
