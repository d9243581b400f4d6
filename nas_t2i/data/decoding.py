"""Pictures of a pair index, decoded by threads ahead of who reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nas_t2i.data.bad_samples import BadSampleError
from nas_t2i.data.pairs import PairIndex


class Picture(NamedTuple):
    """A row's picture, or why there is none."""

    row: int
    pixels: npt.NDArray[np.uint8] | None  # (3, R, R)
    problem: str


class Decoder:
    """Reads and decodes pictures in `workers` threads (0: in the caller's)."""

    def __init__(self, index: PairIndex, workers: int) -> None:
        self._index = index
        self._pool = ThreadPoolExecutor(workers, "decode") if workers else None

    def read(self, rows: Iterable[int], ahead: int) -> Iterator[Picture]:
        """Yield the rows' pictures in order, at most `ahead` of them decoded and waiting."""
        if self._pool is None:
            yield from map(self._decode, rows)
            return
        coming: deque[Future[Picture]] = deque()
        try:
            for row in rows:
                coming.append(self._pool.submit(self._decode, row))
                if len(coming) > ahead:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()

    def _decode(self, row: int) -> Picture:
        try:
            return Picture(row, self._index.image(row), "")
        except BadSampleError as error:
            return Picture(row, None, error.reason)
