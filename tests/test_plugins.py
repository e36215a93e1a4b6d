"""Modules of one's own: by name, from the settings, and never from a run's folder."""

import sys

import pytest

from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.errors import ConfigError
from facetx.plugins import load_plugins

CODE = '''
import facetx

@facetx.BACKBONES.register("{name}")
def build(image_size: int = 32):
    """One of my own."""
    return facetx.create_backbone("vit_p8s8_tiny", image_size=image_size, dim=16, depth=1, heads=2, mlp_dim=32)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current folder; its parts and its name are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def write(name, code=None, folder="."):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text(CODE.format(name=name) if code is None else code)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)
        BACKBONES._table.pop(name, None)


def test_settings_bring_their_modules(module, small):
    name = module("my_parts_a")
    model = {"name": name, "args": {"image_size": 32}}
    with pytest.raises(ConfigError, match="no backbone is named 'my_parts_a'"):
        check_settings({**small, "model": model})
    settings = check_settings({**small, "model": model, "plugins": [name]})
    assert settings.plugins == (name,)
    assert BACKBONES.create(name).embedding_dim == 16


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("not_there_at_all", None, "there is no module 'not_there_at_all'; begin in the folder that holds it"),
        ("my/parts", None, "'my/parts' is no name of a module"),
        ("my_broken", "1 / 0", "the module 'my_broken' cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_imported_is_told(module, name, code, words):
    if code is not None:
        module(name, code)
    with pytest.raises(ConfigError, match=f"^--import: {words}"):
        load_plugins([name], "--import")


def test_a_module_within_a_run_is_not_run(module, tmp_path):
    name = module("my_parts_b", "raise SystemExit('it ran')", folder="run")
    sys.path.append(str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="'my_parts_b' lies in the folder of the run itself, and is not run"):
        load_plugins([name], "run", outside=tmp_path / "run")


def test_a_part_that_is_something_else_is_told_by_its_class(module, small):
    name = module("my_parts_c", CODE.format(name="my_parts_c").replace("return facetx", "return 3 or facetx"))
    load_plugins([name], "here")
    with pytest.raises(ConfigError, match="backbone my_parts_c gives a int, which is no Backbone; make it a subclass"):
        BACKBONES.create(name)
