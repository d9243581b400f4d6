"""Near hashes: banding finds what comparing everything with everything finds."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_t2i.data.images.decode import decode
from nas_t2i.data.index.duplicates import SIDE, kept, parse_hash, perceptual_hash
from tests.data.shard_maker import encoded, pixels


def kept_by_brute_force(hashes: list[int], distance: int) -> list[bool]:
    keepers: list[int] = []
    result = []
    for number in hashes:
        is_new = all((number ^ other).bit_count() > distance for other in keepers)
        keepers += [number] * is_new
        result.append(is_new)
    return result


@settings(max_examples=80, deadline=None)
@given(
    distance=st.integers(0, 8),
    base=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 63), max_size=10)), max_size=30
    ),
)
def test_the_first_of_those_that_look_the_same_is_kept(
    distance: int, base: list[int], flips: list[tuple[int, list[int]]]
) -> None:
    hashes = list(base)
    for place, bits in flips:
        number = base[place % len(base)]
        for bit in bits:
            number ^= 1 << bit
        hashes.append(number)
    ours = kept(np.array(hashes, dtype=np.uint64), distance)
    assert ours.tolist() == kept_by_brute_force(hashes, distance)


def test_a_large_group_is_compared_in_pieces() -> None:
    hashes = np.arange(3000, dtype=np.uint64)
    assert kept(hashes, 1).tolist() == kept_by_brute_force(hashes.tolist(), 1)


@pytest.mark.parametrize("value", [None, 12, "", "xyz", "1" * 17, "-1"])
def test_other_values_are_no_hash(value: object) -> None:
    assert parse_hash(value) is None


def test_a_hash_is_read_as_hexadecimal() -> None:
    assert parse_hash("f0F0000000000001") == 0xF0F0000000000001


def test_a_image_hashes_like_its_smaller_recompressed_self() -> None:
    pytest.importorskip("imagehash")

    def hashed(data: bytes) -> int:
        return perceptual_hash(decode(data, SIDE, 10**8))

    def smaller(values: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(values).resize((150, 150)).save(stream, "JPEG", quality=60)
        return stream.getvalue()

    numbers = [hashed(encoded(pixels(number, (300, 300)))) for number in range(8)]
    again = [hashed(smaller(pixels(number, (300, 300)))) for number in range(8)]
    for number in range(8):
        distances = [(numbers[number] ^ other).bit_count() for other in again]
        assert distances[number] <= 8
        assert min(distances[:number] + distances[number + 1 :]) > 8
