"""A front in sentences: below a table, and on a page."""

from __future__ import annotations

from collections.abc import Iterable

from nas_t2i.results.figures.wording import interval, number, percent, scaled
from nas_t2i.results.fronts.course import Course
from nas_t2i.results.fronts.front import Front, FrontCost
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name

_COSTS = {"gmacs": "GMACs", "params": "parameters", "compute": "FLOPs", "latency": "ms"}
_OF = {
    "gmacs": "GMACs of one forward pass",
    "params": "parameters",
    "compute": "compute of one run to the last rung",
    "latency": "latency",
}


def front_notes(front: Front) -> list[str]:
    """Return what a reader of a front must know: who it is of, its knee, its hypervolume."""
    place = front.place
    if place is None:
        return []
    of = _OF[front.cost] + (f" on {front.hardware}" if front.hardware else "")
    certain = "the cost is exact"
    if front.cost == "latency":
        certain = "the cost is the median of what was measured, and taken for exact"
    notes = [
        f"P(front): probability that none of the {len(front.among)} is as cheap in {of} and "
        f"better, over the draws of P(best); {certain}",
        _knee(front),
        f"{_hypervolume(front)}; --reference SCORE,COST sets it",
    ]
    if front.limits:
        notes.insert(0, _best_within(front))
    return notes


def sought_note(sought: Iterable[str], metric: str, cost: FrontCost | None) -> str:
    """Say what a study sought (`-gmacs`) that its table is not about; "" for nothing.

    `cost` is that of the front beside it, None where there is no front.
    """
    others = [text for text in sought if text.removeprefix("-") not in (metric, cost)]
    if not others:
        return ""
    what = f"ranked by {display_name(metric)} alone"
    if cost is not None:
        what = f"this front is of {display_name(metric)} against {_OF[cost]} alone"
    return f"{what}; sought too: {', '.join(dict.fromkeys(others))}"


def course_note(front: Front, known: Course) -> str:
    """Return the hypervolume on the way: after how much training it was believed to be what."""
    factor = _factor(front)
    said = ", ".join(
        f"{number(factor * point.hypervolume)} ({number(factor * point.low)} to "
        f"{number(factor * point.high)}) after {number(point.trials)}"
        for point in known.points
    )
    if not said:
        return ""
    return (
        f"hypervolume on the way, by trials to the last rung: {said}; in the order {known.order}; "
        "`nas-t2i results plot hypervolume` draws it"
    )


def front_sentences(front: Front) -> list[str]:
    """Return knee and hypervolume as sentences for a caption."""
    if front.place is None:
        return []
    return [f"{text[0].upper()}{text[1:]}." for text in (_knee(front), _hypervolume(front))]


def price(cost: FrontCost, value: float) -> str:
    """Write a cost with its unit: 100 GMACs, 300 M parameters, 12 ms."""
    if cost == "latency":
        return f"{number(1e3 * value)} ms"
    if cost == "gmacs":
        return f"{number(value)} GMACs"
    return scaled(value, "FLOPs") if cost == "compute" else f"{scaled(value)} parameters"


def _knee(front: Front) -> str:
    how = "the furthest above the line between the front's ends, both axes scaled to them"
    if front.knee is None:
        return f"knee: none; the front of the expected scores bulges nowhere ({how})"
    row = next(row for row in front.among if row.name == front.knee)
    assert row.front is not None
    return (
        f"knee: {row.name}, {price(front.cost, row.front.value)}, with probability "
        f"{percent(row.front.probability_knee)}: {how} (Das 1999)"
    )


def _hypervolume(front: Front) -> str:
    place = front.place
    assert place is not None
    metric = _metric(front)
    unit, factor = _COSTS[front.cost], _factor(front)
    middle, low, high = (
        number(factor * value)
        for value in (place.hypervolume, place.hypervolume_low, place.hypervolume_high)
    )
    level = " (chance)" if front.by_chance else ""
    return (
        f"hypervolume: {middle} ({low} to {high}, 95 %) {metric} x {unit}, from {metric} "
        f"{number(place.reference_score)}{level} {'down' if front.smaller else 'up'} and from "
        f"{price(front.cost, place.reference_cost)} down"
    )


def _factor(front: Front) -> float:
    """Return what a hypervolume is shown times: seconds are told as ms."""
    return 1e3 if front.cost == "latency" else 1.0


def _best_within(front: Front) -> str:
    said = " and ".join(
        f"{most:g} GMACs" if name == "gmacs" else price(name, most)
        for name, most in front.limits.items()
    )
    first, *others = sorted(front.among, key=_chance, reverse=True)
    text = (
        f"best under {said}: {first.name} with probability {percent(_chance(first))}, expected "
        f"{_metric(front)} {number(first.expected_score)} "
        f"({interval(first.expected_low, first.expected_high)})"
    )
    if others:
        text += f"; then {others[0].name}, {percent(_chance(others[0]))}"
    return text


def _chance(row: LeaderboardRow) -> float:
    assert row.front is not None
    return row.front.probability_best


def _metric(front: Front) -> str:
    return display_name(front.rows[0].metric)
