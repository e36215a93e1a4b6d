"""Models as files that other programs run: ONNX, Core ML, TorchScript, and PyTorch's exported programs."""

from facetx.exporting.export import TARGETS, Exported, export
from facetx.exporting.int8 import quantize

__all__ = ["TARGETS", "Exported", "export", "quantize"]
