"""A figure as plain data: the report's page and matplotlib draw the same one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a series is to the reader; it decides on colour and weight."""

    BEST = "best"
    """Among the best: a colour and a name of its own."""
    OTHER = "other"
    """One of many: grey, its name on hovering."""
    CONTROL = "control"
    FRONT = "front"
    """The Pareto front: a line through points that others draw."""
    REFERENCE = "reference"
    """A horizontal line, such as chance."""
    REPORTED = "reported"
    """What a paper reports, measured elsewhere and otherwise."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name. All tuples are as long as `x`."""

    name: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...] | tuple[str, ...]
    """Names of categories in a chart with `categories`."""
    low: tuple[float, ...] = ()
    """Ends of the interval of each point: of `y`, with categories of `x`. Empty: none is known."""
    high: tuple[float, ...] = ()
    compute: tuple[float, ...] = ()
    """Training compute of each point (FLOPs), the other horizontal axis; empty: there is none."""
    hover: tuple[str, ...] = ()
    """What is told of each point, below the name of a series that belongs to a row."""
    hollow: bool = False
    """Predicted, not measured."""
    line: bool = True
    markers: bool = True
    rank: int = 0
    """The row of the leaderboard it belongs to; 0: none."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure, what its axes are and how to read it."""

    key: str
    """Short and unique in a report: letters, digits, hyphens."""
    title: str
    caption: str
    """How it is read and what the intervals are of, in whole sentences."""
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    x_log: bool = False
    y_reversed: bool = False
    categories: tuple[str, ...] = ()
    """Where `y` is names: all of them, from the top."""


COMPUTE_TITLE = "training compute of what was trained (FLOPs)"
