"""int8 for CPUs: weights and activations of matrix products and convolutions in eight bits, with fixed ranges."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facetx.checkpoints.exported import Facts
from facetx.data.base import FaceDataset
from facetx.data.synthetic.faces import SyntheticFaces
from facetx.errors import ExportError
from facetx.exporting.check import inputs_of
from facetx.exporting.export import Exported
from facetx.exporting.graph import converting
from facetx.exporting.onnx_file import require, run_onnx, with_facts
from facetx.files import write_file
from facetx.inference.exported import ExportedTask, open_exported

IMAGES = 128
BATCH = 8
OPERATIONS = ["Conv", "Gemm", "MatMul"]


def quantize(path: str | Path, out: str | Path, images: FaceDataset | None = None, count: int = IMAGES) -> Exported:
    """Writes an exported ONNX file anew in int8 (static quantization, QDQ), for CPUs.

    The ranges of activations are the least and the greatest that are seen on calibration images; labels play no part.

    Args:
        path: Of an fp32 export.
        out: The new file, ``.onnx``.
        images: Of the contract's size, to calibrate on: ``count`` of them in even steps. Drawn faces unless given.
        count: How many images.

    Raises ``DataError`` for images that the model cannot take, ``ExportError`` for a file that is no fp32 export.
    """
    require()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = open_exported(path)
    facts = (model.backbone if isinstance(model, ExportedTask) else model).facts
    if facts.precision != "fp32":
        raise ExportError(f"{path}: is of {facts.precision}; int8 is made of an fp32 export")
    size = facts.input.size
    if images is None:
        images = SyntheticFaces(identities=count, images_per_identity=1, first_identity=20_000, size=size)
    feeds = list(_feeds(images, count, facts))
    with tempfile.TemporaryDirectory() as folder, converting(str(path), "int8"):
        prepared, draft = f"{folder}/prepared.onnx", f"{folder}/int8.onnx"
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # onnxruntime's own advice goes to the root logger
        try:
            quant_pre_process(str(path), prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                draft,
                _reader(iter(feeds)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATIONS,
                per_channel=True,
                reduce_range=True,  # seven bits: eight times eight overflow on x86 without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.getLogger().setLevel(level)
        proto = onnx.load(draft)
    first = {name: torch.from_numpy(value) for name, value in feeds[0].items()}
    inputs = (first["image"], *([first["keypoints"]] if facts.keypoints else []))
    fine, facts = run_onnx(Path(path).read_bytes(), str(path)), facts.model_copy(update={"precision": "int8"})
    coarse = run_onnx(with_facts(proto, facts), str(out))
    seen = max(_off(coarse(inputs)[name], value) for name, value in fine(inputs).items())
    if not np.isfinite(seen):
        raise ExportError(f"{out}: its outputs are not finite; calibrate on images that are like those of use")
    facts = facts.model_copy(update={"difference": seen})
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_file(out, with_facts(proto, facts))
    words = f"differs from fp32 by {100 * seen:.1f} % of an output's length on {len(inputs[0])} images of {images.name}"
    return Exported(Path(out), facts, words)


def _off(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The distance of two outputs as a share of the second's length, over the batch."""
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))


def _feeds(images: FaceDataset, count: int, facts: Facts) -> Iterator[dict[str, NDArray[np.generic]]]:
    """``count`` images in even steps, in batches."""
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int).tolist()
    for start in range(0, len(places), BATCH):
        inputs = inputs_of(images, places[start : start + BATCH], facts)
        yield {name: values.numpy() for name, values in zip(("image", "keypoints"), inputs)}


def _reader(feeds: Iterator[dict[str, NDArray[np.generic]]]) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            return next(feeds, None)

    return Reader()
