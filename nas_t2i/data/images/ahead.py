"""Images of a pair index, decoded by threads ahead of who reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.index.pairs import PairIndex


class Image(NamedTuple):
    """A row's image, or why there is none."""

    row: int
    pixels: npt.NDArray[np.uint8] | None  # (3, R, R)
    problem: str


class Decoder:
    """Reads and decodes images in `workers` threads (0: in the caller's)."""

    def __init__(self, index: PairIndex, workers: int) -> None:
        self._index = index
        self._pool = ThreadPoolExecutor(workers, "decode") if workers else None

    def read(self, rows: Iterable[int], ahead: int) -> Iterator[Image]:
        """Yield the rows' images in order, at most `ahead` of them decoded and waiting."""
        if self._pool is None:
            yield from map(self._decode, rows)
            return
        coming: deque[Future[Image]] = deque()
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

    def _decode(self, row: int) -> Image:
        try:
            return Image(row, self._index.image(row), "")
        except BadSampleError as error:
            return Image(row, None, error.reason)
