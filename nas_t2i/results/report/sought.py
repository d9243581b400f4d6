"""The front that studies sought, as a table of the page."""

from __future__ import annotations

from dataclasses import dataclass

from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import interval, percent, score
from nas_t2i.results.fronts.front import LEAST_SHOWN, Front
from nas_t2i.results.fronts.place import FrontPlace
from nas_t2i.results.fronts.wording import front_sentences, objective_names, price, probability_note


@dataclass(frozen=True)
class SoughtFront:
    """The probable members of the front, the cheapest first, and what is known of all of it."""

    objectives: str
    caption: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    """Each name with its cells."""
    sentences: list[str]
    least: str
    """The probability that a member has at least."""


def sought_front(found: RankedStudies) -> SoughtFront | None:
    """Return the front of the objectives that all studies sought alike; None where there is none.

    Raises as `nas_t2i.results.fronts.front.with_front`.
    """
    front = found.sought
    if front is None or front.place is None:
        return None
    return SoughtFront(
        objectives=", ".join(map(str, front.objectives)),
        caption=probability_note(front),
        columns=[
            *objective_names(front),
            "P(front)",
            *(["P(knee)"] if front.may_bend else []),
        ],
        rows=[
            (f"{row.rank}. {row.name}", _cells(front, row.front))
            for row in front.shown
            if row.front
        ],
        sentences=front_sentences(front),
        least=percent(LEAST_SHOWN),
    )


def _cells(front: Front, place: FrontPlace) -> list[str]:
    scores = [place.scores[metric] for metric in front.metrics]
    return [
        *(f"{score(one.expected)} ({interval(one.low, one.high)})" for one in scores),
        *(price(cost, place.costs[cost]) for cost in front.costs),
        percent(place.probability),
        *([percent(place.probability_knee)] if front.may_bend else []),
    ]
