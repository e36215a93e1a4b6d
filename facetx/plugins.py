"""Parts from outside: modules of one's own that register backbones, heads, data sets, evaluators, tasks and the like.

A module comes in by ``--import my_module`` of any script, by ``plugins: [my_module]`` in the settings of a run, or,
where it is installed, by the entry-point group ``facetx.plugins``. A run keeps the names of its modules, so that
whatever loads it later finds its parts. A name is all that a checkpoint brings; the code that is imported lies here.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from facetx.errors import ConfigError

GROUP = "facetx.plugins"


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
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"{where}: {name!r} is no name of a module; write it as Python's import does: my_module")
        top = name.partition(".")[0]
        if top not in sys.modules:
            spec = find_spec(top)
            if spec is None:
                raise ConfigError(
                    f"{where}: there is no module {top!r}; begin in the folder that holds it, or put that folder into "
                    "PYTHONPATH"
                )
            if outside is not None and spec.origin is not None and _within(spec.origin, outside):
                raise ConfigError(f"{where}: the module {name!r} lies in the folder of the run itself, and is not run")
        try:
            import_module(name)
        except Exception as error:  # whatever a module of someone's own raises
            raise ConfigError(f"{where}: the module {name!r} cannot be imported: {_words(error)}") from error


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
