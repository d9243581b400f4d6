"""Counts over captions, the data table and the histograms."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.data.nouns import NounFinder
from nas_t2i.data.stats import (
    DatasetStatistics,
    check_figure,
    draw_histograms,
    export,
    table_rows,
)
from nas_t2i.errors import MissingExtraError, UserError

# Each image: original captions, synthetic captions, aesthetic score.
IMAGES = [
    (["A dog on a lawn"], ["Two dogs and a ball", "A lawn"], 5.0),
    (["The dog"], [], 6.0),
    ([], ["A red car"], None),
]


@pytest.fixture(scope="module")
def finder():
    return NounFinder()


def statistics(finder, images, name="mine"):
    found = DatasetStatistics(name)
    for image in images:
        found.add(finder, *image)
    return found


def test_counts_by_hand(finder):
    found = statistics(finder, IMAGES)
    original, everything = found.original, found.with_synthetic
    # dog lawn / dog
    assert (original.images, original.captions, original.image_noun_pairs) == (2, 2, 3)
    assert original.different_nouns == {"dog", "lawn"}
    assert original.nouns_per_image == 1.5
    # dog lawn ball / dog / car
    assert (everything.images, everything.captions, everything.image_noun_pairs) == (3, 5, 5)
    assert everything.different_nouns == {"dog", "lawn", "ball", "car"}
    assert everything.nouns_per_image == pytest.approx(5 / 3)
    assert found.aesthetic == 5.5
    # 5, 2 words / 5, 5, 2, 2, 3 words
    assert original.words[:6].tolist() == [0, 0, 1, 0, 0, 1]
    assert everything.words[:6].tolist() == [0, 0, 2, 1, 0, 2]
    assert original.nouns[:4].tolist() == [0, 1, 1, 0]
    assert everything.nouns[:4].tolist() == [0, 3, 2, 0]


def test_a_caption_longer_than_the_histogram_is_in_its_last_bin(finder):
    found = statistics(finder, [(["dog " * 1000], [], None)])
    assert found.original.words.sum() == found.original.words[-1] == 1


CAPTIONS = st.lists(
    st.lists(st.sampled_from(["a", "dog", "dogs", "car", "red"])).map(" ".join), max_size=3
)
IMAGE_LISTS = st.lists(st.tuples(CAPTIONS, CAPTIONS, st.none() | st.integers(0, 10).map(float)))


@given(IMAGE_LISTS, IMAGE_LISTS)
def test_two_data_sets_add_up_to_both_together(first, second):
    finder = NounFinder()
    total = statistics(finder, first) + statistics(finder, second)
    assert table_rows([total]) == table_rows([statistics(finder, first + second)])
    assert total.original.words.tolist() == (
        statistics(finder, first + second).original.words.tolist()
    )


def test_rows_have_the_papers_columns_and_are_exact_in_csv_and_json(finder):
    rows = table_rows([statistics(finder, IMAGES), statistics(finder, [], "empty")])
    assert [(row["dataset"], row["synthetic_captions"]) for row in rows] == [
        ("mine", False),
        ("mine", True),
        ("empty", False),
    ]
    assert json.loads(export(rows, "json")) == rows
    table = list(csv.DictReader(io.StringIO(export(rows, "csv"))))
    assert list(table[0]) == [
        "dataset",
        "synthetic_captions",
        "image_text_pairs_m",
        "avg_aesthetic_score",
        "image_noun_pairs_m",
        "unique_nouns_m",
        "nouns_per_image",
    ]
    assert table[1]["image_text_pairs_m"] == "0.000005"
    assert table[1]["avg_aesthetic_score"] == "5.500000"
    assert table[2]["avg_aesthetic_score"] == ""


def test_a_data_set_without_synthetic_captions_has_one_row(finder):
    assert len(table_rows([statistics(finder, [(["A dog"], [], None)])])) == 1


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("images", [IMAGES, []], ids=["some", "none"])
def test_histograms_are_drawn(finder, tmp_path, suffix, images):
    file = tmp_path / f"figure.{suffix}"
    draw_histograms(statistics(finder, images), file)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(start)


def test_a_figure_that_can_not_be_drawn_is_told_before_the_work(monkeypatch):
    with pytest.raises(UserError, match=r"can't draw '.pngg'.*did you mean 'png'"):
        check_figure(Path("figure.pngg"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="plots"):
        check_figure(Path("figure.png"))
