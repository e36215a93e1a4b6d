"""The training state of checkpoints of format 1, which had the optimizer's state under numbers."""

from typing import Any

from torch import Tensor

from facetx.errors import CheckpointError

STATE = "train.pt"


def as_format_2(state: dict[str, Any], where: str) -> dict[str, Any]:
    """The same state as format 2 has it. Raises ``CheckpointError`` where something of it is missing."""
    try:
        groups, moments = (state["optimizer"][key] for key in ("param_groups", "state"))
        names = {number: name for group in groups for number, name in zip(group["params"], group["names"], strict=True)}
        return {
            "task": state["task"],
            "averaged": state["ema"] is not None,
            "moments": {name: moments.get(number) for number, name in names.items()},
            "progress": {name: _plain(value) for name, value in state["progress"].items()},
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{where}: its training state is incomplete ({type(error).__name__}: {error})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return value.item() if isinstance(value, Tensor) else value
