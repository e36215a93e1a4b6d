"""Polymorphic parts of the settings: a name from a table and arguments that fit its builder's signature."""

import inspect
import json
import typing
from collections.abc import Callable
from functools import cached_property, partial
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from facetx.errors import ConfigError
from facetx.registry import Registry, parameters

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class Strict(BaseModel):
    """Settings: frozen, no unknown keys, and no value taken for another type (``true`` is not 1)."""

    model_config = ConfigDict(**STRICT, use_attribute_docstrings=True)


class Part(Strict):
    """A name and its arguments. In YAML ``flip`` alone is short for ``{name: flip}``."""

    name: str
    args: dict[str, Any] = Field(default_factory=dict)


class From:
    """Annotates a part with the table that its name is looked up in.

    Args:
        table: The table's place within facetx, "heads.HEADS". It is imported when a name is looked up in it, and with
            it PyTorch, so that a key that does not exist is told at once.
        provided: Arguments that the caller of the builder adds itself, so that YAML must not give them.
    """

    def __init__(self, table: str, provided: tuple[str, ...] = ()):
        self.table = table
        self.provided = provided

    @cached_property
    def registry(self) -> Registry[Any]:
        module, name = self.table.rsplit(".", 1)
        found: Registry[Any] = getattr(import_module(f"facetx.{module}"), name)
        return found

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        options = []
        for name in self.registry:
            args = args_model(self.registry[name], self.provided).model_json_schema()
            options.append(
                {"if": {"properties": {"name": {"const": name}}}, "then": {"properties": {"args": args}}},
            )
        names: dict[str, Any] = {"enum": self.registry.names()}
        if self.registry.prefixes:
            names = {"anyOf": [names, {"type": "string", "pattern": f"^({'|'.join(self.registry.prefixes)}):"}]}
        own = {"allOf": [handler(schema), {"properties": {"name": names}}, *options]}
        return {"anyOf": [names, own]}


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


NOT_GIVEN = Field(None, json_schema_extra=_without_default)


def args_model(builder: Callable[..., Any], provided: tuple[str, ...] = ()) -> type[BaseModel]:
    """The arguments of ``builder``, by its signature, as a model that checks them."""
    function: Any = builder.func if isinstance(builder, partial) else builder
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in parameters(builder).items():
        if name in provided:
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            # ``**sizes: Unpack[EncoderSizes]``: every key of the typed dictionary may be given. The default, which
            # the builder knows, stands nowhere in the schema.
            (sizes,) = typing.get_args(hints[name])
            fields |= {key: (hint, NOT_GIVEN) for key, hint in typing.get_type_hints(sizes).items()}
        else:
            required = parameter.default is inspect.Parameter.empty
            fields[name] = (hints.get(name, Any), ... if required else parameter.default)
    return create_model(f"{function.__name__}_args", __config__=STRICT, **fields)


def check_args(builder: Callable[..., Any], args: dict[str, Any], provided: tuple[str, ...] = ()) -> dict[str, Any]:
    """``args`` as the types that ``builder`` wants. Raises pydantic's ``ValidationError`` where they do not fit.

    Goes through JSON, in which a strict check lets a list be a tuple and 1 be 1.0, but not ``true`` be 1.
    """
    model = args_model(builder, provided).model_validate_json(json.dumps(args, default=str))
    return {name: getattr(model, name) for name in model.model_fields_set}


def checked_args(registry: Registry[Any], part: Part, provided: tuple[str, ...] = ()) -> dict[str, Any]:
    """What ``check_args`` gives for a part. Raises ``ConfigError`` with its name where its arguments do not fit."""
    try:
        return check_args(registry[part.name], part.args, provided)
    except ValidationError as error:
        raise ConfigError(f"{registry.kind} {part.name}: {error}") from error


def create(registry: Registry[Any], part: Part, **provided: Any) -> Any:
    """Builds a part: its builder, called with its checked arguments and with what it takes of ``provided``.

    Raises ``ConfigError`` with the part's name as ``Registry.create`` does.
    """
    builder = registry[part.name]
    args = checked_args(registry, part, tuple(provided))
    return registry.create(part.name, **{k: v for k, v in provided.items() if k in parameters(builder)}, **args)
