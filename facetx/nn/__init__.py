"""The parts: one transformer encoder with three seams (tokens, attention bias, pooling)."""

from facetx.nn.attention import Attention
from facetx.nn.backbone import Backbone, FeatureInfo
from facetx.nn.biases import AttentionBias, Bias, ConvAttention, KeypointBias, LayerBias, Product, Scores
from facetx.nn.encoder import Block, DropPath, Encoder, EncoderSizes, Mlp
from facetx.nn.pooling import ClassToken, FlattenPooling, MeanPooling, Pooling, SequencePooling
from facetx.nn.positions import LearnedPositions, SinePositions
from facetx.nn.tokens import ConvTokens, PatchTokens, StemTokens, Tokens
from facetx.nn.transformer import FaceTransformer

__all__ = [
    "Attention",
    "AttentionBias",
    "Backbone",
    "Bias",
    "Block",
    "ClassToken",
    "ConvAttention",
    "ConvTokens",
    "DropPath",
    "Encoder",
    "EncoderSizes",
    "FaceTransformer",
    "FeatureInfo",
    "FlattenPooling",
    "KeypointBias",
    "LayerBias",
    "LearnedPositions",
    "MeanPooling",
    "Mlp",
    "PatchTokens",
    "Pooling",
    "Product",
    "Scores",
    "SequencePooling",
    "SinePositions",
    "StemTokens",
    "Tokens",
]
