"""Parameter groups, optimizers and the moving average of weights."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from facetx.nn import ClassToken, LearnedPositions
from facetx.registry import Function, Registry

_NO_DECAY = (LearnedPositions, ClassToken)


@runtime_checkable
class SaysNoDecay(Protocol):
    """A module that names its own parameters that must not decay, as timm's do (position biases of Swin, tokens)."""

    def no_weight_decay(self) -> Iterable[str]: ...


def parameter_groups(
    model: nn.Module, weight_decay: float, rates: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: weights that decay, and those that must not.

    Norms, biases, positions and tokens are not decayed: pulling them to zero regularizes nothing and costs accuracy
    (big_vision and timm do likewise). Nor are those that a model of timm names in ``no_weight_decay``, by patterns as
    timm reads them. Each group has its parameters' ``names`` for messages and logs.

    With ``rates``, factors on the learning rate by parameter name (1 where one has none), there are two groups a
    factor, the largest first, and each has its factor as ``lr_scale``.
    """
    no_decay = {
        f"{prefix}.{name}".lstrip(".") for prefix, module in model.named_modules() for name in _not_decayed(module)
    }
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = 1.0 if rates is None else rates.get(name, 1.0)
            decays = parameter.ndim > 1 and name not in no_decay
            group = groups.setdefault((scale, decays), {"params": [], "names": []})
            group["params"].append(parameter)
            group["names"].append(name)
            group["weight_decay"] = weight_decay if decays else 0.0
            if rates is not None:
                group["lr_scale"] = scale
    return [groups[key] for key in sorted(groups, reverse=True)]


def _not_decayed(module: nn.Module) -> list[str]:
    """Names of parameters, as they are called within the module, that this module says must not decay."""
    names = [name for name, _ in module.named_parameters()]
    if isinstance(module, _NO_DECAY):
        return names
    patterns = module.no_weight_decay() if isinstance(module, SaysNoDecay) else ()
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def adamw(betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Callable[..., torch.optim.Optimizer]:
    """Adam with decoupled weight decay (arXiv 1711.05101), the choice for transformers."""
    return lambda groups, lr: torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def adam(betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Callable[..., torch.optim.Optimizer]:
    """Adam (arXiv 1412.6980), whose weight decay is an L2 term in the gradient, as FaceRec trained."""
    return lambda groups, lr: torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, fused=True)


def sgd(momentum: float = 0.9, nesterov: bool = False) -> Callable[..., torch.optim.Optimizer]:
    """Stochastic gradient descent with momentum, for CNNs; Face Transformer reports that it does not converge on it."""

    def build(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)
        if momentum > 0:
            # PyTorch makes them at the first step, out of its gradient. The fused one cannot where a part has been held
            # still until then, and leaves them without values where it skips that step. Zeros give the same numbers.
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

    return build


# All are fused: besides being quick, a fused optimizer skips its step where ``optimizer.found_inf`` is 1.
OPTIMIZERS: Registry[Callable[..., Callable[..., torch.optim.Optimizer]]] = Registry(
    "optimizer", [adamw, adam, sgd], base=Function
)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm of all gradients together, a scalar that stays on the device."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
