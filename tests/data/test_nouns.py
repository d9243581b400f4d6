"""Nouns of captions: how many are found, how many are none, and what a word is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas_t2i.data.nouns import NounFinder, words
from nas_t2i.errors import MissingExtraError

LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent / "noun_captions.jsonl").read_text().splitlines()
]


@pytest.fixture(scope="module")
def finder():
    return NounFinder()


def test_precision_and_recall_on_captions_labelled_by_hand(finder):
    found_right = found = labelled = 0
    for row in LABELLED:
        nouns, truth = finder.nouns(row["caption"]), set(row["nouns"])
        found_right += len(nouns & truth)
        found += len(nouns)
        labelled += len(truth)
    assert len(LABELLED) >= 60
    # 0.942 and 0.948 with TextBlob 0.20.1.
    assert found_right / found >= 0.92
    assert found_right / labelled >= 0.92


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A dog and two dogs, three DOGS.", {"dog"}),
        ("The farmer's tractor; the farmers\u2019 market", {"farmer", "tractor", "market"}),
        ("A wooden table", {"table"}),
        ("mice, geese, knives and shoes", {"mouse", "goose", "knife", "shoe"}),
        ("waves", {"wave"}),  # not "wafe"
        ("1234 567 ...", set()),
        ("", set()),
    ],
)
def test_nouns_of_a_caption(finder, caption, nouns):
    assert finder.nouns(caption) == nouns


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A well-known singer, 1999!", ["A", "well-known", "singer", "1999"]),
        ("IMG_0012.jpg", ["IMG", "0012", "jpg"]),
        ("Stra\u00dfe  caf\u00e9\n", ["Stra\u00dfe", "caf\u00e9"]),
        (" -- ", []),
    ],
)
def test_words_of_a_caption(caption, expected):
    assert words(caption) == expected


def test_loading_the_lexicon_warns_of_nothing():
    """Checked in a process of its own: here the lexicon may be loaded already."""
    code = "from nas_t2i.data.nouns import NounFinder; NounFinder().nouns('a cat')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_textblob_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[data\]'"):
        NounFinder()
