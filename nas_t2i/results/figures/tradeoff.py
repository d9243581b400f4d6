"""Score against what an architecture costs, with the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from nas_t2i.errors import IncomparableError
from nas_t2i.results.figures.chart import COMPUTE_TITLE, Chart, Role, Series
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import interval, percent, scaled, score
from nas_t2i.results.fronts.latencies import recorded_latencies
from nas_t2i.results.fronts.wording import front_sentences, price
from nas_t2i.results.leaderboard import Cost, LeaderboardRow
from nas_t2i.results.metrics import display_name

Axis = Cost | Literal["latency_s"]

_TITLES = {
    "gmacs": "GMACs of one forward pass, full architecture",
    "params": "parameters, full architecture",
    "training_flops": COMPUTE_TITLE,
    "latency_s": "seconds of one forward pass, full architecture",
}
_NAMES = {
    "gmacs": "GMACs",
    "params": "parameters",
    "training_flops": "training compute",
    "latency_s": "latency",
}
_EXPECTED = (
    "A point is one architecture: its expected {metric} at the last rung, over seeds, with the "
    "95 % interval. Hollow: predicted from earlier rungs, not measured. The line is the Pareto "
    "front of those measured: nothing measured is both cheaper and better. It takes expected "
    "scores at face value; how probable it is that a point is on the front is told on hovering."
)
_REACHED = (
    "A point is one architecture: its {metric} at the last rung it reached, with two standard "
    "errors over prompts to either side; seed noise is not in them. Score and compute are of the "
    "same moment, so those stopped early count too. The line is the Pareto front."
)


def tradeoff(found: RankedStudies, cost: Axis) -> Chart | None:
    """Return score against params, GMACs, training compute or latency.

    None where nothing is scored, or latencies were not measured, or not all alike.
    """
    reached = cost == "training_flops"
    rows = [row for row in found.rows if _is_drawn(row, reached) and getattr(row, cost) is not None]
    if not rows or (cost == "latency_s" and not (hardware := _hardware(found))):
        return None
    metric = display_name(found.metric)
    smaller = found.smaller_is_better
    value = _score if reached else _expected
    measured = [row for row in rows if not row.control and not row.predicted]
    front = pareto_front(measured, cost, value, smaller=smaller)
    caption, sure = _REACHED.format(metric=metric), {}
    if cost != "training_flops":
        probable = found.front("latency" if cost == "latency_s" else cost)
        sure = {row.rank: row.front.probability for row in probable.among if row.front}
        caption = " ".join([_EXPECTED.format(metric=metric), *front_sentences(probable)])
    series = [_point(found, row, cost, reached, sure.get(row.rank)) for row in rows]
    series.append(
        Series(
            name="Pareto front",
            role=Role.FRONT,
            x=tuple(float(getattr(row, cost)) for row in front),
            y=tuple(value(row) for row in front),
            markers=False,
        )
    )
    return Chart(
        key=f"score-{cost.replace('_', '-')}",
        title=f"{metric} against {_NAMES[cost]}",
        caption=caption,
        x_title=_TITLES[cost] + (f", on {hardware}" if cost == "latency_s" else ""),
        y_title=metric if reached else f"expected {metric}",
        x_log=True,
        series=tuple(series),
    )


def pareto_front(
    rows: Sequence[LeaderboardRow],
    cost: Axis,
    value: Callable[[LeaderboardRow], float],
    *,
    smaller: bool = False,
) -> list[LeaderboardRow]:
    """Return the rows that no other beats in both value and cost, cheapest first."""
    sign = -1 if smaller else 1
    front: list[LeaderboardRow] = []
    for row in sorted(rows, key=lambda r: (getattr(r, cost), -sign * value(r))):
        if not front or sign * value(row) > sign * value(front[-1]):
            front.append(row)
    return front


def _hardware(found: RankedStudies) -> str:
    """Return what all latencies hold for; "" where some are missing, or are of two machines."""
    timed = [trial for trial in found.trials if not trial.control]
    try:
        known = recorded_latencies(timed)
    except IncomparableError:
        return ""
    return known.described if known and all(trial.latency for trial in timed) else ""


def _is_drawn(row: LeaderboardRow, reached: bool) -> bool:
    if reached:
        sound = row.probability_best is not None or bool(row.control)
        return sound and row.score is not None and bool(row.training_flops)
    return row.expected_score is not None


def _expected(row: LeaderboardRow) -> float:
    assert row.expected_score is not None
    return row.expected_score


def _score(row: LeaderboardRow) -> float:
    assert row.score is not None
    return row.score


def _point(
    found: RankedStudies, row: LeaderboardRow, cost: Axis, reached: bool, on_front: float | None
) -> Series:
    value = _score(row) if reached else _expected(row)
    if reached:
        error = 2 * (row.score_stderr or 0.0)
        low, high = value - error, value + error
    else:
        assert row.expected_low is not None and row.expected_high is not None
        low, high = row.expected_low, row.expected_high
    size = scaled(row.training_flops, "FLOPs") if reached else f"{row.gmacs:.1f} GMACs"
    hover = (
        f"{score(value)} ({interval(low, high)})\n"
        f"{scaled(row.params)} parameters, {size}\nstep {row.step}, {row.state}"
    )
    if row.latency_s is not None:
        hover += f"\n{price('latency', row.latency_s)} a forward pass"
    if on_front is not None:
        hover += f"\non the front with probability {percent(on_front)}"
    return Series(
        name=row.name,
        role=found.role(row),
        x=(float(getattr(row, cost)),),
        y=(value,),
        low=(low,),
        high=(high,),
        hover=(hover,),
        hollow=row.predicted and not reached,
        line=False,
        rank=row.rank,
    )
