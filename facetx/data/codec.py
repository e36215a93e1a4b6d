"""Encoded images, the bytes of a JPEG or PNG file, to pixels and back."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facetx.errors import DataError

MAX_PIXELS = 2**26
"""A face set holds no larger images; a file that claims to would fill the memory."""

SIGNATURES = {
    ".jpg": b"\xff\xd8\xff",
    ".png": b"\x89PNG",
    ".bmp": b"BM",
    ".webp": b"RIFF",
    ".tif": b"II*\0",
    ".pgm": b"P5",
    ".ppm": b"P6",
}


def decode_image(data: bytes, where: str, size: int | None = None) -> NDArray[np.uint8]:
    """Encoded bytes as uint8 RGB (H, W, 3), resized to ``size`` pixels a side where given.

    Raises ``DataError`` that begins with ``where``.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{where}: {image.width}x{image.height} pixels; at most {MAX_PIXELS} are read")
            rgb = image.convert("RGB")
            return np.array(rgb if size is None else rgb.resize((size, size), Image.Resampling.BILINEAR))
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise struct.error, zlib.error, EOFError, ... on damaged files
        reason = str(error) if data else "it holds no bytes"
        raise DataError(f"{where}: cannot be read as an image ({reason}); replace or delete it") from error


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to (size, size, 3), antialiased."""
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """uint8 RGB (H, W, 3) as a PNG file, which loses nothing."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def image_suffix(data: bytes) -> str:
    """The file ending that fits these encoded bytes, by their first ones. Raises ``DataError`` for other kinds."""
    for suffix, start in SIGNATURES.items():
        if data.startswith(start):
            return suffix
    raise DataError(f"these are no bytes of an image of a known kind ({', '.join(SIGNATURES)}): {data[:8]!r}...")
