"""Images from the bytes of outside files: JPEG, PNG and WebP, nothing else.

A file's kind is told from its first bytes, never from its name, and its size is read from its
header, so that an image that claims to be huge is refused before memory is taken for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from nas_t2i.data.images.bad_samples import BadSampleError

SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp"})  # of images, in lower case
HEADER = 1 << 16  # bytes at the start of a file that nearly always hold its size

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255, 255)


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as stored (before any EXIF rotation), from the header only.

    The first `HEADER` bytes of a file are enough unless more than that of other information
    comes before the size.

    Raises:
        BadSampleError: the bytes are of no image, or end before the size.
    """
    if _is_webp(data):
        return _webp_size(data)
    return _opened(data).size


def decode(data: bytes, resolution: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    """The centre square of an image, scaled to (3, resolution, resolution) RGB.

    An EXIF orientation is applied, transparency is laid over white, grey, palette, CMYK and
    16-bit images are converted; of an animation it is the first frame.

    Raises:
        BadSampleError: not a whole image, or one of more than `max_pixels` pixels.
    """
    check_pixels(header_size(data), max_pixels)
    image = _opened(data)
    # libjpeg scales by 1/2, 1/4 or 1/8 while it decodes, but not below the resolution.
    image.draft(None, (resolution, resolution))
    square = _upright(image, lambda whole: _square(whole, resolution))
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def decode_whole(data: bytes, max_pixels: int) -> Image.Image:
    """A whole image in RGB, in its own size; converted and turned upright as by `decode`.

    Raises:
        BadSampleError: as `decode`.
    """
    check_pixels(header_size(data), max_pixels)
    return _upright(_opened(data), lambda whole: whole)


def _upright(image: ImageFile.ImageFile, cut: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What `cut` makes of an image's pixels in RGB, turned as its EXIF orientation says."""
    try:
        image.load()
        orientation = _orientation(image)
        pixels = cut(_to_rgb(image))
    except MemoryError:
        raise
    except Exception:
        # Pillow's decoders raise whatever a broken file trips: OSError, SyntaxError, zlib.error ...
        raise BadSampleError("truncated or broken image") from None
    return pixels.transpose(_TURNS[orientation]) if orientation in _TURNS else pixels


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raise BadSampleError for an image of more than `max_pixels`, or of none."""
    if min(size) < 1:
        raise BadSampleError("image without pixels")
    if size[0] * size[1] > max_pixels:
        raise BadSampleError("image over max_pixels")


def _opened(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read.

    Pillow's readers are called directly: ``Image.open`` would also try formats that training data
    has no use for, and would judge sizes by a limit of its own.
    """
    reader: Callable[[io.BytesIO], ImageFile.ImageFile]
    if data.startswith(b"\xff\xd8\xff"):
        reader = JpegImageFile
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        reader = PngImageFile
    elif _is_webp(data):
        reader = WebPImageFile
    else:
        raise BadSampleError("not a JPEG, PNG or WebP image" if data else "empty image")
    try:
        return reader(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception:
        raise BadSampleError("broken image header") from None


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read by hand: Pillow's reader needs the whole file, and memory for the whole image."""
    kind, chunk = data[12:16], data[20:30]
    if len(chunk) < 10:
        raise BadSampleError("broken image header")
    if kind == b"VP8X":
        return _little(chunk[4:7]) + 1, _little(chunk[7:10]) + 1
    if kind == b"VP8L":
        bits = _little(chunk[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _little(chunk[6:8]) & 0x3FFF, _little(chunk[8:10]) & 0x3FFF
    raise BadSampleError("broken image header")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Broken camera information is no reason to lose an image.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow's own conversion clips instead of scaling.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: Image.Image, resolution: int) -> Image.Image:
    """The centre square; scaling a box of the image is a scaling and a crop in one go."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize(
        (resolution, resolution),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
    )
