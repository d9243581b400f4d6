"""Images that look the same: 64-bit hashes that differ in few bits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nas_t2i.errors import MissingExtraError

PHASH = "phash"  # the hash that is computed from pixels
SIDE = 128  # of the image it is computed from, pixels

_BITS = 64
_ROWS = 1024  # of a group that are compared with the whole group at a time

HashArray = npt.NDArray[np.uint64]


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> int:
    """The 64-bit pHash of a (3, SIDE, SIDE) image.

    Raises:
        MissingExtraError: the package imagehash is not installed.
    """
    try:
        import imagehash
    except ImportError:
        raise MissingExtraError("the hash 'phash' of data.duplicates", "data") from None
    from PIL import Image

    return int(str(imagehash.phash(Image.fromarray(pixels.transpose(1, 2, 0)))), 16)


def parse_hash(value: object) -> int | None:
    """A hash from metadata, 64 bits in hexadecimal; None where that is none."""
    if not isinstance(value, str):
        return None
    try:
        number = int(value, 16)
    except ValueError:
        return None
    return number if 0 <= number < 1 << _BITS else None


def kept(hashes: HashArray, distance: int) -> npt.NDArray[np.bool_]:
    """Which images are kept, (n,): each but those near one that is kept before it.

    Args:
        hashes: (n,) in the order in which the first of equals is kept.
        distance: two hashes that differ in at most so many bits are of the same image.
    """
    _, first = np.unique(hashes, return_index=True)
    order = np.sort(first)  # the first of every distinct hash, as they come
    earlier_of = defaultdict(list)
    for earlier, later in _near(hashes[order], distance):
        earlier_of[later].append(earlier)
    dropped = np.zeros(len(order), dtype=np.bool_)
    for later in sorted(earlier_of):
        dropped[later] = not all(dropped[earlier] for earlier in earlier_of[later])
    result = np.zeros(len(hashes), dtype=np.bool_)
    result[order[~dropped]] = True
    return result


def _near(hashes: HashArray, distance: int) -> Iterator[tuple[int, int]]:
    """Every two of the distinct hashes that are near, as (earlier, later); some more than once.

    Cut into ``distance + 1`` bands, two hashes that differ in `distance` bits agree in a band.
    """
    if distance == 0:
        return
    width = math.ceil(_BITS / (distance + 1))
    mask = np.uint64((1 << width) - 1)
    for start in range(0, _BITS, width):
        band = (hashes >> np.uint64(start)) & mask
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for group in np.split(order, edges):
            if len(group) > 1:
                yield from _near_in_group(hashes, group, distance)


def _near_in_group(
    hashes: HashArray, group: npt.NDArray[np.intp], distance: int
) -> Iterator[tuple[int, int]]:
    of_group = hashes[group]
    for start in range(0, len(group), _ROWS):
        rows = of_group[start : start + _ROWS]
        bits = np.bitwise_count(rows[:, None] ^ of_group[None, :])
        for row, column in np.argwhere(bits <= distance):
            if start + row < column:
                yield int(group[start + row]), int(group[column])
