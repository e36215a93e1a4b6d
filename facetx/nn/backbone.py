"""What a backbone is: the one class that all of them are, here and in other people's modules."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from facetx.contract import InputContract


class Backbone(nn.Module, ABC):
    """Images to embeddings: what every backbone is.

    Attributes:
        contract: What the network expects of its images.
        embedding_dim: Width E of an embedding.
        needs_keypoints: Whether ``forward`` and ``features`` must be given the five facial keypoints.
    """

    contract: InputContract
    embedding_dim: int

    @property
    def needs_keypoints(self) -> bool:
        return False

    @abstractmethod
    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W) scaled by the contract, keypoints (B, 5, 2) in [0, 1] -> (B, E), not normalized."""

    @abstractmethod
    def features(self, images: Tensor, keypoints: Tensor | None = None) -> list[Tensor]:
        """The same input -> feature maps (B, C, h, w) for dense heads, from fine to coarse; a ViT has one.

        Raises ``ConfigError`` for a network that has none.
        """

    def current_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this backbone under today's names: those of earlier versions of facetx are renamed."""
        return dict(weights)
