"""Changes laid over settings: ``key=value`` of a command line, and what a variant says otherwise.

One rule holds for all: a part that gets another name gets the new part's defaults. Arguments that were written for the
former part are dropped, and named.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from facetx.config import yaml_file
from facetx.config.parts import Part
from facetx.config.settings import Settings
from facetx.config.yaml_file import Path_
from facetx.errors import ConfigError

log = logging.getLogger("facetx")


def apply_overrides(
    raw: dict[str, Any], overrides: Sequence[str], places: Mapping[Path_, str] | None = None
) -> dict[Path_, str]:
    """Sets what each ``key.subkey=value`` says in ``raw``; the place, for messages, of each path that is there now.

    Names of parts come first and arguments last, in whatever order they are given: arguments are for the part that will
    be there.

    Args:
        raw: Settings as plain values, which are changed.
        overrides: What is set.
        places: Where the paths of ``raw`` came from.

    Raises ``ConfigError`` for what is no override, and for a key that leads nowhere.
    """
    places = dict(places or {})
    changes = [(text, *_parse(text)) for text in overrides]
    changes.sort(key=lambda change: 2 if "args" in change[1] else not (change[1][-1] == "name" or _named(change[2])))
    for text, keys, value in changes:
        path = _set(raw, keys, value, text)
        note_place(places, path, f"command line ({text})", value, value_at(raw, path))
    return {path: place for path, place in places.items() if value_at(raw, path) is not GONE}


def args_of(texts: Sequence[str] | None) -> dict[str, Any]:
    """The arguments of a part that each ``key=value`` of a command line gives. Raises as ``apply_overrides`` does."""
    raw: dict[str, Any] = {"args": {}}
    apply_overrides(raw, [f"args.{text}" for text in texts or ()])
    args: dict[str, Any] = raw["args"]
    return args


GONE = object()
"""What stands at a path that leads nowhere."""


def value_at(raw: Any, path: Path_) -> Any:
    """The value that a path leads to; ``GONE`` where it leads nowhere."""
    for key in path:
        if isinstance(raw, dict):
            raw = raw.get(key, GONE)
        elif isinstance(raw, list) and isinstance(key, int):
            raw = raw[key] if key < len(raw) else GONE
        else:
            return GONE
    return raw


def note_place(places: dict[Path_, str], path: Path_, place: str, value: Any, now: Any) -> None:
    """Notes that ``place`` set ``path`` to ``value``. What stands below it came from there too, but for what was kept.

    Args:
        places: Path -> where it came from, which is changed.
        path: What was set.
        place: Where that is written.
        value: As it is written there.
        now: What stands at ``path`` since: a part that is only named anew keeps some of what it was.
    """
    written = value if isinstance(value, dict) else {"name"}
    kept = now.keys() - written if isinstance(now, dict) else ()
    depth = len(path)
    for below in [p for p in places if len(p) > depth and p[:depth] == path and p[depth] not in kept]:
        del places[below]
    places[path] = place


def _parse(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"command line: {text!r} is no override; write key.subkey=value, such as optim.lr=3e-4")
    return key.split("."), yaml_file.parse(value, f"command line: {text}")[0] if value.strip() else None


def _named(value: Any) -> bool:
    """Whether a value names a part: ``arcface``, or ``{name: arcface, ...}``."""
    return isinstance(value, str) or (isinstance(value, dict) and "name" in value)


def _set(raw: dict[str, Any], keys: Sequence[str], value: Any, text: str) -> Path_:
    at: Any = raw
    path: list[str | int] = []
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(at, list):
            if not key.isdigit() or int(key) >= len(at):
                raise ConfigError(
                    f"command line: {text}: {dotted(path)} is a list of {len(at)}; say which item by its number, "
                    f"0 to {len(at) - 1}"
                )
            slot: str | int = int(key)
        else:
            slot = key
            if not last:
                at.setdefault(key, {})
        if not last and isinstance(at[slot], str):
            at[slot] = {"name": at[slot]}
        path.append(slot)
        if not last and not isinstance(at[slot], dict | list):
            raise ConfigError(f"command line: {text}: {dotted(path)} is {at[slot]!r} and has no keys")
        if last:
            _put(at, slot, value, tuple(path))
        else:
            at = at[slot]
    return tuple(path)


def _put(at: Any, slot: str | int, value: Any, path: Path_) -> None:
    """``at[slot] = value``, where a part that is only named anew keeps what is not its arguments."""
    old = at.get(slot) if isinstance(at, dict) else at[slot]
    if slot == "name" and is_part(path[:-1]):
        rename(at, value, path[:-1])
    elif is_part(path) and isinstance(old, dict) and _named(value):
        value = {"name": value} if isinstance(value, str) else value
        rename(old, value["name"], path, value.get("args"))
        at[slot] = {**old, **value}
    else:
        at[slot] = value


def is_part(path: Path_) -> bool:
    """Whether what stands there has a name and arguments: sections do, but for the run itself, and arguments."""
    return len(path) > 0 and "args" not in path


def rename(part: dict[str, Any], name: Any, path: Path_, args: Any = None) -> None:
    """Gives a part another name, and says which arguments it drops, but for those that ``args`` give anew."""
    former = part.get("name", _default_name(path))
    if former != name:
        old = part.pop("args", None)
        dropped = {k: v for k, v in old.items() if k not in (args or {})} if isinstance(old, dict) else {}
        if dropped:
            log.warning(
                "%s: %s in place of %s, with its own defaults: %s dropped; to keep one, say it anew: %s.args.%s=...",
                *(dotted(path), name, former or "another", ", ".join(f"{k}={v}" for k, v in dropped.items())),
                *(dotted(path), next(iter(dropped))),
            )
    part["name"] = name


def _default_name(path: Path_) -> Any:
    """The name of a part that gives none: ``adamw`` of ``optim``."""
    model: type[BaseModel] = Settings
    for key in path:
        field = model.model_fields.get(str(key))
        if field is None:
            return None
        if isinstance(field.default, Part):
            return field.default.name
        if not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return None
        model = field.annotation
    return model.model_fields["name"].default if "name" in model.model_fields else None


def lay_over(base: Any, top: Any, path: Path_ = ()) -> Any:
    """``base`` with what ``top`` says otherwise: mappings key by key, lists and values whole. Neither is changed."""
    if isinstance(base, list) and isinstance(top, dict) and all(k.isdigit() and int(k) < len(base) for k in top):
        return [lay_over(item, top[str(i)], (*path, i)) if str(i) in top else item for i, item in enumerate(base)]
    if isinstance(base, str) and isinstance(top, dict):
        base = {"name": base}
    if isinstance(top, str) and isinstance(base, dict) and is_part(path):
        top = {"name": top}
    if not isinstance(base, dict) or not isinstance(top, dict):
        return top
    out = dict(base)
    if "name" in top and is_part(path):
        rename(out, top["name"], path, top.get("args"))
    for key, value in top.items():
        out[key] = lay_over(out[key], value, (*path, key)) if key in out else value
    return out


def dotted(path: Sequence[str | int]) -> str:
    """A path as one writes it: ``evaluators.0.args.root``."""
    return ".".join(str(key) for key in path)
