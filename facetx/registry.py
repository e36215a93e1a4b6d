"""Tables of names: a function's name is the name that YAML and notebooks call it by."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from typing import Any, Generic, TypeVar

from facetx.errors import UnknownNameError, did_you_mean

Builder = TypeVar("Builder", bound=Callable[..., Any])


class Registry(Generic[Builder]):
    """A table from names to builders.

    The shipped tables are literal lists of functions, one place to read them all. A user's own idea joins with
    one decorator::

        @facetx.BACKBONES.register
        def my_vit(image_size: int = 112) -> FaceTransformer: ...

    Args:
        kind: What the table holds, in the singular, for messages ("backbone").
        builders: Functions, or classes, whose ``__name__`` is the name.
    """

    def __init__(self, kind: str, builders: Iterable[Builder] = ()):
        self.kind = kind
        self._table: dict[str, Builder] = {}
        for builder in builders:
            self.register(builder)

    def register(self, builder: Builder) -> Builder:
        """Adds ``builder`` under its own name and returns it. Raises ``ValueError`` if the name is taken."""
        name = builder.__name__
        if name in self._table:
            raise ValueError(f"the {self.kind} {name!r} is registered already; choose another function name")
        self._table[name] = builder
        return builder

    def __getitem__(self, name: str) -> Builder:
        """The builder of that name. Raises ``UnknownNameError``, with close names, if there is none."""
        try:
            return self._table[name]
        except KeyError:
            raise UnknownNameError(f"no {self.kind} is named {name!r}; {did_you_mean(name, self._table)}") from None

    def create(self, name: str, **args: Any) -> Any:
        """Calls the builder of that name with ``args``."""
        return self[name](**args)

    def names(self, pattern: str = "*") -> list[str]:
        """The known names that match a shell pattern, sorted."""
        return sorted(n for n in self._table if fnmatch(n, pattern))

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._table)
