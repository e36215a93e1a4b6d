"""What a backbone is: the one class that all of them are, here and in other people's modules."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from facetx.contract import InputContract
from facetx.nn.meta import meta_inputs, without_values


class FeatureInfo(NamedTuple):
    """What a dense head must know of a feature map: its channels, and how many image pixels a cell has a side."""

    channels: int
    reduction: int


class Origin(NamedTuple):
    """What is known of a network that another program runs, whose weights are not at hand.

    Attributes:
        weights, network: SHA-256 of the backbone that it was made of, see ``facetx.benchmarks.receipts``.
        precision: Of its numbers: "fp32" or "int8".
        runtime: The program, by the name of its package.
        version: Of the program.
    """

    weights: str
    network: str
    precision: str
    runtime: str
    version: str


class Backbone(nn.Module, ABC):
    """Images to embeddings: what every backbone is.

    Attributes:
        contract: What the network expects of its images.
        embedding_dim: Width E of an embedding.
        needs_keypoints: Whether ``forward`` and ``features`` must be given the five facial keypoints.
        origin: Of an exported one; None for those that PyTorch runs.
    """

    contract: InputContract
    embedding_dim: int
    origin: Origin | None = None

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

    def embedding_and_features(self, images: Tensor, keypoints: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """What ``forward`` and ``features`` give. A network that need not be run twice for it says so."""
        return self(images, keypoints), self.features(images, keypoints)

    def feature_info(self) -> list[FeatureInfo]:
        """Channels and reduction of each map of ``features``, found out without computing, so a head can be built.

        Raises ``ConfigError`` for a network that has none.
        """
        ghost = without_values(self)
        assert isinstance(ghost, Backbone)
        maps = ghost.features(*meta_inputs(self.contract.size, self.needs_keypoints))
        return [FeatureInfo(m.shape[1], round(self.contract.size / m.shape[2])) for m in maps]

    def current_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this backbone under today's names: those of earlier versions of facetx are renamed."""
        return dict(weights)

    def for_own_size(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this backbone for images of another size, with those parts resized that hang on the size."""
        return dict(weights)


def embed_batch(backbone: Backbone, batch: Mapping[str, Tensor]) -> Tensor:
    """The embeddings (B, E) of a batch's ``image``, uint8 (B, 3, H, W), scaled as the contract says, by its
    ``keypoints`` where they are needed."""
    images = backbone.contract(batch["image"])
    return backbone(images, batch["keypoints"]) if backbone.needs_keypoints else backbone(images)
