"""Modules of one's own: by name, from the settings, and never from a run's folder."""

import importlib
import sys

import pytest

import facetx
from facetx.backbones import BACKBONES
from facetx.config import check_settings
from facetx.errors import ConfigError
from facetx.plugins import import_given, load_installed, load_plugins

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


def test_nor_is_one_that_is_named_through_the_runs_folder(module, tmp_path):
    """Folders are packages: from where runs/ lies, ``runs.x.evil`` is a module."""
    module("evil", "raise SystemExit('it ran')", folder="mine")
    (tmp_path / "mine/inner").mkdir()
    (tmp_path / "mine/inner/__init__.py").write_text("raise SystemExit('it ran')")
    for name in ("mine.evil", "mine.inner", "mine.inner.more"):
        with pytest.raises(ConfigError, match=f"'{name}' lies in the folder of the run itself"):
            load_plugins([name], "run", outside=tmp_path / "mine")


def test_a_file_is_imported_from_where_it_lies_and_known_by_its_name(module, tmp_path):
    name = module("my_parts_d", folder="elsewhere")
    with pytest.raises(ConfigError, match="there is no module 'my_parts_d'; .*--import FOLDER/my_parts_d.py$"):
        load_plugins([name], "run", outside=tmp_path / "run")
    assert import_given([f"elsewhere/{name}.py"]) == [name]
    assert BACKBONES.create(name).embedding_dim == 16
    load_plugins([name], "run", outside=tmp_path / "run")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("not/there.py", "no such file"),
        ("my-parts.py", "that is no name of a module; give the file another name"),
        ("json.py", "another module is called 'json'"),
        ("sys.py", "another module is called 'sys'"),
    ],
)
def test_a_file_that_cannot_be_a_module_is_told(module, tmp_path, path, words):
    if "/" not in path:
        (tmp_path / path).write_text("raise SystemExit('it ran')")
    with pytest.raises(ConfigError, match=f"^--import: {path}: {words}"):
        import_given([path])


def test_installed_modules_name_themselves(module, tmp_path):
    name = module("my_parts_e", folder="site")
    info = tmp_path / "site/my_parts_e-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[facetx.plugins]\nmine = {name}\n")
    sys.path.append(str(tmp_path / "site"))
    load_installed.cache_clear()
    try:
        assert facetx.create_backbone(name).embedding_dim == 16
        assert name in facetx.list_backbones("my_*")
        (tmp_path / f"site/{name}.py").write_text("1 / 0")
        sys.modules.pop(name)
        importlib.invalidate_caches()
        load_installed.cache_clear()
        with pytest.raises(ConfigError, match=r"the installed plugin 'mine' \(my_parts_e\) cannot be imported: Zero"):
            facetx.list_heads()
    finally:
        load_installed.cache_clear()


def test_a_part_that_is_something_else_is_told_by_its_class(module, small):
    name = module("my_parts_c", CODE.format(name="my_parts_c").replace("return facetx", "return 3 or facetx"))
    load_plugins([name], "here")
    with pytest.raises(ConfigError, match="backbone my_parts_c: gives a int, which is no Backbone; make it a subclass"):
        BACKBONES.create(name)
