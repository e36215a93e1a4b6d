"""Tables of names: a function's name is the name that YAML and notebooks call it by."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import partial
from typing import Any, Generic, TypeVar

from facetx.errors import UnknownNameError, did_you_mean

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
    """

    def __init__(
        self,
        kind: str,
        builders: Mapping[str, Builder] | Iterable[Builder] = (),
        families: Iterable[Family] = (),
    ):
        self.kind = kind
        self._table: dict[str, Builder] = {}
        self._families = {family.prefix: family for family in families}
        named = builders.items() if isinstance(builders, Mapping) else ((b.__name__, b) for b in builders)
        for name, builder in named:
            self._add(name, builder)

    def register(self, builder: Builder) -> Builder:
        """Adds ``builder`` under its own name and returns it. Raises ``ValueError`` if the name is taken."""
        self._add(builder.__name__, builder)
        return builder

    def _add(self, name: str, builder: Builder) -> None:
        if name in self._table:
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
        """Calls the builder of that name with ``args``."""
        return self[name](**args)

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
