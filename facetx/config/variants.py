"""One YAML for several runs: the settings of a run, and under ``variants:`` what each of the runs changes in them.

model: vit_tiny
optim: {lr: 1e-3}
variants:
  vit: {}                                              # as above
  cct: {model: cct_tiny}
  facerec: {model: facerec_tiny, optim.lr: 5e-4}       # a dotted key reaches into a section
  wide: {model: {args: {dim: 256}}}                    # and so does a mapping
"""

import copy
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from facetx.config import yaml_file
from facetx.config.load import add_plugins, check_settings, differences
from facetx.config.overrides import GONE, apply_overrides, lay_over, note_place, value_at
from facetx.config.settings import Settings
from facetx.config.yaml_file import Path_
from facetx.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
FIXED = ("seed", "device", "data.name", "data.args", "train", "evaluators", "select")
"""What variants may not change: else their results could not be compared."""


def load_variants(path: str | Path, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> dict[str, Settings]:
    """The settings of each variant in a YAML file, by its name; ``overrides`` and ``plugins`` as in ``load_settings``.

    A variant's mappings are laid over the settings key by key; lists and values replace. Where it names another part
    (``model: {name: ...}``, or ``model: vit``) the arguments of the former are gone. Overrides change what all
    variants start from; ``variants.<name>.optim.lr=...`` reaches into one.

    Raises ``ConfigError`` that lists every problem of every variant: file, line, key, what was got, what is allowed.
    """
    raw, lines = yaml_file.read(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("variants"), dict) or not raw["variants"]:
        raise ConfigError(f"{path}: needs the settings of a run, and 'variants:' with a name and its changes each")
    places = apply_overrides(raw, overrides, {p: f"{path}:{line}" for p, line in lines.items()})
    add_plugins(raw, plugins)

    variants = raw.pop("variants")
    base_places = {p: place for p, place in places.items() if p[:1] != ("variants",)}
    settings: dict[str, Settings] = {}
    problems: dict[str, None] = {}  # once each, in their order
    for name, changes in variants.items():
        here = ("variants", name)
        where = places.get(here, str(path))
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems[f"{where}: variants: {name!r} cannot be a folder's name; use letters, digits and _ . + -"] = None
            continue
        if not isinstance(changes, dict | None):
            problems[f"{where}: variants.{name}: expected keys and values to change, got {changes!r}"] = None
            continue
        together: dict[str, Any] = {}  # so that arguments are for the part that will be there, whatever comes first
        for key, value in (changes or {}).items():
            together = _joined(together, _nested(str(key).split("."), value))
        laid, laid_places = lay_over(copy.deepcopy(raw), together), dict(base_places)
        for key, value in (changes or {}).items():
            keys = str(key).split(".")
            for p in (p for p in places if p[:3] == (*here, key)):
                to, written = _indices((*keys, *p[3:])), value_at(value, p[3:])
                if isinstance(written, dict):
                    laid_places[to] = places[p]
                else:
                    note_place(laid_places, to, places[p], written, value_at(laid, to))
        laid_places = {p: place for p, place in laid_places.items() if value_at(laid, p) is not GONE}
        laid["name"] = f"{raw.get('name')}_{name}"
        try:
            settings[name] = check_settings(laid, str(path), laid_places)
        except ConfigError as error:
            problems |= dict.fromkeys(str(error).splitlines()[1:])
    for name, other in settings.items():
        problems |= dict.fromkeys(_unequal(name, other, next(iter(settings.values())), places.get(("variants", name))))
    if problems:
        raise ConfigError(
            "\n".join([f"{len(problems)} problem{'s' * (len(problems) > 1)} in the settings", *sorted(problems)])
        )
    return settings


def _nested(keys: Sequence[str], value: Any) -> Any:
    """["optim", "lr"], 1e-3 -> {"optim": {"lr": 1e-3}}."""
    for key in reversed(keys):
        value = {key: value}
    return value


def _joined(one: Any, other: Any) -> Any:
    """Two changes as one: of what both set, the latter's."""
    if isinstance(one, str) and isinstance(other, dict):
        one = {"name": one}
    if isinstance(other, str) and isinstance(one, dict):
        other = {"name": other}
    if isinstance(one, list) and isinstance(other, dict):
        return lay_over(one, other)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{key: _joined(one[key], value) if key in one else value for key, value in other.items()}}


def _indices(path: Sequence[str | int]) -> Path_:
    return tuple(int(k) if isinstance(k, str) and k.isdigit() else k for k in path)


def _unequal(name: str, one: Settings, first: Settings, place: str | None) -> Iterable[str]:
    """A line for each of ``FIXED`` in which a variant differs from the first one."""
    for key, ours, theirs in differences(first.model_dump(mode="json"), one.model_dump(mode="json")):
        if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            yield f"{place}: variants.{name}: {key} is {theirs!r}, and {ours!r} in the first; all variants share it"
