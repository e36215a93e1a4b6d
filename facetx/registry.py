"""Tables of names: a function's name is the name that YAML and notebooks call it by."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, overload, runtime_checkable

from facetx.errors import ConfigError, FacetxError, UnknownNameError, did_you_mean

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Family:
    """Another library's models, named ``prefix:name``.

    Attributes:
        prefix: What stands before the colon ("timm").
        build: ``build(name, **args)``.
        names: The library's own names. It is called when a name is looked up, so the library is imported only then.
    """

    prefix: str
    build: Callable[..., Any]
    names: Callable[[], Iterable[str]]


@runtime_checkable
class Function(Protocol):
    """Whatever can be called."""

    def __call__(self, *args: Any, **named: Any) -> Any: ...


class Registry(Generic[Builder]):
    """A table from names to builders.

    The shipped tables are literal lists of functions, one place to read them all. A user's own idea joins with
    one decorator::

        @facetx.BACKBONES.register
        def my_vit(image_size: int = 112) -> FaceTransformer: ...

    Args:
        kind: What the table holds, in the singular, for messages ("backbone").
        builders: Functions, whose ``__name__`` is the name; or name -> function or class, whose arguments are those of
            its ``__init__``.
        families: Where names with a prefix lead. They count as known, but are not listed.
        base: What builders return, by its class, whose annotated attributes it must have; ``Function`` for any.
            What is something else is an error that says what to do.
    """

    def __init__(
        self,
        kind: str,
        builders: Mapping[str, Builder] | Iterable[Builder] = (),
        families: Iterable[Family] = (),
        base: type | None = None,
    ):
        self.kind = kind
        self.base = base
        self._table: dict[str, Builder] = {}
        self._families = {family.prefix: family for family in families}
        named = builders.items() if isinstance(builders, Mapping) else ((b.__name__, b) for b in builders)
        for name, builder in named:
            self._add(name, builder)

    @overload
    def register(self, builder: Builder) -> Builder: ...

    @overload
    def register(self, builder: str) -> Callable[[Builder], Builder]: ...

    def register(self, builder: Any) -> Any:
        """Adds a function or a class under its own name, or as ``@table.register("name")`` under that one.

        Raises ``ValueError`` if the name is taken, but by the same code, which was imported under another name.
        """
        if not isinstance(builder, str):
            self._add(builder.__name__, builder)
            return builder

        def add(named: Builder) -> Builder:
            self._add(builder, named)
            return named

        return add

    def _add(self, name: str, builder: Builder) -> None:
        if name in self._table and _origin(self._table[name]) != _origin(builder):
            raise ValueError(f"the {self.kind} {name!r} is registered already; choose another name")
        self._table[name] = builder

    def __getitem__(self, name: str) -> Builder:
        """The builder of that name. Raises ``UnknownNameError``, with close names, if there is none."""
        prefix, _, rest = name.partition(":")
        if rest and prefix in self._families:
            return self._of_family(self._families[prefix], rest)
        try:
            return self._table[name]
        except KeyError:
            raise UnknownNameError(f"no {self.kind} is named {name!r}; {did_you_mean(name, self._table)}") from None

    def _of_family(self, family: Family, name: str) -> Any:
        known = set(family.names())
        if name not in known:
            near = ", ".join(f"'{family.prefix}:{n}'" for n in get_close_matches(name, sorted(known), cutoff=0))
            raise UnknownNameError(f"{family.prefix} has no {self.kind} named {name!r}; the nearest names are {near}")
        return partial(family.build, name)

    def create(self, name: str, /, **args: Any) -> Any:
        """Calls the builder of that name with ``args``.

        Raises ``ConfigError`` with the name for values that the builder refuses, and for what it gives where that is
        not of the class ``base``, or lacks something that every one of that class has.
        """
        builder, where = self[name], f"{self.kind} {name}"
        if missing := sorted(getattr(builder, "__abstractmethods__", ())):
            raise ConfigError(f"{where}: lacks {', '.join(missing)}; define it, {self._described()}")
        try:
            built = builder(**args)
        except ValueError as error:
            kind = type(error) if isinstance(error, FacetxError) else ConfigError
            raise kind(f"{where}: {error}") from error
        self._check(built, where)
        return built

    def _check(self, built: Any, where: str) -> None:
        if self.base is None:
            return
        if not isinstance(built, self.base):
            remedy = "return a function" if self.base is Function else f"make it a subclass, {self._described()}"
            raise ConfigError(f"{where}: gives a {type(built).__name__}, which is no {self.base.__name__}; {remedy}")
        if missing := [key for key in inspect.get_annotations(self.base) if not hasattr(built, key)]:
            raise ConfigError(
                f"{where}: lacks {', '.join(missing)}; have its __init__ set it, or call super().__init__ with it, "
                f"{self._described()}"
            )

    def _described(self) -> str:
        return f"as {self.base.__module__}.{self.base.__qualname__} describes" if self.base else "as its class asks"

    def names(self, pattern: str = "*") -> list[str]:
        """The known names that match a shell pattern, sorted."""
        return sorted(n for n in self._table if fnmatch(n, pattern))

    @property
    def prefixes(self) -> list[str]:
        """What stands before the colon in the names of the families, sorted."""
        return sorted(self._families)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        try:
            self[name]
        except UnknownNameError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._table)


def parameters(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function, or of a class; none of a class that has no ``__init__`` of its own."""
    if inspect.isclass(builder) and builder.__init__ is object.__init__:
        return {}
    return inspect.signature(builder).parameters


def _origin(builder: Any) -> tuple[str, str]:
    """The file (in a notebook, the module) and the name that a builder is written under."""
    module = getattr(builder, "__module__", "")
    return getattr(sys.modules.get(module), "__file__", None) or module, getattr(builder, "__qualname__", repr(builder))
