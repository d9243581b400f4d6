"""Counter-based random numbers: every draw is a pure function of (seed, purpose, index).

A row is what one item (a scene, a training sample, a prompt) may consume. Row ``i`` of a stream is
the same whatever the batch size, the number of processes or the step a run was resumed at, because
it is read at its own counter of a Philox generator keyed by the seed and the purpose.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

_PER_BLOCK = 4  # 64-bit numbers that one Philox counter value gives


def raw_rows(seed: int, purpose: str, start: int, count: int, width: int) -> npt.NDArray[np.uint64]:
    """Rows ``start .. start + count`` of stream (seed, purpose) as (count, width) 64-bit words."""
    if min(start, count, width) < 0:
        raise ValueError(f"start, count and width must not be negative: {start}, {count}, {width}")
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    blocks = math.ceil(width / _PER_BLOCK)
    generator = np.random.Philox(
        key=np.frombuffer(digest, dtype="<u8").astype(np.uint64),
        counter=np.array([start * blocks, 0, 0, 0], dtype=np.uint64),
    )
    words: npt.NDArray[np.uint64] = generator.random_raw(count * blocks * _PER_BLOCK)
    return words.reshape(count, blocks * _PER_BLOCK)[:, :width]


def uniform_rows(
    seed: int, purpose: str, start: int, count: int, width: int
) -> npt.NDArray[np.float64]:
    """Like `raw_rows`, as (count, width) float64 numbers in [0, 1)."""
    words = raw_rows(seed, purpose, start, count, width)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal_rows(
    seed: int, purpose: str, start: int, count: int, width: int
) -> npt.NDArray[np.float32]:
    """Like `raw_rows`, as (count, width) standard normal float32 numbers (Box-Muller)."""
    pairs = (width + 1) // 2
    words = raw_rows(seed, purpose, start, count, pairs)
    first = ((words >> np.uint64(32)).astype(np.float32) + np.float32(1.0)) * np.float32(2.0**-32)
    second = (words & np.uint64(0xFFFFFFFF)).astype(np.float32) * np.float32(2.0**-32)
    radius = np.sqrt(np.float32(-2.0) * np.log(np.minimum(first, np.float32(1.0))))
    angle = np.float32(2.0 * math.pi) * second
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :width]


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed for a library's own generator, from (seed, purpose, index)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
