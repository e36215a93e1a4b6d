"""Tables of names, and names that lead into other libraries."""

import inspect
from abc import ABC, abstractmethod

import pytest

from facetx.errors import ConfigError, UnknownNameError
from facetx.registry import Family, Function, Registry


def one(size: int = 1) -> tuple:
    return "one", size


def two() -> str:
    return "two"


def build_other(name: str, size: int = 3) -> tuple:
    return name, size


def test_a_functions_name_is_its_name():
    table = Registry("thing", [two, one])
    assert list(table) == table.names() == ["one", "two"]
    assert table.names("t*") == ["two"]
    assert len(table) == 2
    assert table["one"] is one
    assert table.create("one", size=5) == ("one", 5)


def test_names_are_taken_once_but_by_the_same_code():
    table = Registry("thing", [one])
    assert table.register(two) is two
    assert table.register(one) is one, "as a module that is imported under two names does"
    with pytest.raises(ValueError, match="'one' is registered already"):
        table.register("one")(two)
    assert table.register("three")(two) is two
    assert table.names() == ["one", "three", "two"]


def test_a_notebooks_cell_may_be_run_again():
    """Each run compiles it under another file's name."""
    table = Registry("thing", [two])
    for cell, size in enumerate((1, 2)):
        names = {"__name__": "notebook", "table": table}
        exec(compile(f"@table.register\ndef mine():\n    return {size}", f"cell {cell}", "exec"), names)
    assert table.create("mine") == 2


def test_what_is_built_is_of_the_tables_class():
    table = Registry("thing", {"list": list, "one": one}, base=tuple)
    assert table.create("one") == ("one", 1)
    with pytest.raises(ConfigError, match="thing list: gives a list, which is no tuple; make it a subclass"):
        table.create("list")


class Base(ABC):
    size: int

    def __init__(self, size: int = 1):
        self.size = size

    @abstractmethod
    def area(self) -> int: ...


class Whole(Base):
    def area(self) -> int:
        return self.size**2


class NoArea(Base):
    pass


class NoSize(Whole):
    def __init__(self):
        pass


class Picky(Whole):
    def __init__(self, size: int = 1):
        raise ValueError(f"{size} is too small")


def test_what_a_part_lacks_is_named():
    table = Registry("thing", [Whole, NoArea, NoSize, Picky], base=Base)
    assert table.create("Whole", size=3).area() == 9
    described = f"as {__name__}.Base describes"
    for name, words in {
        "NoArea": f"thing NoArea: lacks area; define it, {described}",
        "NoSize": f"thing NoSize: lacks size; have its __init__ set it, or call .*, {described}",
        "Picky": "thing Picky: 1 is too small",
    }.items():
        with pytest.raises(ConfigError, match=f"^{words}$"):
            table.create(name)


def test_functions_are_what_can_be_called():
    table = Registry("rule", {"good": lambda: len, "bad": lambda: 1.0}, base=Function)
    assert table.create("good") is len
    with pytest.raises(ConfigError, match="rule bad: gives a float, which is no Function; return a function"):
        table.create("bad")


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="no thing is named 'tow'; did you mean 'two'"):
        Registry("thing", [one, two])["tow"]


def test_a_prefix_leads_to_another_library_only_when_it_is_asked_for():
    asked = []

    def names():
        asked.append(1)
        return ["alpha", "beta"]

    table = Registry("thing", [one], families=[Family("other", build_other, names)])
    assert list(table) == ["one"]
    assert "one" in table
    assert asked == []
    assert "other:alpha" in table
    assert "other:gamma" not in table
    assert "other:" not in table
    assert 3 not in table
    assert table.create("other:beta", size=4) == ("beta", 4)
    assert list(inspect.signature(table["other:alpha"]).parameters) == ["size"]
    with pytest.raises(UnknownNameError, match="other has no thing named 'alpa'; the nearest names are 'other:alpha'"):
        table["other:alpa"]
