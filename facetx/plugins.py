"""Parts from outside: modules of one's own that register backbones, heads, data sets, evaluators, tasks and the like.

A module comes in by ``--import my_module`` or ``--import parts/my_module.py`` of any script, by
``plugins: [my_module]`` in the settings of a run, or, where it is installed, by the entry-point group
``facetx.plugins``. A run keeps the names of its modules, so that whatever loads it later finds its parts. A name is all
that settings and checkpoints bring, never the path of a file: what is imported lies where Python looks for modules
here, or is named by whoever starts a script.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from facetx.errors import ConfigError

GROUP = "facetx.plugins"


def import_given(given: Iterable[str], where: str = "--import") -> list[str]:
    """Imports what a command line names: modules by their dotted names, and files by paths that end in ``.py``.

    A file's folder becomes a place of modules, so that processes that are started find it too. Returns the modules'
    names, by which settings know them. Raises ``ConfigError`` as ``load_plugins`` does, and for a file that is not
    there or is called as another module is.
    """
    names = []
    for text in given:
        names.append(_module_of(text, where) if text.endswith(".py") else text)
        load_plugins(names[-1:], where)
    return names


def _module_of(path: str, where: str) -> str:
    file = Path(path).resolve()
    if not file.is_file():
        raise ConfigError(f"{where}: {path}: no such file")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = _spec(file.stem) if file.stem.isidentifier() else None
    if spec is None or not spec.has_location or spec.origin is None or not file.samefile(spec.origin):
        why = f"another module is called {file.stem!r} ({spec.origin})" if spec else "that is no name of a module"
        raise ConfigError(f"{where}: {path}: {why}; give the file another name, such as my_parts.py")
    return file.stem


def load_plugins(names: Iterable[str], where: str, outside: str | Path | None = None) -> None:
    """Imports modules by their dotted names; the current folder counts as a place of modules.

    Args:
        names: Of the modules.
        where: Who names them, for messages.
        outside: A folder that no module may lie in: a run's, which may come from someone else.

    Raises ``ConfigError`` for a module that is not there, that lies in ``outside``, or that fails as it is imported.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            raise ConfigError(
                f"{where}: {name!r} is no name of a module; write it as Python's import does, my_module, and give the "
                "path of a file to --import"
            )
        for depth in range(1, len(parts) + 1):  # a package runs before what is in it
            _load(".".join(parts[:depth]), name, where, outside)


def _load(module: str, name: str, where: str, outside: str | Path | None) -> None:
    """Imports ``module``, which is ``name`` or a package that it lies in."""
    if module in sys.modules:
        return
    spec = _spec(module)
    if spec is None:
        raise ConfigError(
            f"{where}: there is no module {module!r}; begin in the folder that holds it, put that folder into "
            f"PYTHONPATH, or say where it is, --import FOLDER/{name.replace('.', '/')}.py"
        )
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location and spec.origin else ())]
    if outside is not None and any(_within(place, outside) for place in places):
        raise ConfigError(
            f"{where}: the module {name!r} lies in the folder of the run itself, and is not run; read it, and move it "
            "elsewhere if you trust it"
        )
    try:
        import_module(module)
    except Exception as error:  # whatever a module of someone's own raises
        raise ConfigError(f"{where}: the module {module!r} cannot be imported: {_words(error)}") from error


def _spec(module: str) -> ModuleSpec | None:
    try:
        return find_spec(module)
    except (ModuleNotFoundError, ValueError):  # what should hold it is no package; it is what Python was started with
        return None


@cache
def load_installed() -> None:
    """Imports the modules of installed packages that name themselves in the entry-point group ``facetx.plugins``."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # whatever a package of someone's own raises
            raise ConfigError(
                f"the installed plugin {point.name!r} ({point.value}) cannot be imported: {_words(error)}; mend or "
                "uninstall its package"
            ) from error


def _within(file: str, folder: str | Path) -> bool:
    return Path(file).resolve().is_relative_to(Path(folder).resolve())


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
