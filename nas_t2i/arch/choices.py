"""What a value of a search space may be, and every way of choosing.

A space is a tree of nodes: fixed values, choices, lists, and depths per down-sampling rate.
`decode` is the only thing that gives the tree a meaning. A sampler, an enumeration and a random
draw are different *choosers* handed to it, so what one of them can reach, all of them can reach.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nas_t2i.errors import ArchError

Scalar = bool | int | float | str
T = TypeVar("T")


class Chooser(Protocol):
    """Whoever decides: a sampler, an enumeration, a recorded assignment."""

    def choose(self, name: str, choices: Sequence[Scalar], /) -> Scalar:
        """Return one of `choices` for the parameter `name`."""


class RandomSource(Protocol):
    """What `random.Random` and `numpy.random.Generator` have in common."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


@dataclass(frozen=True)
class Fixed:
    """A value that does not vary."""

    value: Any


@dataclass(frozen=True)
class Choice:
    """One of several options, each under a scalar label (a number, or the name of a list)."""

    name: str
    options: Mapping[Scalar, Node]
    is_size: bool = False  # numbers of which only "is it 0?" decides what can be built


@dataclass(frozen=True)
class Items:
    """A list, each item a node of its own."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class PerRate:
    """Values by down-sampling rate. Written as a list, they fit one number of levels only."""

    values: Mapping[int, Node]
    levels: int | None = None


Node = Fixed | Choice | Items | PerRate


def decode(node: Node, chooser: Chooser, rates: Collection[int] = (), levels: int = 0) -> Any:
    """Return the plain value that `chooser` makes of `node`.

    Of values per rate only those at `rates` are decoded, so only those parameters are asked for.

    Raises:
        ArchError: a list of values per level does not have `levels` of them.
    """
    match node:
        case Fixed(value):
            return value
        case Choice(name, options):
            return decode(options[chooser.choose(name, tuple(options))], chooser, rates, levels)
        case Items(items):
            return [decode(item, chooser) for item in items]
        case PerRate(values, length):
            if length not in (None, levels):
                raise ArchError(
                    f"transformer_depth: got {length} values; expected {levels}, one for each "
                    "level of channel_mult"
                )
            return {rate: decode(values[rate], chooser) for rate in values if rate in rates}


def assignments(node: Node, value: Any) -> Iterator[dict[str, Scalar]]:
    """Yield every way of choosing (parameter name -> label) with which `node` decodes to `value`.

    For depths, `value` has one at each rate in use; a rate that `node` lacks must have depth 0
    there, and a single number stands for all of them.
    """
    match node:
        case Fixed(fixed):
            depths = value.values() if isinstance(value, dict) else (value,)
            if all(depth == fixed for depth in depths):
                yield {}
        case Choice(name, options):
            for label, option in options.items():
                for rest in assignments(option, value):
                    yield {name: label, **rest}
        case Items(items):
            if isinstance(value, list) and len(value) == len(items):
                yield from _all_of(list(zip(items, value, strict=True)))
        case PerRate(values):
            if all(depth == 0 for rate, depth in value.items() if rate not in values):
                yield from _all_of([(values[r], value[r]) for r in value if r in values])


def _all_of(pairs: list[tuple[Node, Any]]) -> Iterator[dict[str, Scalar]]:
    for parts in itertools.product(*(list(assignments(node, value)) for node, value in pairs)):
        yield {name: label for part in parts for name, label in part.items()}


def choices_in(node: Node) -> Iterator[Choice]:
    """Yield every choice inside `node`, also those asked for only after another one."""
    match node:
        case Fixed():
            return
        case Choice(_, options):
            yield node
            for option in options.values():
                yield from choices_in(option)
        case Items(items):
            for item in items:
                yield from choices_in(item)
        case PerRate(values):
            for value in values.values():
                yield from choices_in(value)


class Recorded:
    """A chooser that repeats an assignment, e.g. one read from a study."""

    def __init__(self, assignment: Mapping[str, Scalar]) -> None:
        self.assignment = assignment

    def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return the recorded label. Raises KeyError or ValueError if it is not to be had."""
        label = self.assignment[name]
        if label not in choices:
            raise ValueError(f"{name}: {label!r} is not one of {list(choices)}")
        return label


class RandomChooser:
    """A chooser that takes every label with equal probability."""

    def __init__(self, rng: RandomSource) -> None:
        self.rng = rng

    def choose(self, _name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return a random label."""
        return draw(self.rng, choices)


def draw(rng: RandomSource, items: Sequence[T]) -> T:
    """Return one item, each with equal probability."""
    return items[int(rng.random() * len(items))]


class _Odometer:
    """A chooser that follows the option numbers in `path`, then takes first options."""

    def __init__(self, path: list[int]) -> None:
        self.path = path
        self.asked: list[tuple[str, Scalar, int, int]] = []  # name, label, option number, options

    def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        depth = len(self.asked)
        option = self.path[depth] if depth < len(self.path) else 0
        self.asked.append((name, choices[option], option, len(choices)))
        return choices[option]

    def next_path(self) -> list[int] | None:
        """Return the path after this one: the last choice that has an option left takes it."""
        for depth in range(len(self.asked) - 1, -1, -1):
            option, options = self.asked[depth][2:]
            if option + 1 < options:
                return [asked[2] for asked in self.asked[:depth]] + [option + 1]
        return None


def every_way(build: Callable[[Chooser], T]) -> Iterator[tuple[dict[str, Scalar], T]]:
    """Call `build` with every assignment it can ask for; yield (assignment, result)."""
    path: list[int] | None = []
    while path is not None:
        chooser = _Odometer(path)
        result = build(chooser)
        yield {name: label for name, label, _, _ in chooser.asked}, result
        path = chooser.next_path()
