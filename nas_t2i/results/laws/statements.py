"""The paper's kinds of finding, asked of one's own records.

What the paper found is quoted from the abstract of Li et al., "On the Scalability of
Diffusion-based Text-to-Image Generation", 2024 (arXiv 2404.02883).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

from nas_t2i.errors import number_of
from nas_t2i.results.entries import Entry
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.laws.between import between
from nas_t2i.results.laws.contrasts import Candidates, Contrast, Pair, candidates
from nas_t2i.results.laws.finding import FEW, Difference, Statement
from nas_t2i.results.metrics import display_name

ALIKE = 0.10
"""Equal compute or size: within this share of each other."""
MARGIN = 0.02
"""An equal score: no worse by more, of a score between 0 and 1."""
_UNETS, _TRANSFORMERS = ("unet", "if_unet"), ("pixart",)


def statements(found: RankedStudies, others: Sequence[RankedStudies] = ()) -> list[Statement]:
    """Return an answer, or why there is none, to each question.

    Questions of architectures are asked of `found`; those of what a budget holds fixed, such as its
    data, of `found` and rankings under other budgets.

    Raises:
        IncomparableError: scores over different numbers of prompts among them.
    """
    known = candidates(found)
    return [
        _by_pairs(
            found,
            known,
            "width-or-depth",
            "Width or transformer depth, at equal compute?",
            _deeper_and_wider,
            "deeper less wider",
            ("deeper", "wider"),
            f"two UNets of GMACs within {ALIKE:.0%}, one wider, the other with more transformer "
            "blocks",
            "increasing the transformer blocks is more parameter-efficient for improving "
            "text-image alignment than increasing channel numbers",
        ),
        _by_pairs(
            found,
            known,
            "attention-low-only",
            "Is attention at the lowest resolution alone as good?",
            _low_only_and_more,
            "lowest alone less higher too",
            ("attention at the lowest resolution alone", "attention at a higher one too"),
            "two UNets alike but for transformer blocks at a higher resolution",
            "the location and amount of cross attention distinguishes the performance of existing "
            "UNet designs",
        ),
        _by_pairs(
            found,
            known,
            "unet-or-transformer",
            "UNet or transformer, at equal parameters?",
            _unet_and_transformer,
            "UNet less transformer",
            ("the UNet", "the transformer"),
            f"a UNet and a transformer with parameters within {ALIKE:.0%}",
            "Tables 1 and 2 have UNets and transformers of like size; `results/paper` has them",
        ),
        _smaller(found, known),
        *between(found, others),
    ]


Matcher = Callable[[Candidates], Iterator[Pair]]


def _by_pairs(
    found: RankedStudies,
    known: Candidates | None,
    key: str,
    question: str,
    match: Matcher,
    what: str,
    sides: tuple[str, str],
    needed: str,
    paper: str,
) -> Statement:
    pairs = list(match(known)) if known else []
    if known is None or not pairs:
        answer = (
            f"The records don't support this: none are {needed}, both measured at the last rung."
        )
        return Statement(key, question, answer, False, None, (), paper)
    contrast = known.contrast(pairs)
    used = sorted({place for pair in pairs for place in pair})
    better = sides[0] if (contrast.value > 0) != found.smaller_is_better else sides[1]
    if contrast.low > 0 or contrast.high < 0:
        answer = f"Here {better} scores better."
    else:
        answer = "Can't be told apart: the interval includes 0."
    if len(pairs) < FEW:
        answer += f" Of {number_of(len(pairs), 'pair')} only: it may not hold for others."
    return Statement(
        key,
        question,
        answer,
        True,
        Difference(
            f"{display_name(found.metric)}, {what}",
            contrast.value,
            contrast.low,
            contrast.high,
            f"mean of {number_of(len(pairs), 'pair')} among "
            f"{number_of(len(used), 'architecture')}; over seeds and prompts, these pairs",
        ),
        tuple(known.names[place] for place in used),
        paper,
    )


def _smaller(found: RankedStudies, known: Candidates | None) -> Statement:
    """Ask for the smallest that is no worse than SDXL's UNet, or the largest, by a margin."""
    question = "Smaller, at an equal score?"
    paper = "an efficient UNet variant, which is 45% smaller and 28% faster than SDXL's UNet"
    bounded = found.metric == "tifa"
    if known is None or len(known.names) < 2:
        answer = "The records don't support this: fewer than two measured at the last rung."
        return Statement("smaller", question, answer, False, None, (), paper)
    margin = MARGIN if bounded else 0.0
    sizes = [entry.first.profile.params for entry in known.entries]
    original = "SDXL-C320" in known.names
    place = known.names.index("SDXL-C320") if original else sizes.index(max(sizes))
    sign = -1 if found.smaller_is_better else 1
    for other in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if sizes[other] >= sizes[place]:
            continue
        contrast = known.contrast([(other, place)])
        worst = contrast.low if sign > 0 else -contrast.high
        if worst > -margin:
            return _smaller_found(found, known, other, place, contrast, question, paper)
    answer = (
        f"No smaller one is shown to be as good as {known.names[place]} (within {margin:g}, with "
        "97.5 %)."
    )
    records = tuple(known.names)
    return Statement("smaller", question, answer, True, None, records, paper)


def _smaller_found(
    found: RankedStudies,
    known: Candidates,
    small: int,
    large: int,
    contrast: Contrast,
    question: str,
    paper: str,
) -> Statement:
    one, other = known.entries[small].first.profile, known.entries[large].first.profile
    answer = (
        f"{known.names[small]} is {1 - one.params / other.params:.0%} smaller than "
        f"{known.names[large]}, takes {1 - one.gmacs / other.gmacs:.0%} fewer GMACs, and is no "
        "worse: the smallest of which that is shown."
    )
    return Statement(
        "smaller",
        question,
        answer,
        True,
        Difference(
            f"{display_name(found.metric)}, {known.names[small]} less {known.names[large]}",
            contrast.value,
            contrast.low,
            contrast.high,
            "over seeds and prompts",
        ),
        (known.names[small], known.names[large]),
        paper,
    )


# --- pairs -----------------------------------------------------------------------------------


def _deeper_and_wider(known: Candidates) -> Iterator[Pair]:
    for deep, wide in permutations(range(len(known.entries)), 2):
        one, other = known.entries[deep], known.entries[wide]
        if not (_is(one, _UNETS) and one.first.family == other.first.family):
            continue
        if _rest(one, "channels", "transformer_depth", "mid_depth") != _rest(
            other, "channels", "transformer_depth", "mid_depth"
        ):
            continue
        if not _alike(one.first.profile.gmacs, other.first.profile.gmacs):
            continue
        if _width(one) < _width(other) and _depth(one) > _depth(other):
            yield deep, wide


def _low_only_and_more(known: Candidates) -> Iterator[Pair]:
    for low, more in permutations(range(len(known.entries)), 2):
        one, other = known.entries[low], known.entries[more]
        if not (
            _is(one, _UNETS)
            and _rest(one, "transformer_depth") == _rest(other, "transformer_depth")
        ):
            continue
        ours, theirs = _depths(one), _depths(other)
        if len(ours) != len(theirs) or not any(ours):
            continue
        lowest = max(level for level, depth in enumerate(ours) if depth)
        alone = not any(ours[:lowest])
        same_below = ours[lowest:] == theirs[lowest:]
        if alone and same_below and any(theirs[:lowest]):
            yield low, more


def _unet_and_transformer(known: Candidates) -> Iterator[Pair]:
    for unet, transformer in permutations(range(len(known.entries)), 2):
        one, other = known.entries[unet], known.entries[transformer]
        if (
            _is(one, _UNETS)
            and _is(other, _TRANSFORMERS)
            and _alike(one.first.profile.params, other.first.profile.params)
        ):
            yield unet, transformer


def _is(entry: Entry, families: tuple[str, ...]) -> bool:
    return entry.first.family in families


def _rest(entry: Entry, *left_out: str) -> dict[str, object]:
    return {name: value for name, value in entry.first.arch.items() if name not in left_out}


def _alike(one: float, other: float) -> bool:
    return abs(math.log(one / other)) <= math.log1p(ALIKE)


def _width(entry: Entry) -> float:
    return float(entry.first.arch.get("channels", 0))


def _depths(entry: Entry) -> list[int]:
    found = entry.first.arch.get("transformer_depth", [])
    return list(found) if isinstance(found, list) else []


def _depth(entry: Entry) -> int:
    return sum(_depths(entry))
