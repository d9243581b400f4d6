"""Words and nouns of English captions, for statistics.

The tagger is TextBlob's (pattern.en's) lexicon of about 94,000 words, which lies inside the
package: nothing is downloaded. A word's tag is its own most frequent one, whatever stands around
it, so a word is looked up once. A word the lexicon doesn't know is judged by its ending, and is a
noun when that says nothing; so other languages than English give nonsense.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version

from nas_t2i.errors import MissingExtraError

# Letters and digits, joined by apostrophes or hyphens; not file_names, whose parts are words.
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
TAGGER = "textblob"
_LETTER = re.compile(r"[^\W\d_]")
_POSSESSIVE = ("'s", "\u2019s")
# Captions of the web hold many words that occur once; those in use stay.
_CACHED_WORDS = 1 << 20


def tagger_version() -> str:
    """Return the version of the tagger that is installed."""
    return version(TAGGER)


def words(caption: str) -> list[str]:
    """Return the words of a caption as they are written, without punctuation."""
    return _WORD.findall(caption)


class NounFinder:
    """Finds the nouns of captions.

    Raises:
        MissingExtraError: TextBlob is not installed.
    """

    def __init__(self) -> None:
        # TextBlob leaves the files that it reads to the garbage collector to close.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                from textblob.en import lexicon, parser
                from textblob.en.inflect import singularize
            except ImportError:
                raise MissingExtraError("finding the nouns of captions", "data") from None
            self._tag_of_known = dict(lexicon.items())
        self._parser = parser
        self._singularize = singularize
        self._noun = lru_cache(_CACHED_WORDS)(self._find_noun)

    def nouns(self, caption: str) -> set[str]:
        """Return the different nouns (and names) of a caption, lower-case, plurals as singulars."""
        return self.nouns_among(words(caption))

    def nouns_among(self, caption_words: Iterable[str]) -> set[str]:
        """Return the nouns among words of `words`, as `nouns` does."""
        found = {self._noun(word) for word in caption_words}
        found.discard("")
        return found

    def _find_noun(self, word: str) -> str:
        """Return the singular of a word if it is a noun, else ""."""
        word = word.removesuffix(_POSSESSIVE[0]).removesuffix(_POSSESSIVE[1])
        if not _LETTER.search(word):
            return ""
        # Captions are often in title case: a capital says little about what a word is.
        lower = word.lower()
        tag = self._tag_of_known.get(lower) or self._parser.find_tags([word])[0][1]
        if not tag.startswith("NN"):
            return ""
        return self._singular(lower) if tag.startswith(("NNS", "NNPS")) else lower

    def _singular(self, word: str) -> str:
        # TextBlob takes every -ves for a plural of -f: olives, waves.
        shorter = word.removesuffix("s")
        if self._tag_of_known.get(shorter) == "NN":
            return shorter
        return str(self._singularize(word))
