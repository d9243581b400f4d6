"""Regret against compute and against simulated time. matplotlib is loaded on first use."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_t2i.errors import MissingExtraError, UserError, did_you_mean
from nas_t2i.files import write_atomically
from nas_t2i.results.metrics import display_name
from nas_t2i.statistics import FloatArray
from nas_t2i.untrusted.show import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas_t2i.benchmark.replay.run import Benchmark, Result

SUFFIXES = ("png", "svg", "pdf")
_DPI = 150
# Okabe & Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
_STYLES = ("-", "--", "-.", ":")
_MOST_LINES = 8  # of one panel; more methods stand in a panel for each stopping rule
_LEAST_GAP = 0.055  # between two names, as a share of a panel's height
_FLOOR = 1e-4  # regret below it is drawn there: the axis is logarithmic


def draw(found: Benchmark, file: Path) -> None:
    """Draw regret over compute and over time; a line a method, its band the 95 % interval.

    With objectives it is the hypervolume that the front lacks.

    Raises:
        UserError: the ending names no format.
        MissingExtraError: matplotlib is not installed.
        StorageError: the file can't be written.
    """
    suffix = check_suffix(file)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing a benchmark", "plots") from None
    workers = list(dict.fromkeys(result.method.workers for result in found.results))
    panels = _panels(found, workers)
    columns = max(len(row) for row in panels)
    figure = Figure(figsize=(1.2 + 4.6 * columns, 0.9 + 3.1 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False, sharey=True)
    for axes_row, row in zip(grid, panels, strict=True):
        for axes, (title, results, over_time) in zip(axes_row, row, strict=True):
            # The same lines twice, over compute and over time, need their names once.
            named = axes is axes_row[-1] or results is not row[-1][1]
            _panel(axes, found, results, title=title, over_time=over_time, named=named)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"{_what(found)}\n(drawn at {_FLOOR:g} or more)")
    name = one_line(found.table.name)
    figure.suptitle(
        f"{name}: {found.architectures} architectures, {found.repeats} repeats "
        "(interquartile mean; band: its 95 % interval)",
        fontsize="medium",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=_DPI)
    write_atomically(file, buffer.getvalue())


def check_suffix(file: Path) -> str:
    """Return the format that a file's ending names. Raises UserError."""
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in SUFFIXES:
        hint = did_you_mean(suffix, SUFFIXES)
        raise UserError(
            f"-o {file}: can't draw {file.suffix or 'a file without an ending'!r}; expected one "
            f"of .{', .'.join(SUFFIXES)}" + (f"; {hint}" if hint else "")
        )
    return suffix


_Panel = tuple[str, "Sequence[Result]", bool]


def _panels(found: Benchmark, workers: Sequence[int]) -> list[list[_Panel]]:
    """Return the rows of panels: title, lines, and whether the axis is time."""
    rows: list[list[_Panel]] = []
    for count in workers:
        side = f"{count} at a time"
        own = [result for result in found.results if result.method.workers == count]
        if len(own) <= _MOST_LINES:
            rows.append([(side, own, False), (side, own, True)])
            continue
        stoppers = list(dict.fromkeys(result.method.stopper.text for result in own))
        for over_time in (False, True):
            rows.append(
                [
                    (
                        f"{stopper}, {side}",
                        [result for result in own if result.method.stopper.text == stopper],
                        over_time,
                    )
                    for stopper in stoppers
                ]
            )
    return rows


def _panel(
    axes: Axes,
    found: Benchmark,
    results: Sequence[Result],
    *,
    title: str,
    over_time: bool,
    named: bool,
) -> None:
    samplers = len({result.method.sampler.text for result in results})
    stoppers = len({result.method.stopper.text for result in results})
    ends: list[tuple[float, str, str]] = []
    for number, result in enumerate(results[: len(_COLOURS) * len(_STYLES)]):
        colour = _COLOURS[number % len(_COLOURS)]
        style = _STYLES[number % len(_STYLES)] if samplers * stoppers > 1 else "-"
        x: Any = result.seconds / 60 if over_time else found.compute
        value, low, high = (np.maximum(part, _FLOOR) for part in _shown(found, result))
        axes.plot(x, value, style, color=colour, linewidth=1.6)
        axes.fill_between(x, low, high, color=colour, alpha=0.09, linewidth=0)
        method = result.method
        name = method.sampler.text if stoppers == 1 else method.stopper.text
        name = name if samplers == 1 or stoppers == 1 else method.label
        ends.append((float(value[-1]), one_line(name), colour))
    axes.set_yscale("log")
    most = 1.0 if found.conditions.objectives else found.guess
    axes.set_ylim(_FLOOR * 0.8, max(most * 1.3, 10 * _FLOOR))
    axes.set_title(title, fontsize="small", loc="left")
    axes.set_xlabel("simulated minutes" if over_time else "compute, trials to the last rung")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    if named:
        _name_lines(axes, ends)
    if found.conditions.objectives:
        return
    axes.axhline(found.guess, color="0.5", linestyle=(0, (1, 3)), linewidth=1)
    axes.annotate(
        "drawn at random",
        (0.99, found.guess),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        fontsize="x-small",
        color="0.4",
    )


def _what(found: Benchmark) -> str:
    if found.conditions.objectives:
        return f"hypervolume of {', '.join(found.conditions.objectives)} that the front lacks"
    return f"regret in {display_name(found.table.metric)}"


def _shown(found: Benchmark, result: Result) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return value, low and high of what is drawn."""
    if found.conditions.objectives:
        front = result.front
        return 1 - front.value, 1 - front.high, 1 - front.low
    return result.regret.value, result.regret.low, result.regret.high


def _name_lines(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each line's name beside its end, moved apart where they would overlap."""
    low, high = np.log(axes.get_ylim())
    places = [(float(np.log(value) - low) / (high - low), name, c) for value, name, c in ends]
    places.sort()
    at = -_LEAST_GAP
    heights = []
    for place, *_ in places:
        at = max(place, at + _LEAST_GAP)
        heights.append(at)
    over = max(0.0, heights[-1] - 0.98) if heights else 0.0
    for (_, name, colour), height in zip(places, heights, strict=True):
        axes.annotate(
            name,
            (1.015, height - over),
            xycoords="axes fraction",
            va="center",
            fontsize="x-small",
            color=colour,
            annotation_clip=False,
        )
