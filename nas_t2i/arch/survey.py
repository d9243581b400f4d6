"""One pass over a space that finds what can be built, without listing every size.

A space may have millions of architectures, but few *kinds* of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_t2i.arch.axes import CHANNELS, DEPTH, GROWING, LEVELS, rates_of
from nas_t2i.arch.choices import Chooser, Node, Scalar, choices_in, every_way
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError

MOST_COMBINATIONS = 50_000  # 2 to 5 s


@dataclass(frozen=True)
class Kind:
    """Architectures that differ in nothing but positive sizes (depths, numbers of blocks).

    Whether an architecture can be built depends on which sizes are 0, never on how large the others
    are, so a space is surveyed by kinds and the sizes are multiplied out.
    """

    smallest: Arch
    assignment: Mapping[str, Scalar]  # decodes to `smallest`
    sizes: Mapping[str, tuple[Scalar, ...]]  # parameter -> its positive values, ascending
    members: int


@dataclass(frozen=True)
class Survey:
    """What one pass over the kinds of a space found."""

    kinds: tuple[Kind, ...]
    usable: frozenset[tuple[str, Scalar]]  # (parameter, label) in an architecture that can be built
    unusable: Mapping[tuple[str, Scalar], str]  # why the first try of the others failed
    level_rates: frozenset[int]  # down-sampling rates that some level has
    attention_rates: frozenset[int]  # those at which some level has attention
    first_problem: str  # "" if everything can be built


def take_survey(axes: Iterable[Node], values: Callable[[Chooser], dict[str, Any]]) -> Survey | None:
    """Go through every kind of architecture.

    Args:
        axes: the nodes of the space's parameters.
        values: what a chooser makes of them, as `arch_from_dict` takes it; may raise ArchError.

    Returns:
        None if there are more than `MOST_COMBINATIONS` combinations.
    """
    sizes = {choice.name for node in axes for choice in choices_in(node) if choice.is_size}
    kinds: dict[str, Kind] = {}
    usable: set[tuple[str, Scalar]] = set()
    unusable: dict[tuple[str, Scalar], str] = {}
    level_rates: set[int] = set()
    attention_rates: set[int] = set()
    first_problem = ""
    for number, (assignment, found) in enumerate(every_way(lambda c: _kind(c, sizes, values))):
        if number == MOST_COMBINATIONS:
            return None
        if isinstance(found, ArchError):
            first_problem = first_problem or str(found)
            for item in assignment.items():
                unusable.setdefault(item, str(found))
            continue
        kind, chosen = found
        kinds.setdefault(kind.smallest.arch_id, kind)
        usable.update(assignment.items())
        usable.update((name, size) for name in kind.sizes for size in kind.sizes[name])
        level_rates |= set(rates_of(chosen.get(LEVELS, ())))
        attention_rates |= set(chosen.get(DEPTH, ()))
    for item in usable:
        unusable.pop(item, None)
    return Survey(
        kinds=tuple(kinds.values()),
        usable=frozenset(usable),
        unusable=unusable,
        level_rates=frozenset(level_rates),
        attention_rates=frozenset(attention_rates),
        first_problem=first_problem,
    )


def _kind(
    chooser: Chooser, sizes: set[str], values: Callable[[Chooser], dict[str, Any]]
) -> tuple[Kind, dict[str, Any]] | ArchError:
    """Return the kind chosen and its parameters, or why it can't be built."""
    smallest = _SmallestSizes(chooser, sizes)
    try:
        chosen = values(smallest)
        arch = arch_from_dict(chosen)
    except ArchError as error:
        return error
    members = math.prod(len(positive) for positive in smallest.positive.values())
    kind = Kind(arch, smallest.assignment, smallest.positive, members)
    return kind, chosen


class _SmallestSizes:
    """Lets a chooser decide whether a size is 0, and takes the least positive value if not."""

    def __init__(self, chooser: Chooser, sizes: set[str]) -> None:
        self.chooser = chooser
        self.sizes = sizes
        self.assignment: dict[str, Scalar] = {}
        self.positive: dict[str, tuple[Scalar, ...]] = {}

    def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Offer 0 (if it is there) and the least positive value of a size, or all choices."""
        positive: tuple[Scalar, ...] = ()
        if name in self.sizes:
            numbers = sorted(choice for choice in choices if not isinstance(choice, str))
            positive = tuple(number for number in numbers if number > 0)
            choices = numbers[: len(numbers) - len(positive)] + list(positive[:1])
        self.assignment[name] = label = self.chooser.choose(name, choices)
        if label in positive:
            self.positive[name] = positive
        return label


def undominated(archs: Sequence[Arch], sign: int) -> list[Arch]:
    """Return the architectures with no other one below them (above them, for sign -1).

    Two are compared number by number, and only if they differ in nothing but growing numbers.
    """
    points: dict[str, list[tuple[tuple[int, ...], Arch]]] = {}
    for arch in archs:
        numbers: list[int] = []
        rest: dict[str, Any] = {"family": arch.FAMILY}
        for name, value in _with_widths(arch).items():
            values = value if isinstance(value, list) else [value]
            if name in GROWING:
                numbers += [sign * number for number in values]
                rest[name] = len(values)
            else:
                rest[name] = value
        points.setdefault(json.dumps(rest), []).append((tuple(numbers), arch))
    found: list[Arch] = []
    for group in points.values():
        front: list[tuple[tuple[int, ...], Arch]] = []
        # In ascending order of the sum nothing can be below what came before it.
        for candidate in sorted(group, key=lambda item: sum(item[0])):
            if not any(_is_below(other, candidate[0]) for other, _ in front):
                front.append(candidate)
        found += [arch for _, arch in front]
    return found


def _with_widths(arch: Arch) -> dict[str, Any]:
    data = arch.model_dump(mode="json")
    if LEVELS in data:
        channels = data.pop(CHANNELS)
        data["widths"] = [channels * mult for mult in data.pop(LEVELS)]
    return data


def _is_below(point: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(point, other, strict=True))
