"""Architectures as a table of what varied among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.statistics import FloatArray

ABSENT = "none"
# A number with more values than this is fitted as a curve, not value by value.
_MOST_LEVELS = 6
# One value a level of the UNet: named by its down-sampling rate, as spaces do.
_BY_LEVEL = ("transformer_depth",)


@dataclass(frozen=True)
class Parameter:
    """One parameter that varied, or several that always varied together."""

    name: str
    short: str
    """The first of those that varied together."""
    levels: tuple[str, ...]
    """Its values as text, smallest first."""
    level: npt.NDArray[np.intp]
    """(architectures,): index into `levels`."""
    columns: FloatArray
    """(levels, columns): what a level is to the model, before it is centred."""


def varied(rows: Sequence[LeaderboardRow]) -> list[Parameter]:
    """Return the parameters in which architectures differ; lists are taken apart.

    Parameters whose values are always the same two by two can't be told apart: they are one.
    """
    tables = [flat_parameters({"family": row.family, **row.arch}) for row in rows]
    names = list(dict.fromkeys(name for table in tables for name in table))
    together: dict[tuple[int, ...], list[tuple[str, list[object]]]] = {}
    for name in names:
        values = [table.get(name, ABSENT) for table in tables]
        pattern = _pattern(values)
        if max(pattern) > 0:
            together.setdefault(pattern, []).append((name, values))
    return [_parameter(group) for group in together.values()]


def flat_parameters(arch: Mapping[str, object]) -> dict[str, object]:
    """Return parameters with lists taken apart: a value a level, such as `transformer_depth[2]`."""
    found: dict[str, object] = {}
    for name, value in arch.items():
        if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
            by_rate = name in _BY_LEVEL
            found |= {f"{name}[{2**i if by_rate else i}]": v for i, v in enumerate(value)}
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            found[name] = value
        else:
            found[name] = json.dumps(value, sort_keys=True)
    return found


def _pattern(values: Sequence[object]) -> tuple[int, ...]:
    """Number values by first appearance: equal patterns are equal partitions."""
    seen: dict[object, int] = {}
    return tuple(seen.setdefault(value, len(seen)) for value in values)


def _parameter(group: list[tuple[str, list[object]]]) -> Parameter:
    name, values = group[0]
    unique = sorted(set(values), key=_order)
    level = np.array([unique.index(value) for value in values])
    numbers = [float(value) for value in unique if isinstance(value, (int, float))]
    if len(numbers) == len(unique) > _MOST_LEVELS:
        scaled = np.log1p(np.array(numbers) - min(numbers))
        scaled = (scaled - scaled.mean()) / scaled.std()
        columns = np.stack([scaled, scaled**2], axis=1)
    else:
        columns = np.eye(len(unique))
    names = [name for name, _ in group]
    return Parameter(
        name=name if len(names) == 1 else f"{', '.join(names[:3])} (together)",
        short=name,
        levels=tuple(f"{value:g}" if _is(value) else str(value) for value in unique),
        level=level,
        columns=columns,
    )


def _order(value: object) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    if isinstance(value, (int, float)):
        return (False, float(value), "")
    return (True, 0.0, str(value))


def _is(value: object) -> bool:
    return isinstance(value, (int, float))
