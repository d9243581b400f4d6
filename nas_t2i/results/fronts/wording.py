"""A front in sentences: below a table, and on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_t2i.results.figures.wording import interval, number, percent, scaled
from nas_t2i.results.fronts.course import Course
from nas_t2i.results.fronts.front import Front
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
    if front.place is None:
        return []
    notes = [
        probability_note(front),
        *_knee(front),
        f"{_hypervolume(front)}; --reference {','.join(_reference(front))} sets it",
    ]
    if front.limits:
        notes.insert(0, _best_within(front))
    return notes


def sought_note(sought: Sequence[str], metric: str, front: Front | None) -> str:
    """Say what a study sought (tifa, -gmacs) where its table is of something else; else ""."""
    if not sought or (front is not None and set(sought) == set(map(str, front.objectives))):
        return ""
    of = f"ranked by {display_name(metric)} alone"
    if front is not None:
        of = f"this front is of {', '.join(map(str, front.objectives))}"
    return f"{of}; sought: {', '.join(sought)}, which --pareto shows the front of"


def course_note(front: Front, known: Course) -> str:
    """Return the hypervolume on the way: after how much training it was believed to be what."""
    factor = shown_factor(front)
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
    return [f"{text[0].upper()}{text[1:]}." for text in (*_knee(front), _hypervolume(front))]


def price(cost: str, value: float) -> str:
    """Write a cost with its unit: 100 GMACs, 300 M parameters, 12 ms."""
    if cost == "latency":
        return f"{number(1e3 * value)} ms"
    if cost == "gmacs":
        return f"{number(value)} GMACs"
    return scaled(value, "FLOPs") if cost == "compute" else f"{scaled(value)} parameters"


def objective_names(front: Front) -> list[str]:
    """Return what the objectives of a front are called, scores first: TIFA, GMACs."""
    return [*map(display_name, front.metrics), *(_COSTS[cost] for cost in front.costs)]


def reference_words(front: Front) -> str:
    """Say where the hypervolume is counted from: TIFA .25 (chance) up and 180 GMACs down."""
    place = front.place
    assert place is not None
    said = []
    for one in front.objectives:
        value, way = place.reference[one.name], "down" if one.sign < 0 else "up"
        if one.exact:
            said.append(f"{price(one.name, value)} {way}")
        else:
            level = " (chance)" if one.name in front.by_chance else ""
            said.append(f"{display_name(one.name)} {number(value)}{level} {way}")
    return _listed(said)


def probability_note(front: Front) -> str:
    """Say what P(front) is the probability of."""
    of = [_OF[cost] for cost in front.costs]
    if "latency" in front.costs:
        of[front.costs.index("latency")] += f" on {front.hardware}"
    alike = [f"as good in {_listed(map(display_name, front.metrics))}"]
    if of:
        alike.append(f"as cheap in {_listed(of)}")
    text = (
        f"P(front): probability that none of the {len(front.among)} is {' and '.join(alike)}, and "
        "better in one of them, over the draws of P(best)"
    )
    if "latency" in front.costs:
        text += "; the latency is the median of what was measured, and taken for exact"
    elif front.costs:
        text += "; " + ("costs are" if len(front.costs) > 1 else "the cost is") + " exact"
    if len(front.metrics) > 1:
        text += (
            f"; {_listed(map(display_name, front.metrics))} are drawn independently: what a lucky "
            "seed does to both is not in it"
        )
    return text


def _knee(front: Front) -> list[str]:
    """Return the knee's sentence; none of a front that can't have one."""
    if not front.may_bend:
        return []
    how = "the furthest above the line between the front's ends, both axes scaled to them"
    if front.knee is None:
        return [f"knee: none; the front of the expected scores bulges nowhere ({how})"]
    row = next(row for row in front.among if row.name == front.knee)
    assert row.front is not None
    (cost,) = front.costs
    return [
        f"knee: {row.name}, {price(cost, row.front.costs[cost])}, with probability "
        f"{percent(row.front.probability_knee)}: {how} (Das 1999)"
    ]


def _hypervolume(front: Front) -> str:
    place, factor = front.place, shown_factor(front)
    assert place is not None
    middle, low, high = (
        number(factor * value)
        for value in (place.hypervolume, place.hypervolume_low, place.hypervolume_high)
    )
    return (
        f"hypervolume: {middle} ({low} to {high}, 95 %) {' x '.join(objective_names(front))}, from "
        f"{reference_words(front)}"
    )


def _reference(front: Front) -> list[str]:
    """Return what --reference takes, in words: SCORE,COST."""
    return ["COST" if one.exact else "SCORE" for one in front.objectives]


def shown_factor(front: Front) -> float:
    """Return what a hypervolume is shown times: seconds are told as ms."""
    return 1e3 if "latency" in front.costs else 1.0


def _best_within(front: Front) -> str:
    said = " and ".join(
        f"{most:g} GMACs" if name == "gmacs" else price(name, most)
        for name, most in front.limits.items()
    )
    first, *others = sorted(front.among, key=_chance, reverse=True)
    assert first.front is not None
    metric = front.metrics[0]
    score = first.front.scores[metric]
    text = (
        f"best under {said}: {first.name} with probability {percent(_chance(first))}, expected "
        f"{display_name(metric)} {number(score.expected)} ({interval(score.low, score.high)})"
    )
    if others:
        text += f"; then {others[0].name}, {percent(_chance(others[0]))}"
    return text


def _chance(row: LeaderboardRow) -> float:
    assert row.front is not None
    return row.front.probability_best


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
