"""Parts of a model that training leaves as they are."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import chain
from typing import Self

from torch import nn

from facetx.errors import ConfigError, did_you_mean, some


def freeze(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Makes the modules whose names match fixed functions: no gradient, and in eval mode for good.

    So batch norm keeps its statistics and dropout stays off in them, whatever ``model.train()`` says.

    Args:
        model: Changed in place.
        patterns: Shell patterns of module names as ``named_modules`` gives them: "tokens.stem", "encoder.blocks.[0-5]".

    Returns the names of the parameters that are frozen by it. Raises ``ConfigError`` for a pattern without a match, and
    for one that matches only modules without a parameter or a buffer.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    frozen = []
    for pattern in patterns:
        matches = {name: module for name, module in modules.items() if fnmatchcase(name, pattern)}
        if not matches:
            raise ConfigError(f"freeze: no module matches {pattern!r}; {did_you_mean(pattern, _shallow(modules))}")
        if not any(True for module in matches.values() for _ in chain(module.parameters(), module.buffers())):
            raise ConfigError(
                f"freeze: {pattern!r} freezes nothing: there are no weights in {some(matches)}; name what has some, or "
                "leave it out"
            )
        for name, module in matches.items():
            _stay_in_eval(module)
            module.requires_grad_(False)
            frozen += [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
    return list(dict.fromkeys(frozen))


def frozen_parts(model: nn.Module) -> list[str]:
    """The parts without a trained parameter, each by the largest module that holds nothing else: "encoder.blocks.0-3".

    Numbered neighbors are written as one. A lone frozen parameter of a module that is trained otherwise is named too.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts: list[str] = []
    for name, _ in model.named_parameters():
        if name in trained:
            continue
        steps = name.split(".")
        prefixes = (".".join(steps[:length]) for length in range(1, len(steps)))
        parts.append(next((p for p in prefixes if not any(t.startswith(f"{p}.") for t in trained)), name))
    return _ranges(dict.fromkeys(parts))


def _ranges(names: Iterable[str]) -> list[str]:
    """Names that differ in their first number alone, as one name each with the numbers' ranges."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        steps = name.split(".")
        at = next((i for i, step in enumerate(steps) if step.isdigit()), None)
        if at is None:
            numbers[name, ""] = []
        else:
            key = ".".join(steps[:at]) + ".", "".join(f".{step}" for step in steps[at + 1 :])
            numbers.setdefault(key, []).append(int(steps[at]))
    return [f"{before}{_spans(found)}{after}" for (before, after), found in numbers.items()]


def _spans(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ",".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans)


class _Frozen(nn.Module):
    """Put before a module's class: ``train`` leaves it, and all below it, in eval mode."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


def _stay_in_eval(module: nn.Module) -> None:
    kind = type(module)
    if not issubclass(kind, _Frozen):
        module.__class__ = type(f"Frozen{kind.__name__}", (_Frozen, kind), {})
    module.eval()


def _shallow(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.count(".") < 3]  # all of them would fill the screen
