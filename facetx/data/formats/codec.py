"""Encoded images, the bytes of a JPEG or PNG file, to pixels and back."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from facetx.errors import DataError, is_resource
from facetx.files import open_file

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
"""Pillow's names of what is read. Of its others some start programs: Ghostscript, for EPS."""
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
"""Those that masks are read of: a lossy one gives pixels the number of another class."""
MAX_PIXELS = 2**26
"""A face set holds no larger images."""
FREE_PIXELS = 2**22
"""Images of up to so many are read however short their files are."""
PIXELS_PER_BYTE = 256
"""Above that, so many more for each byte of the file (a photograph has about 10, at the lowest quality 100): a short
file that claims to be large would fill the memory."""
MAX_WORK = 2**33
"""Pixels times passes. A progressive JPEG is drawn in some 10 passes; damage can ask for one for every 16 bytes."""
SCAN = b"\xff\xda"
QUICK_HEAD = 2**17
"""Bytes at a file's beginning in which its tags lie."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's tag of orientation -> what makes the picture upright; 1 is upright."""
SIDEWAYS = (5, 6, 7, 8)

SIGNATURES = {
    ".jpg": (b"\xff\xd8\xff",),
    ".png": (b"\x89PNG",),
    ".bmp": (b"BM",),
    ".webp": (b"RIFF",),
    ".tif": (b"II", b"MM"),
    ".pbm": (b"P1", b"P4"),
    ".pgm": (b"P2", b"P5"),
    ".ppm": (b"P3", b"P6"),
}


def decode_image(data: bytes, where: str, size: int | None = None) -> NDArray[np.uint8]:
    """Encoded bytes as uint8 RGB (H, W, 3), turned as their EXIF tag says, resized to ``size`` pixels a side if given.

    Raises ``DataError`` that begins with ``where``.
    """

    quick = _quick(data)
    if quick is not None and (size is None or quick.shape[:2] == (size, size)):
        return quick

    def rgb(image: Image.Image) -> Image.Image:
        upright = _eight_bits(_upright(image), where).convert("RGB")
        return upright if size is None else _resized(upright, size, where)

    return _decoded(data, where, FORMATS, rgb)


def _quick(data: bytes) -> NDArray[np.uint8] | None:
    """A plain JPEG by simplejpeg, where that is installed: Pillow's very pixels, in half its time.

    None for all that Pillow must see, damaged files among them, and those that a tag may turn.
    """
    if simplejpeg is None or not data.startswith(SIGNATURES[".jpg"]):
        return None
    head = data[:QUICK_HEAD]
    if b"Exif" in head or b"Orientation" in head:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        pixels = height * width
        if colors != "YCbCr" or pixels > FREE_PIXELS or pixels * data.count(SCAN) > MAX_WORK:
            return None
        found: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        return found
    except ValueError:
        return None


def decode_mask(data: bytes, where: str) -> NDArray[np.uint8]:
    """Encoded bytes of an index mask as uint8 (H, W): the numbers themselves, of gray pixels or of a palette.

    Raises ``DataError`` that begins with ``where``, also for a mask in colors, and for a format that loses something.
    """

    def numbers(image: Image.Image) -> NDArray[np.uint8]:
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise DataError(
                f"{where}: is a picture in colors ({image.mode}), and a mask has the number of a class in each pixel; "
                "convert such masks: python scripts/prepare_data.py masks FOLDER OUT --classes FILE, a file with a "
                "class and its red, green and blue a line"
            )
        found = np.asarray(image)
        if found.size and not 0 <= found.min() <= found.max() <= 255:
            raise DataError(f"{where}: has numbers from {found.min()} to {found.max()}; classes are 0 to 255")
        return found.astype(np.uint8)

    return _decoded(data, where, LOSSLESS, lambda image: numbers(_upright(image)))


def _decoded(
    data: bytes, where: str, formats: tuple[str, ...], give: Callable[[Image.Image], Image.Image | NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """What ``give`` makes of encoded bytes, as an array of its own."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            pixels, most = image.width * image.height, min(MAX_PIXELS, FREE_PIXELS + PIXELS_PER_BYTE * len(data))
            if pixels > most:
                raise DataError(
                    f"{where}: {image.width}x{image.height} pixels; at most {most} are read from {len(data)} bytes"
                )
            if image.format in ("JPEG", "MPO") and pixels * data.count(SCAN) > MAX_WORK:
                raise DataError(f"{where}: is drawn in {data.count(SCAN)} passes; save it anew")
            return np.array(give(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise struct.error, zlib.error, EOFError, ... on damaged files
        if is_resource(error):
            raise
        reason = str(error).split(" <")[0] if data else "it holds no bytes"  # without the address of the buffer
        kind = "an image" if formats is FORMATS else "a mask, of " + ", ".join(formats)
        raise DataError(f"{where}: cannot be read as {kind} ({reason}); replace or delete it") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file as ``decode_image`` gives it, by its header. Raises ``DataError``."""
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            return image.size[::-1] if _orientation(image) in SIDEWAYS else image.size
    except DataError:
        raise
    except Exception as error:  # as above
        if is_resource(error):
            raise
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or delete it") from error


def is_turned(data: bytes) -> bool:
    """Whether a tag says that encoded bytes are to be turned."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _orientation(image) in TURNS
    except Exception as error:  # no image, which whoever decodes it says
        if is_resource(error):
            raise
        return False


def _resized(image: Image.Image, size: int, where: str) -> Image.Image:
    if image.width != image.height:
        raise DataError(
            f"{where}: is {image.width}x{image.height}, and would be squashed to {size}x{size}; align the faces "
            "(scripts/prepare_data.py align), or say crop: true beside the data set (--crop in evaluate.py), which "
            "takes the square in the middle"
        )
    return image if image.width == size else image.resize((size, size), Image.Resampling.BILINEAR)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF tag says, in which cameras tell how they were held."""
    tag = _orientation(image)
    return image.transpose(TURNS[tag]) if tag in TURNS else image


def _orientation(image: Image.Image) -> int:
    """The tag; 1 where there is none, or it is damaged, which spoils no pixel."""
    try:
        tag = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # struct.error, TypeError, SyntaxError, ... of damaged tags
        if is_resource(error):
            raise
        return 1
    return tag if isinstance(tag, int) else 1


def _eight_bits(image: Image.Image, where: str) -> Image.Image:
    """Gray of 16 bits by its high byte, as Pillow takes color of 16 bits; its own conversion of gray cuts at 255."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not sixteen:
        raise DataError(f"{where}: has pixels of 32 bits, whose range is not known; save it anew with 8 bits")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if sixteen else image


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to (size, size, 3), antialiased."""
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """uint8 RGB (H, W, 3) as a PNG file, which loses nothing."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """uint8 RGB (H, W, 3) as a JPEG file of this quality, 1 to 100, its colors as fine as its brightness."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def image_suffix(data: bytes, where: str) -> str:
    """The file ending that fits these encoded bytes, by their first ones. Raises ``DataError`` for other kinds."""
    for suffix, starts in SIGNATURES.items():
        if data.startswith(starts):
            return suffix
    raise DataError(f"{where}: is no image of a known kind ({', '.join(SIGNATURES)}): it begins with {data[:8]!r}")
