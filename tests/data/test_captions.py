"""Which captions a sample offers, which it gets, and how they are stored."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.data.captions import Captions, CaptionWriter, draw, offered
from nas_t2i.protocol.data import CaptionField


def fields(*names: str, first: int | None = None) -> list[CaptionField]:
    return [CaptionField(field=name, probability=1 / len(names), first=first) for name in names]


def test_a_field_offers_its_texts_stripped_and_without_empty_ones() -> None:
    metadata = {
        "txt": "  a dog\n",
        "best": ["", "one", 3, None, "two", "three"],
        "blank": " \n",
        "number": 7,
        "inner": {"deep": ["x"]},
        "dotted.name": "whole",
        "odd": "lone \ud800",
    }
    names = ("txt", "best", "blank", "number", "none", "inner.deep", "dotted.name", "odd")
    assert offered(metadata, fields(*names, first=2)) == [
        ["a dog"],
        ["one", "two"],
        [],
        [],
        [],
        ["x"],
        ["whole"],
        ["lone ?"],
    ]
    assert offered(metadata, fields("best")) == [["one", "two", "three"]]


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(
        st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any), min_size=1, max_size=9
    ),
    u=st.floats(0, 1, exclude_max=True),
    v=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_always_one_of_the_samples_own(
    counts: list[list[int]], u: float, v: float
) -> None:
    rows = np.array(counts)
    places = draw(rows, [0.1, 0.7, 0.2], np.full(len(rows), u), np.full(len(rows), v))
    assert (places >= 0).all()
    assert (places < rows.sum(axis=1)).all()


def test_a_lacking_field_leaves_its_probability_to_the_others() -> None:
    def frequencies(counts: list[int]) -> list[float]:
        n = 40_000
        u = (np.arange(n) + 0.5) / n
        v = np.random.default_rng(0).random(n)
        places = draw(np.tile(counts, (n, 1)), [0.2, 0.5, 0.3], u, v)
        return (np.bincount(places, minlength=sum(counts)) / n).tolist()

    def about(*shares: float) -> object:
        return pytest.approx(shares, abs=0.01)

    assert frequencies([1, 1, 1]) == about(0.2, 0.5, 0.3)
    assert frequencies([1, 0, 1]) == about(0.4, 0.6)
    assert frequencies([0, 1, 0]) == about(1.0)
    assert frequencies([1, 5, 0]) == about(2 / 7, *[1 / 7] * 5)


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_each_distinct_caption_is_stored_once(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("captions")
    with CaptionWriter(folder) as writer:
        rows = [writer.row(text) for text in texts]
    captions = Captions(folder)
    assert list(captions) == list(dict.fromkeys(texts))
    assert [captions[row] for row in rows] == texts
    with pytest.raises(IndexError):
        captions[len(captions)]
