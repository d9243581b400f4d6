"""Numbers as people read them."""

from __future__ import annotations


def compact(count: float) -> str:
    """Return a count with three figures and K, M or B: ``1.32 B``."""
    for unit, name in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.3g}"


def gmacs_text(gmacs: float) -> str:
    """Return GMACs with three figures: ``0.107``, ``99.5``, ``1,432``."""
    return f"{gmacs:,.0f}" if gmacs >= 100 else f"{gmacs:.3g}"


def duration(seconds: float) -> str:
    """Return a time as ``42s``, ``3m05s`` or ``2h07m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
