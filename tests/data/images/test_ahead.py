"""Decoding ahead: images in order, a bounded number of them in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from nas_t2i.data.images.ahead import Decoder
from nas_t2i.data.index.pairs import PairIndex, open_index
from nas_t2i.protocol.data import PairsData
from tests.conditioning.tiny_pairs import PIXELS, broken, shapes_budget, shards_budget
from tests.data.shard_maker import pair


def index_of(budget: Any, folder: Path) -> PairIndex:
    assert isinstance(budget.data, PairsData)
    return open_index(budget.data, folder / "index", lambda _: None)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_come_in_order_and_bad_ones_say_why(tmp_path: Path, workers: int) -> None:
    samples = [broken(n) if n in (2, 5) else pair(n) for n in range(8)]
    no_model = {"encoder": "transformers", "model": "none", "tokens": 8}
    text = no_model | {"layer": "last", "padding": "keep", "precision": "fp32"}
    budget = shards_budget(tmp_path, samples, bad_share=0.5, text=text, latents=PIXELS)
    index = index_of(budget, tmp_path)
    rows = [7, 5, 0, 2, 2, 1]
    images = list(Decoder(index, workers).read(rows, ahead=2))
    assert [image.row for image in images] == rows
    for image in images:
        if image.row in (2, 5):
            assert image.pixels is None
            assert "truncated" in image.problem
        else:
            assert image.pixels is not None
            np.testing.assert_array_equal(image.pixels, index.image(image.row))


def test_no_more_are_decoded_than_asked_for(tmp_path: Path) -> None:
    index = index_of(shapes_budget(tmp_path), tmp_path)
    decoded: list[int] = []

    class Watched:
        def image(self, row: int) -> np.ndarray:
            decoded.append(row)
            return index.image(row)

    images = Decoder(cast(PairIndex, Watched()), 2).read(range(40), ahead=5)
    taken = [next(images).row for _ in range(3)]
    threading.Event().wait(0.2)  # as long as a thread that ran on would need
    assert taken == [0, 1, 2]
    assert sorted(decoded) == list(range(8))
    images.close()
    threading.Event().wait(0.1)
    assert len(decoded) == 8
