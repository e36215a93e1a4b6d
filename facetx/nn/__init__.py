"""The parts: one transformer encoder with three seams (tokens, attention bias, pooling)."""

from facetx.nn.attention import Attention
from facetx.nn.biases import AttentionBias, LayerBias
from facetx.nn.encoder import Block, Encoder, EncoderSizes, Mlp
from facetx.nn.pooling import ClassToken
from facetx.nn.positions import LearnedPositions
from facetx.nn.tokens import PatchTokens
from facetx.nn.transformer import FaceTransformer

__all__ = [
    "Attention",
    "AttentionBias",
    "Block",
    "ClassToken",
    "Encoder",
    "EncoderSizes",
    "FaceTransformer",
    "LayerBias",
    "LearnedPositions",
    "Mlp",
    "PatchTokens",
]
