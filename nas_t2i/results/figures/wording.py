"""Numbers as people read them."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """Return a score or size with so many significant digits; "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    value = float(f"{value:.{digits}g}")
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{places}f}"


def score(value: float | None) -> str:
    """Return a score with three decimals."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a probability in percent; one near 0 or 1 is "<1 %" or ">99 %"."""
    if share is None:
        return "-"
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def scaled(value: float | None, unit: str = "") -> str:
    """Return a large number with a prefix: 2.39 B parameters are 2.39e9, 1.2 PFLOPs 1.2e15."""
    if value is None or not math.isfinite(value):
        return "-"
    prefixes = ("", "k", "M", "B") if unit == "" else ("", "k", "M", "G", "T", "P", "E", "Z")
    size = 0
    while abs(value) >= 999.5 and size < len(prefixes) - 1:
        value, size = value / 1000, size + 1
    return f"{number(value)} {prefixes[size]}{unit}".rstrip()


def duration(seconds: float) -> str:
    """Return a time: 42 s, 7 min 11 s, 3 h 5 min, 2 d 4 h."""
    whole = round(seconds)
    for name, size, lower, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part} {lower}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{number(seconds, 2)} s"


def interval(low: float | None, high: float | None) -> str:
    """Return the two ends of an interval of scores."""
    return f"{score(low)} to {score(high)}"
