"""Learning curves of every metric and signal on record."""

from __future__ import annotations

from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.results.entries import Entry, last_step
from nas_t2i.results.figures.chart import Chart, Role, Series
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import scaled, score
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name


def curve(found: RankedStudies, quantity: str) -> Chart | None:
    """Return one metric or signal against steps and training compute; None without points."""
    entries = found.entries(quantity)
    series = [
        _line(found, row, _furthest(entry), quantity)
        for row in found.rows
        if (entry := entries.get((row.arch_id, row.control)))
    ]
    if not series:
        return None
    name, over = display_name(quantity), "prompts"
    if quantity in SIGNALS:
        name, over = f"{name} ({SIGNALS[quantity].unit})", "pairs"
    if _is_smaller_better(quantity):
        name += ", smaller is better"
    chances = {row.chance for row in found.rows if row.chance is not None}
    if quantity == found.metric and len(chances) == 1:
        series.append(_chance(chances.pop(), series))
    return Chart(
        key=f"curve-{quantity.replace('_', '-').replace('.', '-')}",
        title=f"{display_name(quantity)} while training",
        caption=(
            "A line is one architecture, the mean over those of its seeds that went furthest; "
            f"intervals are two standard errors over {over} to either side, without seed noise. "
            f"{'Smaller' if _is_smaller_better(quantity) else 'Larger'} is better."
        ),
        x_title="training steps",
        y_title=name,
        series=tuple(series),
    )


def _furthest(entry: Entry) -> Entry:
    """Return an entry of the seeds that went furthest alone.

    The others would end the line where they were stopped, or make a step in it.
    """
    last = max(last_step(trial) for trial in entry.trials)
    return Entry(tuple(t for t in entry.trials if last_step(t) == last), entry.metric)


def _is_smaller_better(quantity: str) -> bool:
    return SIGNALS[quantity].better == "smaller" if quantity in SIGNALS else quantity == "fid"


def _line(found: RankedStudies, row: LeaderboardRow, entry: Entry, quantity: str) -> Series:
    means = [entry.mean(step) for step in entry.steps]
    errors = [2 * (stderr or 0.0) for _, stderr in means]
    compute = []
    for step in entry.steps:
        points = entry.points(step)
        compute.append(sum(point.training_flops for point in points) / len(points))
    seeds = len(entry.counted)
    return Series(
        name=row.name,
        role=found.role(row),
        x=tuple(float(step) for step in entry.steps),
        y=tuple(value for value, _ in means),
        low=tuple(value - error for (value, _), error in zip(means, errors, strict=True)),
        high=tuple(value + error for (value, _), error in zip(means, errors, strict=True)),
        compute=tuple(compute),
        hover=tuple(
            f"{display_name(quantity)} {score(value)} ± {score(error / 2)} "
            f"at step {step}\n{scaled(flops, 'FLOPs')}, {seeds} seed{'s' if seeds > 1 else ''}"
            for step, (value, _), error, flops in zip(
                entry.steps, means, errors, compute, strict=True
            )
        ),
        rank=row.rank,
    )


def _chance(chance: float, series: list[Series]) -> Series:
    ends = [[s.x[0] for s in series], [s.x[-1] for s in series]]
    costs = [[s.compute[0] for s in series], [s.compute[-1] for s in series]]
    return Series(
        name=f"chance {chance:.3f}",
        role=Role.REFERENCE,
        x=(min(ends[0]), max(ends[1])),
        y=(chance, chance),
        compute=(min(costs[0]), max(costs[1])),
        markers=False,
    )
