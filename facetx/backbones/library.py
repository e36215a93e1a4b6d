"""What ``timm:`` and ``torchvision:`` have in common: another library's network as the trunk, and its own weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from facetx.backbones.base import TrunkBackbone, contract_of
from facetx.contract import InputContract
from facetx.errors import ConfigError
from facetx.nn.backbone import Backbone
from facetx.nn.meta import meta_inputs, without_values
from facetx.nn.necks import linear_neck


@dataclass(frozen=True)
class Library:
    """What a library says of one of its networks.

    Attributes:
        name: As facetx calls it ("timm:resnet18").
        own_size: Pixels a side that it was made for.
        classifiers: Names of the modules that its weights have and the trunk has not.
        mean, std: Of the images in 0..1 that the weights were trained on.
    """

    name: str
    own_size: int
    classifiers: tuple[str, ...]
    mean: Sequence[float]
    std: Sequence[float]

    def contract(self, size: int) -> InputContract:
        """What the library's own weights expect of images."""
        return contract_of(self.mean, self.std, size)


class LibraryBackbone(TrunkBackbone):
    """Another library's network without its classifier, and a neck.

    Args:
        library: What the library says of it.
        trunk, neck, embedding_dim, contract: As in ``TrunkBackbone``.
    """

    def __init__(
        self, library: Library, trunk: nn.Module, neck: nn.Module, embedding_dim: int, contract: InputContract
    ):
        super().__init__(trunk, neck, embedding_dim, contract)
        self.library = library


Kind = TypeVar("Kind", bound=LibraryBackbone)


def with_neck(
    kind: type[Kind],
    library: Library,
    trunk: nn.Module,
    embedding_dim: int | None,
    dropout: float,
    contract: InputContract,
) -> Kind:
    """``trunk`` and a neck as wide as it needs, found out without computing.

    Raises ``ConfigError`` for a trunk that does not take the contract's size, or gives no pooled features.
    """
    try:
        shape = tuple(without_values(trunk)(*meta_inputs(contract.size)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{library.name} does not take images of {contract.size} pixels ({error}); image_size: "
            f"{library.own_size} is its own"
        ) from error
    if len(shape) != 2:
        raise ConfigError(f"{library.name} gives no pooled features but {shape}; choose another model")
    width = shape[1]
    neck = nn.Identity() if embedding_dim is None else linear_neck(width, embedding_dim, dropout)
    return kind(library, trunk, neck, width if embedding_dim is None else embedding_dim, contract)


def own_weights(
    backbone: Backbone, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], InputContract] | None:
    """What a state dict under the library's own names has for ``backbone.trunk``.

    Args:
        backbone: Of ``timm:`` or ``torchvision:``.
        state: Any state dict.

    Returns the trunk's entries, the names of the classifiers' that are left out, and the contract; or None, where the
    backbone is not of these libraries, or an entry stands under a name of ``backbone``'s own.
    """
    if not isinstance(backbone, LibraryBackbone):
        return None
    if not backbone.state_dict().keys().isdisjoint(backbone.current_names(state)):
        return None
    own = backbone.trunk.state_dict()
    classifiers = tuple(f"{name}." for name in backbone.library.classifiers)
    left_out = [k for k in state if k not in own and k.startswith(classifiers)]
    # Old files of torchvision lack batch norm's count of batches, which nothing here looks at.
    counts = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    contract = backbone.library.contract(backbone.contract.size)
    return {**counts, **{k: v for k, v in state.items() if k not in left_out}}, left_out, contract
