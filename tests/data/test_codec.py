"""Image bytes: what is of no known kind, or would take more memory or time than its bytes are worth, is refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from facetx.data.codec import FORMATS, FREE_PIXELS, decode_image, encode_png
from facetx.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)


def saved(pixels, kind, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format(kind):
    image = decode_image(saved(PIXELS, kind, lossless=True), "x")
    assert image.shape == PIXELS.shape
    if kind != "JPEG":
        assert np.array_equal(image, PIXELS)


def test_postscript_is_not_run(monkeypatch):
    """Pillow would hand it to Ghostscript."""
    data = saved(PIXELS, "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    monkeypatch.setattr("subprocess.check_call", lambda *args, **kwargs: pytest.fail("was run"))
    with pytest.raises(DataError, match="x: cannot be read as an image"):
        decode_image(data, "x")


def png_of(width, height):
    """A PNG that announces a size and has no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\0IDAT"


WEBP = (
    bytes.fromhex("52494646360000005745425056503820 2a000000b001009d012a6d6d6d966d6d6d88") + b"\x88" * 40
)  # 11629x5741


LARGE = {
    "65535": png_of(65535, 65535),
    "2^31": png_of(2**31 - 1, 2**31 - 1),
    "9000": png_of(9000, 9000),
    "8000": png_of(8000, 8000),
    "2100": png_of(2100, 2100),
    "webp": WEBP,
}


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_a_short_file_that_claims_to_be_large(data):
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x: (\d+x\d+ pixels; at most|cannot be read as an image .*exceeds limit)"):
        decode_image(data, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_large_images_are_read_where_their_bytes_are_worth_it():
    flat = np.zeros((int(FREE_PIXELS**0.5), int(FREE_PIXELS**0.5), 3), np.uint8)
    assert decode_image(encode_png(flat), "x").shape == flat.shape
    noise = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), np.uint8)
    assert decode_image(saved(noise, "JPEG", quality=10), "x").shape == noise.shape


def test_a_jpeg_of_very_many_passes():
    data = saved(np.zeros((2048, 2048), np.uint8), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data[data.rindex(b"\xff\xda") : end]
    assert decode_image(data[:end] + last + data[end:], "x").shape == (2048, 2048, 3)
    with pytest.raises(DataError, match="x: is drawn in 30006 passes"):
        decode_image(data[:end] + 30_000 * last + data[end:], "x")  # 0.5 MB; Pillow takes minutes
