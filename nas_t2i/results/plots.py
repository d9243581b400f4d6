"""Learning curves as an image. matplotlib, of the extra ``plots``, is loaded on first use."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_t2i.errors import MissingExtraError, RecordError, UserError, did_you_mean
from nas_t2i.files import write_atomically
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import TrialRecord
from nas_t2i.results.entries import (
    Entry,
    check_metric,
    group_entries,
    measured_signals,
    with_one_metric,
)
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.metrics import display_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = ("png", "svg", "pdf")
_DPI = 150
_MOST_NAMED = 20  # lines with a colour and a name of their own; more can't be told apart


def plot_curves(
    trials: Sequence[TrialRecord], file: str | Path, *, title: str = "", metric: str = ""
) -> None:
    """Draw scores against steps and against training compute, one line an architecture.

    `metric` draws an additional metric of the budget instead of the ranked one. A line is
    the mean over seeds, its band one standard error over prompts to either side; controls
    are dashed, chance is a dotted line where the metric has it. The format follows the ending: png,
    svg or pdf.

    Raises:
        UserError: another ending.
        RecordError: no trial has reached a rung, or none has a score of the metric.
        MissingExtraError: matplotlib is not installed.
        IncomparableError: trials of two metrics, budgets or metric signatures.
        StorageError: the file can't be written.
    """
    file = Path(file)
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in _SUFFIXES:
        hint = did_you_mean(suffix, _SUFFIXES)
        text = f"-o {file}: can't draw {file.suffix or 'a file without an ending'!r}"
        raise UserError(f"{text}; expected one of .{', .'.join(_SUFFIXES)}{hint and f'; {hint}'}")
    rows = [row for row in rank_trials(trials) if row.score is not None]
    if not rows:
        raise RecordError(f"{title or 'these trials'}: no trial has reached a rung yet")
    ranked_by = rows[0].metric
    measured = [name for trial in trials for point in trial.curve for name in point.scores]
    measured += measured_signals(trials)
    drawn = check_metric(metric or ranked_by, measured, title or "these trials")
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
    except ImportError:
        raise MissingExtraError("drawing curves", "plots") from None

    groups = group_entries(with_one_metric(trials, drawn))
    entries = {(e.first.arch_id, e.first.control): e for e in groups if e.steps}
    rows = [row for row in rows if (row.arch_id, row.control) in entries]
    # A Figure of its own, not pyplot: no global state and no display needed.
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    by_step, by_compute = figure.subplots(1, 2, sharey=True)
    colours = colormaps["tab10" if len(rows) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for index, row in enumerate(rows):
        named = index < _MOST_NAMED
        colour = colours[index % len(colours)] if named else "0.75"
        label = f"{row.rank}. {row.name}" if named else ""
        entry = entries[row.arch_id, row.control]
        _draw_line(by_step, by_compute, entry, row, colour=colour, label=label)
    for axes in (by_step, by_compute):
        if drawn == ranked_by:
            _draw_chance(axes, rows)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    name, over = display_name(drawn), "prompts"
    if drawn == "fid":
        name, over = f"{name}, smaller is better", "images"
    if drawn in SIGNALS:
        name, over = f"{name}, {SIGNALS[drawn].unit}", "pairs"
    by_step.set(
        xlabel="training steps", ylabel=f"{name} (mean over seeds; band: ±1 SE over {over})"
    )
    by_step.set_xlim(left=0)
    by_compute.set(xlabel="training compute of what was trained (FLOPs; T is 1e12)", xscale="log")
    by_compute.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    by_compute.xaxis.set_major_formatter(EngFormatter())
    by_compute.xaxis.set_minor_locator(NullLocator())
    figure.suptitle(title or f"Study {', '.join(dict.fromkeys(row.study for row in rows))}")
    figure.legend(
        title=f"ranked by {display_name(ranked_by)}",
        loc="outside right center",
        fontsize="small",
        frameon=False,
    )

    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=_DPI)
    write_atomically(file, buffer.getvalue())


def _draw_line(
    by_step: Axes,
    by_compute: Axes,
    entry: Entry,
    row: LeaderboardRow,
    *,
    colour: tuple[float, float, float] | str,
    label: str,
) -> None:
    means = [entry.mean(step) for step in entry.steps]
    values = [value for value, _ in means]
    low = [value - (stderr or 0.0) for value, stderr in means]
    high = [value + (stderr or 0.0) for value, stderr in means]
    compute = [
        sum(p.training_flops for p in points) / len(points)
        for points in (entry.points(step) for step in entry.steps)
    ]
    style = "--" if row.control else "-"
    for axes, x in ((by_step, entry.steps), (by_compute, compute)):
        axes.plot(
            x,
            values,
            style,
            color=colour,
            marker="o",
            markersize=4,
            # The legend is the figure's: a name on one of the two axes is enough.
            label=label if axes is by_step else "",
        )
        if len(values) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        else:  # a band has no width here
            axes.vlines(x, low, high, color=colour, alpha=0.4, linewidth=4)


def _draw_chance(axes: Axes, rows: Sequence[LeaderboardRow]) -> None:
    for chance in sorted({row.chance for row in rows if row.chance is not None}):
        axes.axhline(chance, color="0.4", linestyle=":", linewidth=1)
        axes.annotate(
            f"chance {chance:.3f}",
            (0.01, chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            va="top",
            fontsize="small",
            color="0.4",
        )
