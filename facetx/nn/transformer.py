"""The one transformer of facetx: tokens, attention bias and pooling are exchanged, the rest is shared."""

from collections.abc import Mapping

from einops import rearrange
from torch import Tensor, nn

from facetx.contract import InputContract
from facetx.nn.backbone import Backbone
from facetx.nn.biases import AttentionBias
from facetx.nn.dropout import Dropout
from facetx.nn.encoder import Encoder
from facetx.nn.pooling import Pooling
from facetx.nn.positions import LearnedPositions, resized_positions
from facetx.nn.tokens import Tokens


class FaceTransformer(Backbone):
    """Face images to embeddings.

    Args:
        tokens: Images -> (B, N, D).
        positions: Adds positions to the (B, T, D) tokens, a class token included.
        encoder: (B, T, D) -> (B, T, D).
        pooling: Tokens -> (B, D), with ``prefix`` tokens of its own before the patches.
        embedding_dim: Width E of what comes out.
        contract: What the network expects of its images.
        bias: Added to the attention scores of each layer.
        neck: (B, D) -> (B, E), after the pooling.
        dropout: On the tokens, after the positions.

    Shapes: images (B, 3, H, W), already scaled by the contract, and keypoints (B, 5, 2) in [0, 1] where
    ``needs_keypoints`` -> (B, E), not normalized.
    """

    def __init__(
        self,
        tokens: Tokens,
        positions: nn.Module,
        encoder: Encoder,
        pooling: Pooling,
        embedding_dim: int,
        contract: InputContract,
        bias: AttentionBias | None = None,
        neck: nn.Module | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.dropout = Dropout(dropout)
        self.bias = bias
        self.encoder = encoder
        self.pooling = pooling
        self.neck = nn.Identity() if neck is None else neck
        self.embedding_dim = embedding_dim
        self.contract = contract

    @property
    def needs_keypoints(self) -> bool:
        """Whether ``forward`` must be given the five facial keypoints."""
        return self.bias is not None and self.bias.needs_keypoints

    def forward(self, images: Tensor, keypoints: Tensor | None = None) -> Tensor:
        return self.neck(self.pooling(self._encoded(images, keypoints)))  # (B, T, D) -> (B, D) -> (B, E)

    def features(self, images: Tensor, keypoints: Tensor | None = None) -> list[Tensor]:
        """One map: the patches' tokens after the last norm, each in its place (B, D, h, w); no class token."""
        return [self._in_place(self._encoded(images, keypoints))]

    def embedding_and_features(self, images: Tensor, keypoints: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        encoded = self._encoded(images, keypoints)
        return self.neck(self.pooling(encoded)), [self._in_place(encoded)]

    def _in_place(self, encoded: Tensor) -> Tensor:
        h, w = self.tokens.grid
        return rearrange(encoded[:, self.pooling.prefix :], "b (h w) d -> b d h w", h=h, w=w)

    def for_own_size(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Learned positions are interpolated; tables of a size of their own are not known to be resizable."""
        name, found = "positions.positions", dict(weights)
        if name in found and isinstance(self.positions, LearnedPositions):
            prefix = self.positions.positions.shape[1] - self.tokens.num_tokens
            found[name] = resized_positions(found[name], prefix, self.tokens.grid)
        return found

    def _encoded(self, images: Tensor, keypoints: Tensor | None) -> Tensor:
        bias = None if self.bias is None else self.bias(images, keypoints)
        x = self.pooling.prepend(self.tokens(images))  # (B, N, D) -> (B, T, D)
        return self.encoder(self.dropout(self.positions(x)), bias)
