"""Charts as PNG, SVG or PDF. matplotlib, of the extra ``plots``, is loaded on first use."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_t2i.errors import MissingExtraError, UserError, did_you_mean
from nas_t2i.files import write_atomically
from nas_t2i.results.figures.chart import COMPUTE_TITLE, Chart, Role, Series
from nas_t2i.untrusted.show import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = ("png", "svg", "pdf")
_DPI = 200
# Okabe and Ito, "Color Universal Design", 2008, without the yellow that is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#56b4e9", "#7a3e9d", "#000000")
_MARKERS = ("o", "s", "D", "^", "X", "*", "v", "P")
_GREY = "#c2c7cd"
_QUIET = "#555555"


def check_file(file: Path) -> str:
    """Return the format of a file by its ending. Raises UserError: another ending."""
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in SUFFIXES:
        hint = did_you_mean(suffix, SUFFIXES)
        text = f"-o {file}: can't draw {file.suffix or 'a file without an ending'!r}"
        raise UserError(f"{text}; expected one of .{', .'.join(SUFFIXES)}{hint and f'; {hint}'}")
    return suffix


def draw(chart: Chart, file: Path, *, by_compute: bool = False) -> None:
    """Draw a chart; lines and points carry their names beside them.

    Raises:
        UserError: another ending than png, svg or pdf, or no compute in this chart.
        MissingExtraError: matplotlib is not installed.
        StorageError: the file can't be written.
    """
    suffix = check_file(file)
    if by_compute and not any(series.compute for series in chart.series):
        raise UserError("--by-compute: this figure has no training steps on its axis")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing figures", "plots") from None

    height = 1.6 + 0.34 * len(chart.categories) if chart.categories else 4.4
    # A Figure of its own, not pyplot: no global state and no display needed.
    with matplotlib.rc_context({"svg.hashsalt": "nas-t2i", "pdf.fonttype": 42, "font.size": 9}):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        axes = figure.subplots()
        labels = _draw_all(axes, chart, by_compute)
        _dress(axes, chart, by_compute)
        if chart.categories:
            if len(chart.series) > 1 and any(series.rank for series in chart.series):
                figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        else:
            _name_directly(axes, labels)
        buffer = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if suffix == "svg" else {}
        figure.savefig(buffer, format=suffix, dpi=_DPI, metadata=metadata)
    write_atomically(file, buffer.getvalue())


class _Label:
    """A name to stand beside a point."""

    def __init__(self, x: float, y: float, text: str, colour: str) -> None:
        self.x, self.y, self.text, self.colour = x, y, text, colour


def _draw_all(axes: Axes, chart: Chart, by_compute: bool) -> list[_Label]:
    named = [s for s in chart.series if s.role in (Role.BEST, Role.REPORTED)]
    places = {id(series): i for i, series in enumerate(named)}
    labels = []
    order = sorted(chart.series, key=lambda series: series.role is not Role.OTHER)
    for series in order:
        place = places.get(id(series))
        colour = _colour(series, place)
        x = series.compute if by_compute and series.compute else series.x
        x = _side_by_side(chart, x, place, len(named))
        _draw_one(axes, chart, series, x, colour, _MARKERS[(place or 0) % len(_MARKERS)])
        if series.role is not Role.OTHER and not chart.categories and x:
            end = max(range(len(x)), key=lambda i: x[i])
            labels.append(_Label(x[end], float(series.y[end]), _name(series), colour))
    return labels


def _colour(series: Series, place: int | None) -> str:
    if place is not None:
        return _COLOURS[place % len(_COLOURS)]
    return _GREY if series.role is Role.OTHER else _QUIET


def _side_by_side(
    chart: Chart, x: Sequence[float], place: int | None, count: int
) -> tuple[float, ...]:
    """Shift ranks a little: the intervals of one rung would hide each other."""
    if not chart.y_reversed or place is None:
        return tuple(x)
    span = max(v for series in chart.series for v in series.x)
    return tuple(v + (place - (count - 1) / 2) * span * 0.005 for v in x)


def _draw_one(
    axes: Axes,
    chart: Chart,
    series: Series,
    x: Sequence[float],
    colour: str,
    marker: str,
) -> None:
    other = series.role is Role.OTHER
    style = {Role.CONTROL: "--", Role.REFERENCE: ":"}.get(series.role, "-")
    y: list[Any] = (
        [chart.categories.index(str(v)) for v in series.y] if chart.categories else list(series.y)
    )
    if series.low and not other:
        middle = x if chart.categories else y
        ends = [
            [max(0.0, m - low) for m, low in zip(middle, series.low, strict=True)],
            [max(0.0, high - m) for m, high in zip(middle, series.high, strict=True)],
        ]
        error: dict[str, Any] = {"xerr" if chart.categories else "yerr": ends}
        axes.errorbar(x, y, **error, fmt="none", ecolor=colour, elinewidth=1, capsize=2, alpha=0.8)
    axes.plot(
        x,
        y,
        linestyle=style if series.line else "none",
        color=colour,
        linewidth=0.8 if other else 1.6 if series.role is not Role.FRONT else 1.0,
        marker=("x" if series.role is Role.CONTROL else marker) if series.markers else None,
        markersize=3 if other else 6,
        markerfacecolor="white" if series.hollow else colour,
        label=f"_{series.name}" if other else _name(series),
        zorder=1 if other or series.role is Role.FRONT else 3,
    )


def _dress(axes: Axes, chart: Chart, by_compute: bool) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    title = COMPUTE_TITLE if by_compute else chart.x_title
    axes.set_title(_shown(chart.title), loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(_shown(title))
    if chart.x_log or by_compute:
        axes.set_xscale("log")
        left, right = axes.get_xlim()
        few = right < 12 * left  # of little more than a decade, 1, 2 and 5 would be too few
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if few else (1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if chart.categories:
        names = ["\n".join(textwrap.wrap(_shown(name), 40)) for name in chart.categories]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
    else:
        axes.set_ylabel(_shown(chart.y_title))
        if chart.y_reversed:
            worst = max(v for s in chart.series for v in (s.high or s.y) if isinstance(v, float))
            axes.set_ylim(worst + 0.5, 0.5)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _name_directly(axes: Axes, labels: Sequence[_Label]) -> None:
    """Write names to the right of the axes, moved apart, each with a thin line to its point."""
    if not labels:
        return
    low, high = axes.get_ylim()
    step = 0.052
    wanted = sorted(
        ((label.y - low) / (high - low), i) for i, label in enumerate(labels)
    )  # in parts of the axes' height, from below
    places: list[float] = []
    for place, _ in wanted:
        places.append(max(place, places[-1] + step) if places else max(place, 0.0))
    excess = max(0.0, places[-1] - 1.0)
    for i in range(len(places) - 1, -1, -1):  # pushed back from above
        limit = places[i + 1] - step if i + 1 < len(places) else places[-1] - excess
        places[i] = min(places[i], limit)
    for place, (_, i) in zip(places, wanted, strict=True):
        label = labels[i]
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xycoords="data",
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=label.colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": label.colour, "alpha": 0.4, "linewidth": 0.6},
        )


def _name(series: Series) -> str:
    name = _shown(series.name)
    return f"{series.rank}. {name}" if series.rank else name


def _shown(text: str) -> str:
    """Return text on one line in which matplotlib sees no formula."""
    return one_line(text).replace("$", r"\$")
