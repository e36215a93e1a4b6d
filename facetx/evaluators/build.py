"""The table of evaluators, and one of them from its name, its data and its arguments."""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from facetx.data.base import FaceDataset
from facetx.errors import ConfigError
from facetx.evaluators.attributes import AttributeEvaluator
from facetx.evaluators.base import Evaluator
from facetx.evaluators.builders import (
    bin_pairs,
    classification,
    folder_pairs,
    identification,
    lfw,
    pairs,
    synthetic_classification,
    synthetic_pairs,
)
from facetx.evaluators.parsing import ParsingEvaluator
from facetx.evaluators.templates import ijb
from facetx.registry import Registry, parameters

_TABLE: dict[str, Callable[..., Evaluator]] = {
    "pairs": pairs,
    "classification": classification,
    "identification": identification,
    "attributes": AttributeEvaluator,
    "parsing": ParsingEvaluator,
    "lfw": lfw,
    "bin_pairs": bin_pairs,
    "folder_pairs": folder_pairs,
    "synthetic_pairs": synthetic_pairs,
    "synthetic_classification": synthetic_classification,
    "ijb": ijb,
}
EVALUATORS = Registry("evaluator", _TABLE, base=Evaluator)
"""Those that take ``dataset`` ask any data set."""


def build_evaluator(
    name: str, dataset: FaceDataset | None, args: Mapping[str, Any], size: int | None = None
) -> Evaluator:
    """An evaluator of ``EVALUATORS``.

    Args:
        name: In the table.
        dataset: What it asks by; None for those that bring their own images.
        args: Its other arguments.
        size: Pixels a side that the model takes: to which a short form's images are resized, unless ``args`` say so.

    Raises ``ConfigError`` for a data set that it cannot take or lacks, and what is no evaluator.
    """
    builder = EVALUATORS[name]
    if dataset is None:
        given = args_with_size(EVALUATORS, name, args, size)
        if "dataset" in argument_names(builder):
            given["dataset"] = None
    elif "dataset" in argument_names(builder):
        given = {**args, "dataset": dataset}
    else:
        asking = [n for n in EVALUATORS if "dataset" in argument_names(EVALUATORS[n])]
        raise ConfigError(
            f"evaluator {name}: brings its own images, so it takes no data; those that ask any data set are "
            f"{', '.join(asking)}"
        )
    evaluator: Evaluator = EVALUATORS.create(name, **given)
    return evaluator


def data_size(name: str, size: int) -> int | None:
    """At which size an evaluator's data set is opened: the model's, or None for the images' own."""
    return None if getattr(EVALUATORS[name], "own_size", False) else size


def args_with_size(registry: Registry[Any], name: str, args: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """``args`` of a data set or an evaluator, with the model's size where its builder takes one and none is given.

    So images of another size are resized, and no settings repeat the size of the model.
    """
    wanted = size is not None and "size" not in args and "size" in argument_names(registry[name])
    return {**args, "size": size} if wanted else dict(args)


def argument_names(builder: Callable[..., Any]) -> set[str]:
    """The names of a builder's arguments, those of an unpacked ``TypedDict`` too."""
    names: set[str] = set()
    for name, parameter in parameters(builder).items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.add(name)
            continue
        function = builder.__init__ if inspect.isclass(builder) else builder
        for keys in typing.get_args(typing.get_type_hints(function, include_extras=True).get(name)):
            names |= set(typing.get_type_hints(keys))
    return names
