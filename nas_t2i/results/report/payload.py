"""Charts as JSON inside a page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from nas_t2i.results.figures.chart import Chart, Series
from nas_t2i.untrusted.show import one_line, printable

_DIGITS = 5  # significant ones: more are no pixel


def chart_json(chart: Chart) -> str:
    """Return a chart as JSON that can stand in a script element, whatever names are in it."""
    data = {
        "key": chart.key,
        "title": one_line(chart.title),
        "xTitle": one_line(chart.x_title),
        "yTitle": one_line(chart.y_title),
        "xLog": chart.x_log,
        "yReversed": chart.y_reversed,
        "categories": [one_line(name) for name in chart.categories],
        "series": [_series(series) for series in chart.series],
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # No tag, comment or entity can begin: JSON spells these characters as well.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _series(series: Series) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": one_line(series.name),
        "role": series.role.value,
        "x": _numbers(series.x),
        "y": [_short(y) if isinstance(y, float) else one_line(str(y)) for y in series.y],
    }
    for key, values in (
        ("low", series.low),
        ("high", series.high),
        ("compute", series.compute),
    ):
        if values:
            data[key] = _numbers(values)
    if series.hover:
        data["hover"] = [printable(text) for text in series.hover]
    if series.rank:
        data["rank"] = series.rank
    for key, value in (("hollow", series.hollow), ("noLine", not series.line)):
        if value:
            data[key] = 1
    if not series.markers:
        data["noMarkers"] = 1
    return data


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [_short(value) for value in values]


def _short(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
