"""Attention biases: the second seam of the transformer."""

from collections.abc import Callable

from torch import Tensor, nn

LayerBias = Callable[[int], Tensor | None]
"""From a layer's index to what is added to its attention scores, broadcastable to (B, heads, T, T)."""


class AttentionBias(nn.Module):
    """What a bias is: called once an image batch, asked once a layer, so that no layer's bias outlives the layer.

    Subclasses implement ``forward(images, keypoints) -> LayerBias``. ``images`` are the network's input
    (B, 3, H, W); ``keypoints`` are (B, 5, 2) in [0, 1] as (x, y), or None.
    """

    needs_keypoints = False

    def forward(self, images: Tensor, keypoints: Tensor | None) -> LayerBias:
        raise AssertionError("a bias implements forward")
