"""Images of every kind become squares of RGB; everything else is a bad sample."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_t2i.data.images import decode as images
from nas_t2i.data.images.bad_samples import BadSampleError
from tests.data.shard_maker import encoded, make_image, pixels

MANY = 10**8


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def huge_png(side: int) -> bytes:
    """A PNG whose header claims a size that its few bytes could never hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def huge_jpeg(side: int) -> bytes:
    whole = bytearray(make_image(1, kind="JPEG"))
    place = whole.index(b"\xff\xc0")
    whole[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return bytes(whole)


def huge_webp(side: int) -> bytes:
    size = (side - 1).to_bytes(3, "little")
    content = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size + bytes(100)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}])
def test_the_size_of_webp_is_read_as_pillow_reads_it(options: dict[str, object]) -> None:
    data = saved(Image.fromarray(pixels(1, (37, 21))), "WEBP", **options)
    assert images.header_size(data) == (37, 21)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_size_comes_from_the_header_alone(kind: str) -> None:
    data = encoded(pixels(1, (300, 200)), kind)
    assert images.header_size(data[:1000]) == (300, 200)


@pytest.mark.parametrize("make", [huge_png, huge_jpeg, huge_webp])
def test_a_header_that_claims_a_huge_image_is_refused_unread(
    make: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_called(*args: object) -> None:
        raise AssertionError("the image was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", not_called)
    assert images.header_size(make(60_000)) == (60_000, 60_000)
    with pytest.raises(BadSampleError, match="over max_pixels"):
        images.decode(make(60_000), 16, MANY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_bad(kind: str, keep: float) -> None:
    data = encoded(pixels(1, (200, 150)), kind)
    with pytest.raises(BadSampleError):
        images.decode(data[: int(keep * len(data))], 16, MANY)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)],
)
def test_other_bytes_are_bad(data: bytes) -> None:
    with pytest.raises(BadSampleError):
        images.header_size(data)
    with pytest.raises(BadSampleError):
        images.decode(data, 16, MANY)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_broken_bytes_are_bad_or_decode_but_never_crash(data: st.DataObject, kind: str) -> None:
    broken = bytearray(encoded(pixels(3, (40, 30)), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert images.decode(bytes(broken), 8, 10**6).shape == (3, 8, 8)
    except BadSampleError as error:
        assert error.reason


def test_the_shorter_side_fits_and_the_centre_is_kept() -> None:
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, 32:64] = (10, 200, 30)
    square = images.decode(encoded(wide), 16, MANY)
    # As when the whole is scaled and then cut: at the edges the filter sees what is cut off.
    assert abs(square[:, :, 1:-1].astype(int) - [[[10]], [[200]], [[30]]]).max() <= 2
    tall = images.decode(encoded(wide.transpose(1, 0, 2)), 16, MANY)
    assert abs(tall.transpose(0, 2, 1).astype(int) - square).max() <= 1


def test_scaling_down_averages() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    grey = images.decode(encoded(np.repeat(board[..., None], 3, -1).astype(np.uint8)), 8, MANY)
    assert abs(grey.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("kind,tolerance", [("PNG", 1.0), ("WEBP", 4.0), ("JPEG", 4.0)])
def test_a_large_image_agrees_with_pillow_in_float(kind: str, tolerance: float) -> None:
    values = pixels(5, (400, 300))
    resized = Image.fromarray(values).crop((50, 0, 350, 300)).resize((64, 64), Image.Resampling.BOX)
    ours = images.decode(encoded(values, kind), 64, MANY).transpose(1, 2, 0)
    assert np.abs(ours.astype(float) - np.asarray(resized)).mean() < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = Image.fromarray(pixels(2, (48, 32)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, "PNG", exif=exif)
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    plain = images.decode(saved(Image.fromarray(np.asarray(upright)), "PNG"), 16, MANY)
    turned = images.decode(data, 16, MANY)
    assert np.abs(turned.astype(int) - plain).max() <= 1


def test_transparency_is_laid_over_white() -> None:
    values = np.zeros((20, 20, 4), dtype=np.uint8)
    values[..., 0], values[..., 3] = 255, 128
    square = images.decode(saved(Image.fromarray(values, "RGBA")), 4, MANY)
    assert abs(square.astype(int) - np.array([[[255]], [[127]], [[127]]])).max() <= 1
    palette = Image.fromarray(values[..., :3]).quantize(4)
    clear = images.decode(saved(palette, transparency=palette.getpixel((0, 0))), 4, MANY)
    assert (clear == 255).all()


@pytest.mark.parametrize(
    "image,kind,expected",
    [
        (Image.new("L", (9, 9), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (9, 9), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (9, 9), (77, 255)), "PNG", (77, 77, 77)),
        (Image.new("RGB", (9, 9), (9, 99, 199)).quantize(2), "PNG", (9, 99, 199)),
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("L", (9, 9), 77), "JPEG", (77, 77, 77)),
        (Image.fromarray(np.full((9, 9), 77 * 257, np.uint16)), "PNG", (77, 77, 77)),
    ],
    ids=["grey", "bits", "grey and alpha", "palette", "cmyk", "grey jpeg", "16 bit"],
)
def test_every_mode_becomes_rgb(
    image: Image.Image, kind: str, expected: tuple[int, int, int]
) -> None:
    square = images.decode(saved(image, kind), 4, MANY)
    assert square.dtype == np.uint8
    assert abs(square.astype(int) - np.array(expected)[:, None, None]).max() <= 2
