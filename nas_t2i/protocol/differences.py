"""In what two budgets differ: what must be alike before one number says anything of another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nas_t2i.protocol.budget import Budget

Keys = tuple[str, ...]

EXECUTION: tuple[Keys, ...] = (
    ("name",),
    ("search",),
    ("execution",),
    ("training", "device"),
    ("training", "zero_stage"),
    ("training", "threads"),
    ("data", "cache"),
    ("evaluation", "sampler", "batch"),
)
"""Who is tried, and how and where it is run: nothing that a score means."""

_KINDS = ("source", "encoder", "codec")  # of another kind no key means the same


def differing(one: Budget, other: Budget, free: Iterable[Keys] = EXECUTION) -> list[str]:
    """Return the key paths, two deep at most, in which two budgets differ, but for `free` ones.

    A section of another kind (another data source, another codec) is named as a whole.
    """
    first, second = _without(one, free), _without(other, free)
    return sorted(
        f"{section}.{key}" if key else section
        for section in first.keys() | second.keys()
        for key in _unlike(first.get(section), second.get(section))
    )


def _unlike(one: Any, other: Any) -> list[str]:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [""]
    if any(name in one and one.get(name) != other.get(name) for name in _KINDS):
        return [""]
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def _without(budget: Budget, free: Iterable[Keys]) -> dict[str, Any]:
    data: dict[str, Any] = budget.model_dump(mode="json")
    for *parents, last in free:
        inner = data
        for key in parents:
            inner = inner[key]
        inner.pop(last, None)
    return data
