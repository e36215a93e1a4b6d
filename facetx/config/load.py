"""Reads settings, and says everything that is wrong with them: first with the keys, then with the parts."""

import json
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from facetx.config import yaml_file
from facetx.config.overrides import apply_overrides, dotted, value_at
from facetx.config.parts import From, args_model, check_args
from facetx.config.settings import Settings
from facetx.config.yaml_file import Path_
from facetx.errors import ConfigError, UnknownNameError, did_you_mean
from facetx.plugins import load_installed, load_plugins


def load_settings(path: str | Path, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Settings:
    """The settings in a YAML file, with ``key.subkey=value`` overrides (values are YAML; list items by number).

    ``plugins`` are modules that the settings get to name beside their own.

    Raises ``ConfigError`` that lists every problem, as ``check_settings`` finds them: file, line, key, what was got,
    what is allowed.
    """
    raw, lines = yaml_file.read(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: holds {_show(raw)}; settings are keys and values, such as 'name: my_run'")
    places = apply_overrides(raw, overrides, {p: f"{path}:{line}" for p, line in lines.items()})
    if "variants" in raw:
        raise ConfigError(
            f"{places['variants',]}: variants: these are settings of several runs; train them by: "
            f"python scripts/compare.py {path}"
        )
    add_plugins(raw, plugins)
    return check_settings(raw, str(path), places)


def add_plugins(raw: dict[str, Any], plugins: Sequence[str]) -> None:
    """Has ``raw`` name these modules beside its own."""
    own = raw.get("plugins", [])
    if plugins and isinstance(own, list):
        raw["plugins"] = [*own, *(name for name in plugins if name not in own)]


def check_settings(raw: dict[str, Any], name: str = "settings", places: dict[Path_, str] | None = None) -> Settings:
    """Plain values as settings, whose plugins are imported. ``places`` says where each path came from, for messages.

    Keys and their values are checked first, and told of alone; then the names of parts, and their arguments.
    """
    places = places or {}
    problems: dict[Path_, str] = {}
    expanded = _expand(Settings, raw)
    try:
        settings = Settings.model_validate_json(json.dumps(expanded, default=str))
    except ValidationError as error:
        for e in error.errors():
            problems[_as_written(e["loc"], raw)] = _explain(e, _known_keys(Settings, e["loc"]))
        # Before what takes its time: plugins, and the tables of parts, import PyTorch.
        _tell(problems, places, name, "names and arguments of parts are looked at when these keys are mended")
        raise
    load_installed()
    load_plugins(settings.plugins, f"{_place(('plugins',), places, name)}: plugins")
    for path, part, source in _parts(Settings, expanded):
        for where, text in _check_part(path, part, source).items():
            problems.setdefault(_as_written(where, raw), text)
    _tell(problems, places, name)
    return settings


def _tell(problems: dict[Path_, str], places: dict[Path_, str], name: str, more: str = "") -> None:
    if problems:
        listed = sorted(f"{_place(path, places, name)}: {dotted(path)}: {text}" for path, text in problems.items())
        head = f"{len(listed)} problem{'s' * (len(listed) > 1)} in the settings{more and f'; {more}'}"
        raise ConfigError("\n".join([head, *listed]))


def to_yaml(settings: Settings) -> str:
    """Settings as YAML that ``load_settings`` takes, every default written out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(old: Any, new: Any, path: Path_ = ()) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two trees of plain values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from differences(old.get(key), new.get(key), (*path, key))
    elif old != new:
        yield dotted(path), old, new


class _Slot(typing.NamedTuple):
    """Where a part stands in a model of settings.

    Attributes:
        part: Its model.
        source: Its table.
        many: Whether there is a list of them.
    """

    part: type[BaseModel]
    source: From
    many: bool


def _slot(field: FieldInfo) -> _Slot | None:
    """The part that a field is, may be, or has many of; None of other fields."""
    for source in (m for m in field.metadata if isinstance(m, From)):
        return _Slot(typing.cast(type[BaseModel], field.annotation), source, many=False)
    for argument in typing.get_args(field.annotation):
        if typing.get_origin(argument) is typing.Annotated:
            for source in (m for m in argument.__metadata__ if isinstance(m, From)):
                return _Slot(argument.__origin__, source, many=typing.get_origin(field.annotation) is tuple)
    return None


def _expand(model: type[BaseModel], raw: Any) -> Any:
    """``raw`` with each part in its long form: ``flip`` is ``{name: flip}``, and one head is a list of one."""
    if not isinstance(raw, dict):
        return raw
    out = dict(raw)
    for key, slot in ((key, _slot(field)) for key, field in model.model_fields.items() if key in raw):
        if slot is not None and slot.many:
            items = raw[key] if isinstance(raw[key], list) else [raw[key]]
            out[key] = [_long(slot.part, item) for item in items]
        elif slot is not None:
            out[key] = _long(slot.part, raw[key])
    return out


def _long(part: type[BaseModel], value: Any) -> Any:
    value = {"name": value} if isinstance(value, str) else value
    default = part.model_fields["name"].default
    if isinstance(value, dict) and isinstance(default, str):
        value = {"name": default, **value}
    return _expand(part, value)


def _parts(model: type[BaseModel], raw: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any, From]]:
    """Every polymorphic part in expanded settings, with its table."""
    for key, field in model.model_fields.items():
        slot, value = _slot(field), raw.get(key)
        if slot is not None:
            there = list(enumerate(value or ())) if slot.many else []
            for at, part in [((*path, key, i), item) for i, item in there] or [((*path, key), value)]:
                yield at, part, slot.source
                if isinstance(part, dict):
                    yield from _parts(slot.part, part, at)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            yield from _parts(field.annotation, value, (*path, key))


def _check_part(path: Path_, part: Any, source: From) -> dict[Path_, str]:
    name, args = (part.get("name"), part.get("args", {})) if isinstance(part, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(args, dict):
        return {}  # the structure's own check says so
    try:
        builder = source.registry[name]
    except UnknownNameError as error:
        return {(*path, "name"): str(error)}
    problems = {(*path, "args", k): "is given by facetx itself; leave it out" for k in source.provided if k in args}
    try:
        check_args(builder, {k: v for k, v in args.items() if k not in source.provided}, source.provided)
    except ValidationError as error:
        known = list(args_model(builder, source.provided).model_fields)
        problems |= {(*path, "args", *e["loc"]): _explain(e, known) for e in error.errors()}
    return problems


def _as_written(path: Path_, raw: Any) -> Path_:
    """A path of pydantic's without the numbers of lists that YAML had as one item."""
    out: list[str | int] = []
    for key in path:
        if isinstance(key, int) and not isinstance(raw, list):
            continue
        out.append(key)
        raw = value_at(raw, (key,))
    return tuple(out)


def _known_keys(model: Any, path: Path_) -> list[str]:
    """The keys that stand beside the last one of ``path``."""
    for key in path[:-1]:
        if isinstance(key, str) and key in model.model_fields:
            model = next(_models(model.model_fields[key].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _explain(error: Any, known: Sequence[str]) -> str:
    """One of pydantic's errors in our words."""
    key = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"unknown key; {did_you_mean(key, known)}"
    if error["type"] == "missing":
        return "is required and not given"
    text = error["msg"].removeprefix("Value error, ")
    text = text[0].lower() + text[1:]
    return text if error["type"] == "value_error" else f"{text}, got {_show(error['input'])}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _place(path: Path_, places: dict[Path_, str], name: str) -> str:
    while path and path not in places:
        path = path[:-1]
    return places.get(path, name) if path else name
