"""Nouns of an index, counted once and kept beside it."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("textblob")

from nas_t2i.data import noun_counts
from nas_t2i.data.index.pairs import open_index
from nas_t2i.data.noun_counts import count, ensure, store, stored, training_set
from nas_t2i.data.nouns import NounFinder
from nas_t2i.data.stats import measure
from tests.data.shard_maker import pair, pairs_data, write_shard

CAPTIONS = [
    ("A dog on a lawn", ["Two dogs and a ball", "A lawn"]),  # dog, lawn, ball
    ("Red", []),
    ("A cat", ["Cats", "The cat"]),  # cat
]


@pytest.fixture
def opened(tmp_path: Path):
    samples = [
        pair(number, text, metadata={"more": more} if more else {})
        for number, (text, more) in enumerate(CAPTIONS)
    ]
    write_shard(tmp_path / "0.tar", samples)
    data = pairs_data(
        {"source": "shards", "urls": [str(tmp_path / "0.tar")]},
        captions=[
            {"field": "txt", "probability": 0.5},
            {"field": "more", "probability": 0.5},
        ],
    )
    return data, open_index(data, tmp_path / "index", lambda _: None)


def test_an_image_and_a_noun_count_once(opened) -> None:
    data, index = opened
    finder = NounFinder()
    counts = count(index, finder)
    assert counts.tolist() == [3, len(finder.nouns("Red")), 1]
    told = np.zeros(len(index), dtype=np.int64)
    (statistics,) = measure(index, data, finder, nouns=told)
    assert told.tolist() == counts.tolist()
    assert statistics.with_synthetic.image_noun_pairs == counts.sum()
    store(index, counts)
    whole = training_set(index, np.array([], dtype=np.int64))
    assert (whole.images, whole.captions) == (3, 7)
    assert whole.image_noun_pairs == counts.sum() and whole.nouns_by.startswith("textblob-")
    part = training_set(index, np.array([0]))
    assert (part.images, part.captions) == (2, 4)
    assert part.image_noun_pairs == counts[1:].sum()


def test_few_captions_are_counted_unasked_and_many_are_told_of(opened, monkeypatch) -> None:
    _, index = opened
    said: list[str] = []
    monkeypatch.setattr(noun_counts, "MOST_UNASKED", 6)
    ensure(index, said.append)
    assert stored(index) is None
    assert said == [
        "image-noun pairs are not counted: 7 captions take a while; nas-t2i data stats counts "
        "them once"
    ]
    assert training_set(index, np.array([1])).image_noun_pairs is None
    monkeypatch.setattr(noun_counts, "MOST_UNASKED", 7)
    ensure(index, said.append)
    assert stored(index).total() == count(index, NounFinder()).sum() and len(said) == 1


def test_a_file_of_another_size_is_not_taken(opened) -> None:
    _, index = opened
    store(index, np.array([1, 2]))
    assert stored(index) is None
