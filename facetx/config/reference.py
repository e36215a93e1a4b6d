"""Every setting and part by name, docs/settings.md: ``python -m facetx.config.reference [FILE]`` writes it anew."""

import inspect
import sys
import typing
from functools import partial
from typing import Any

from pydantic import BaseModel

from facetx.config.settings import Settings
from facetx.data import DATASETS
from facetx.data.samplers import SAMPLERS
from facetx.data.transforms import TRANSFORMS
from facetx.evaluators import EVALUATORS
from facetx.files import write_file
from facetx.heads import HEADS
from facetx.optim import OPTIMIZERS, SCHEDULES
from facetx.registry import Registry, parameters
from facetx.tables import Table
from facetx.tasks import TASKS

REFERENCE_FILE = "docs/settings.md"
TABLES: dict[str, tuple[str, Registry[Any], tuple[str, ...]]] = {
    "data": ("Data sets", DATASETS, ()),
    "data.transforms": ("Augmentations", TRANSFORMS, ()),
    "data.sampler": ("Samplers", SAMPLERS, ()),
    "head": ("Heads", HEADS, ("embedding_dim", "num_classes")),
    "evaluators": ("Evaluators", EVALUATORS, ("dataset",)),
    "optim": ("Optimizers", OPTIMIZERS, ()),
    "schedule": ("Schedules", SCHEDULES, ()),
    "task": ("Tasks", TASKS, ("backbone", "data", "head")),
}
"""Key of the settings -> title, table, and the arguments that YAML does not give."""
_HEAD = """\
# Settings

Made from the code by `python -m facetx.config.reference`. A run is one YAML file, checked before anything is built;
`configs/schema.json` lets an editor complete it. Where a part has a `name`, its `args` are those of the builder of that
name; `name` alone is short for `{name: name}`. Backbones (`model`) stand in [backbones.md](backbones.md).
"""


def reference_text() -> str:
    """The page as it stands in ``docs/settings.md``."""
    sections = [_HEAD, *_settings("", Settings)]
    for key, (title, table, provided) in TABLES.items():
        sections.append(f"\n## {title}: `{key}`\n")
        sections += [_part(name, table[name], provided) for name in table]
    return "\n".join(sections)


def _settings(prefix: str, model: type[BaseModel]) -> list[str]:
    """A table of a model's fields, then those of the models in it."""
    rows, inner = [], []
    for name, field in model.model_fields.items():
        if prefix and name in ("name", "args"):
            continue
        kinds = [kind for kind in _models(field.annotation) if set(kind.model_fields) - {"name", "args"}]
        meaning = field.description or inspect.getdoc(kinds[0]) or ""
        inner += [text for kind in kinds for text in _settings(f"{prefix}{name}.", kind)]
        default = "required" if field.is_required() else _short(field.get_default(call_default_factory=True))
        rows.append((f"`{prefix}{name}`", default, " ".join(meaning.split())))
    title = f"\n## `{prefix[:-1]}`\n" if prefix else "\n## A run\n"
    return [title, Table(("setting", "default", "meaning"), rows).markdown(), *inner]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models of settings in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _short(default: Any) -> str:
    if isinstance(default, BaseModel):
        return f"`{getattr(default, 'name', default)}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def _part(name: str, builder: Any, provided: tuple[str, ...]) -> str:
    """A builder's signature and docstring."""
    function = builder.func if isinstance(builder, partial) else builder
    arguments = []
    for key, parameter in parameters(builder).items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (more,) = typing.get_args(
                typing.get_type_hints(
                    function.__init__ if inspect.isclass(function) else function, include_extras=True
                )[key]
            )
            arguments += [f"{name}=..." for name in typing.get_type_hints(more)]
        elif key not in provided:
            arguments.append(key if parameter.default is parameter.empty else f"{key}={parameter.default!r}")
    doc = inspect.getdoc(function) or ""
    return f"\n### `{name}`\n\n`{name}({', '.join(arguments)})`\n\n```text\n{doc}\n```"


if __name__ == "__main__":
    write_file(sys.argv[1] if len(sys.argv) > 1 else REFERENCE_FILE, reference_text() + "\n")
