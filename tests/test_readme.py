"""The code in README.md does what it says."""

import re
from pathlib import Path

import pytest
import torch

import facetx
from facetx.config.load import check_settings

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def my_vit():
    """README's own backbone, registered for the time of a test."""
    (code,) = re.findall(r"```python\n(# my_vit\.py\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": "my_vit"}
    exec(compile(code, "README.md", "exec"), names)
    yield names["my_vit"]
    del facetx.BACKBONES._table["my_vit"]


def test_the_backbone_of_ones_own_trains_and_loads(my_vit, small, tmp_path):
    model = {"name": "my_vit", "args": {"image_size": 32, "dim": 32}}
    settings = check_settings({**small, "model": model, "evaluators": [], "select": None})
    facetx.start_run(settings, tmp_path / "run")
    loaded = facetx.load_model(tmp_path / "run")
    assert loaded.backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 32)


def test_the_scripts_and_configs_that_it_names_are_there():
    text = README.read_text(encoding="utf-8")
    for path in set(re.findall(r"\b(?:scripts|configs|docs|notebooks|tests)/[\w/]+\.\w+", text)):
        assert (README.parent / path).exists(), path
    for line in re.findall(r"^python (scripts/\S+)", text, re.MULTILINE):
        assert (README.parent / line).exists(), line
