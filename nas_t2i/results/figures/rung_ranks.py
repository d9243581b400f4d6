"""The rank of every architecture at each rung: how early could one have known?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.errors import IncomparableError
from nas_t2i.results.correlations import Correlation, spearman_interval
from nas_t2i.results.entries import with_one_metric
from nas_t2i.results.figures.chart import Chart, Series
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.metrics import display_name

Key = tuple[str, str]


@dataclass(frozen=True)
class RungRanking:
    """What was known at one rung, from nothing that came later."""

    step: int
    quantity: str
    """Ranked by: the metric where it was measured, a signal at a cheap rung."""
    ranks: dict[Key, tuple[int, int, int]]
    """Place, and the 95 % interval of the rank, by architecture and control."""
    agreement: Correlation | None
    """Spearman's correlation with the final expected scores, of those measured at the last rung;
    None with fewer than four."""
    compared: int
    """How many that is of."""
    winner_place: int | None
    """Where the final best stood then; None: it had not been measured."""


def rung_rankings(found: RankedStudies) -> list[RungRanking]:
    """Return the ranking at every rung, with what was on record of it and of earlier rungs."""
    steps = sorted({point.step for trial in found.trials for point in trial.curve})
    rankings = (_at(found, step) for step in steps)
    return [ranking for ranking in rankings if ranking is not None]


def rung_rank_chart(found: RankedStudies, rankings: list[RungRanking]) -> Chart | None:
    """Return the rank at each rung as lines; None where there are fewer than two rungs."""
    if len(rankings) < 2:
        return None
    series = [s for row in found.sound if (s := _line(found, row, rankings))]
    return Chart(
        key="rung-ranks",
        title="Rank at each rung",
        caption=(
            "Where each architecture stood when a rung had been reached, from what was on record "
            "up to there, with the 95 % interval of its rank. Rungs without a score are ranked by "
            "the signal named in the table. Wide intervals early mean that one could not have "
            "known."
        ),
        x_title="training steps",
        y_title="rank (1 is best)",
        y_reversed=True,
        series=tuple(series),
    )


def _at(found: RankedStudies, step: int) -> RungRanking | None:
    reached = [point for t in found.trials for point in t.curve if point.step == step]
    measured = {name for point in reached for name in (*point.scores, *point.signals)}
    quantity = next((name for name in found.quantities if name in measured), None)
    if quantity is None:
        return None
    try:
        rows = _rows_then(found, step, quantity)
    except IncomparableError:  # an additional metric or signal that was not measured alike
        return None
    known = [row for row in rows if row.rank_low is not None and row.rank_high is not None]
    ranks = {
        (row.arch_id, row.control): (place, row.rank_low or 0, row.rank_high or 0)
        for place, row in enumerate(known, start=1)
    }
    finals = [
        row
        for row in found.sound
        if row.measured_seeds and row.expected_score is not None and _key(row) in ranks
    ]
    then = np.array([-ranks[_key(row)][0] for row in finals], dtype=np.float64)
    last = np.array([-place for place, _ in enumerate(finals)], dtype=np.float64)
    return RungRanking(
        step=step,
        quantity=quantity,
        ranks=ranks,
        agreement=spearman_interval(then, last) if len(finals) > 3 else None,
        compared=len(finals),
        winner_place=ranks[_key(found.sound[0])][0]
        if found.sound and _key(found.sound[0]) in ranks
        else None,
    )


def _rows_then(found: RankedStudies, step: int, quantity: str) -> Sequence[LeaderboardRow]:
    """Return the ranking by a quantity from what is on record up to a rung."""
    last = max(point.step for trial in found.trials for point in trial.curve)
    if (step, quantity) == (last, found.metric):
        return found.rows  # nothing came later
    trials = [
        trial.model_copy(update={"curve": [p for p in trial.curve if p.step <= step]})
        for trial in found.trials
    ]
    return rank_trials(with_one_metric(trials, quantity))


def _line(found: RankedStudies, row: LeaderboardRow, rankings: list[RungRanking]) -> Series | None:
    points = [(r, r.ranks[_key(row)]) for r in rankings if _key(row) in r.ranks]
    if not points:
        return None
    return Series(
        name=row.name,
        role=found.role(row),
        x=tuple(float(ranking.step) for ranking, _ in points),
        y=tuple(float(place) for _, (place, _, _) in points),
        low=tuple(float(low) for _, (_, low, _) in points),
        high=tuple(float(high) for _, (_, _, high) in points),
        hover=tuple(
            f"rank {place} ({low} to {high}) at step {ranking.step}, "
            f"by {display_name(ranking.quantity)}"
            for ranking, (place, low, high) in points
        ),
        rank=row.rank,
    )


def _key(row: LeaderboardRow) -> Key:
    return row.arch_id, row.control
