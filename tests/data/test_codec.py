"""Image bytes: what is of no known kind, or would take more memory or time than its bytes are worth, is refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from facetx.data.formats import codec
from facetx.data.formats.codec import FORMATS, FREE_PIXELS, decode_image, encode_jpeg, encode_png, image_suffix
from facetx.data.lists.folders import EXTENSIONS
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


@pytest.mark.parametrize(("kind", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
def test_gray_of_sixteen_bits_is_scaled(kind, order):
    gray = PIXELS[..., 0]
    image = decode_image(saved((gray.astype(np.uint16) * 257).astype(order), kind), "x")
    assert np.array_equal(image, np.repeat(gray[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_no_known_range_are_refused(dtype):
    with pytest.raises(DataError, match="x: has pixels of 32 bits, whose range is not known; save it anew with 8 bits"):
        decode_image(saved(PIXELS[..., 0].astype(dtype), "TIFF"), "x")


ENDINGS = {
    ".tif": (saved(PIXELS[..., 0].astype(">u2"), "TIFF"), saved(PIXELS, "TIFF")),
    ".pgm": (b"P2 1 1 255 7\n", b"P5 1 1 255 \7"),
    ".ppm": (b"P3 1 1 255 7 7 7\n", b"P6 1 1 255 \7\7\7"),
    ".pbm": (b"P1 1 1 1\n", b"P4 1 1 \1"),
}


@pytest.mark.parametrize("suffix", ENDINGS)
def test_what_is_read_has_an_ending(suffix):
    for data in ENDINGS[suffix]:
        assert decode_image(data, "x").ndim == 3
        assert image_suffix(data, "x") == suffix
        assert suffix in EXTENSIONS
    with pytest.raises(DataError, match="x: is no image of a known kind .*begins with b'GIF89a'"):
        image_suffix(b"GIF89a", "x")


def test_the_message_is_the_same_every_time():
    with pytest.raises(DataError, match=r"^x: cannot be read as an image \(cannot identify image file\); replace"):
        decode_image(b"no image", "x")


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


def test_a_jpeg_is_as_good_as_asked_and_keeps_its_colors():
    red_next_to_green = np.zeros((16, 16, 3), np.uint8)
    red_next_to_green[:, ::2, 0] = red_next_to_green[:, 1::2, 1] = 200
    best, worst = (encode_jpeg(red_next_to_green, quality) for quality in (100, 5))
    assert len(worst) < len(best)
    np.testing.assert_allclose(decode_image(best, "x"), red_next_to_green, atol=4)


def test_the_quick_reader_gives_pillows_very_pixels_and_leaves_it_the_rest(monkeypatch):
    pytest.importorskip("simplejpeg", reason="needs the extra 'fast'")
    rng = np.random.default_rng(0)
    image = np.array(Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).resize((77, 63)))
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = 6
    kinds = [(q, s, p) for q in (30, 95) for s in (0, 2) for p in (False, True)]
    plain = [saved(image, "JPEG", quality=q, subsampling=s, progressive=p) for q, s, p in kinds]
    others = [saved(image, "JPEG", exif=tag), saved(image[..., 0], "JPEG")]
    ours = [codec.decode_image(data, "it") for data in plain + others]
    assert all(codec._quick(data) is not None for data in plain)
    assert codec._quick(others[0]) is None  # it is turned
    assert codec._quick(others[1]) is None
    assert codec._quick(plain[0][: len(plain[0]) // 2]) is None  # it is cut off
    assert codec._quick(b"\xff\xd8\xffnothing") is None
    monkeypatch.setattr(codec, "simplejpeg", None)
    for found, data in zip(ours, plain + others):
        assert np.array_equal(found, codec.decode_image(data, "it"))
