"""Parts of a model that training leaves as they are."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from facetx.errors import ConfigError, did_you_mean


def freeze(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Makes the modules whose names match fixed functions: no gradient, and in eval mode for good.

    So batch norm keeps its statistics and dropout stays off in them, whatever ``model.train()`` says.

    Args:
        model: Changed in place.
        patterns: Shell patterns of module names as ``named_modules`` gives them: "tokens.stem", "encoder.blocks.[0-5]".

    Returns the names of the parameters that are frozen by it. Raises ``ConfigError`` for a pattern without a match.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    frozen = []
    for pattern in patterns:
        matches = {name: module for name, module in modules.items() if fnmatchcase(name, pattern)}
        if not matches:
            raise ConfigError(f"freeze: no module matches {pattern!r}; {did_you_mean(pattern, _shallow(modules))}")
        for name, module in matches.items():
            _stay_in_eval(module)
            module.requires_grad_(False)
            frozen += [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
    return list(dict.fromkeys(frozen))


class _Frozen:
    """Mixed into a module's class: ``train`` leaves it, and all below it, in eval mode."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)  # type: ignore[misc]


def _stay_in_eval(module: nn.Module) -> None:
    kind = type(module)
    if not issubclass(kind, _Frozen):
        module.__class__ = type(f"Frozen{kind.__name__}", (_Frozen, kind), {})
    module.eval()


def _shallow(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.count(".") < 3]  # all of them would fill the screen
