"""YAML as numbers mean it, with the line of every key.

PyYAML follows YAML 1.1: ``1e-3`` is a string to it, ``on`` and ``no`` are booleans, ``012`` is ten. Here numbers and
booleans follow YAML 1.2's core schema, and a key given twice is an error. Of YAML's types there are those of JSON.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from facetx.errors import ConfigError, DataError
from facetx.files import open_file

Path_ = tuple[str | int, ...]

MOST_CHARACTERS = 2**18
"""Of one file. The largest here has 3,000; PyYAML takes a kilobyte of memory for each value."""
MOST_VALUES = 10_000
"""Of one file. Aliases can name others again and again, so that a few lines have more values than a memory holds."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars and no duplicate keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # its own, not the base class's
    yaml_constructors = {  # noqa: RUF012  # likewise, without times, sets and the like
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.endswith((":str", ":seq", ":map"))
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is given twice, first in line {seen[key.value]}",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


def _scalar(what: str, pattern: str, make: Callable[[str], Any], first: list[str]) -> None:
    """Has ``_Loader`` take scalars of ``pattern`` for ``what``, and refuse others that are tagged so."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not re.fullmatch(pattern, text):
            raise yaml.MarkedYAMLError(problem=f"{text[:80]!r} is no {what}", problem_mark=node.start_mark)
        return make(text)

    tag = f"tag:yaml.org,2002:{what}"
    _Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), first)
    _Loader.add_constructor(tag, construct)


# What looks like an integer is one before it is a float: of two patterns that fit the first counts.
_scalar("null", r"~|null|Null|NULL|", lambda text: None, ["~", "n", "N", ""])
_scalar("bool", r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true", list("tTfF"))
_scalar(
    "int",
    r"[-+]?[0-9]{1,4000}|0x[0-9a-fA-F]{1,3000}",
    lambda text: int(text, 16 if "x" in text else 10),
    list("-+0123456789"),
)
_scalar(
    "float",
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    lambda text: float(re.sub(r"\.(?=[inIN])", "", text)),
    list("-+.0123456789"),
)


def parse(text: str, name: str) -> tuple[Any, dict[Path_, int]]:
    """YAML text as plain values, and the line (from 1) of every path in it.

    Raises ``ConfigError`` with ``name`` and the line where the text is no YAML.
    """
    loader = None
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{name}: has more than {MOST_CHARACTERS} characters; is it settings?")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Path_, int] = {}
        if node is None:
            return {}, lines
        for visited, (path, begin) in enumerate(_places(node, ()), start=1):
            if visited > MOST_VALUES:
                raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES} values", problem_mark=begin)
            lines[path] = begin.line + 1
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {error}") from error
    except RecursionError:
        raise ConfigError(
            f"{name}: lists and mappings lie in one another too deep, or a value is part of itself"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def read(path: str | Path) -> tuple[Any, dict[Path_, int]]:
    """``parse`` of a file. Raises ``ConfigError`` where there is none, or it is not text."""
    try:
        with open_file(path) as file:
            return parse(file.read(4 * MOST_CHARACTERS + 1).decode("utf-8"), str(path))  # a character has 1 to 4 bytes
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from error
    except DataError as error:
        near = (
            ""
            if Path(path).exists()
            else "; YAML files there: "
            + (", ".join(sorted(str(p) for p in Path(path).parent.glob("*.yaml"))) or "none in that folder")
        )
        raise ConfigError(f"{error}{near}") from None


def _places(node: yaml.Node, path: Path_) -> Iterator[tuple[Path_, yaml.Mark]]:
    """Every path, and where it begins: a value of a mapping at its key. What aliases name comes each time."""
    yield path, node.start_mark
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is a list or a mapping", problem_mark=key.start_mark)
            places = _places(value, (*path, key.value))
            yield next(places)[0], key.start_mark
            yield from places
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, (*path, index))
