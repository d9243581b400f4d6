"""How a metric is called where people read it."""

from __future__ import annotations

_NAMES = {"tifa": "TIFA", "heldout_r2": "held-out R²"}


def display_name(metric: str) -> str:
    """Return what tables and pictures call a metric; "score" for "" (nothing is scored yet)."""
    return _NAMES.get(metric, metric) or "score"
