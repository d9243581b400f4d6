"""A search space: which architectures may be tried. Count them, list them, draw one, name one.

docs/search-spaces.md describes the file.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from nas_t2i.arch.axes import ATTENTION, CHANNELS, DEPTH, LEVELS, rates_of
from nas_t2i.arch.choices import (
    Choice,
    Chooser,
    Fixed,
    Items,
    Node,
    PerRate,
    RandomChooser,
    RandomSource,
    Recorded,
    Scalar,
    assignments,
    choices_in,
    decode,
    draw,
    every_way,
)
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.limits import Limits
from nas_t2i.arch.space_file import read_space_file
from nas_t2i.arch.spec import Arch
from nas_t2i.arch.survey import Kind, Survey, take_survey, undominated
from nas_t2i.errors import ArchError
from nas_t2i.yaml_files import Document, load_document

_MOST_DRAWS = 1_000_000


@dataclass(frozen=True)
class Parameter:
    """A free parameter: its stable name and its labels, scalars that a sampler can handle."""

    name: str
    choices: tuple[Scalar, ...]


@dataclass(frozen=True)
class Space:
    """The architectures that some choice of the parameters gives, and the included ones."""

    name: str
    family: str  # "" for a plain list of included architectures
    axes: Mapping[str, Node]  # family parameter -> what it may be
    included: tuple[tuple[str, Arch], ...]
    limits: Limits
    document: Document = field(repr=False, compare=False)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The free parameters, in the order in which they are asked for; none for a plain list."""
        nodes = itertools.chain.from_iterable(choices_in(node) for node in self.axes.values())
        return tuple(Parameter(node.name, tuple(node.options)) for node in nodes)

    def suggest(self, chooser: Chooser) -> Arch:
        """Return the architecture that `chooser` picks; it is asked only for what is used.

        Raises:
            ArchError: the choices together name an architecture that can't be built.
        """
        if not self.axes:
            raise ArchError(f"the space {self.name} is a plain list: it has no parameters")
        return arch_from_dict(self._values(chooser))

    def encode(self, arch: Arch) -> dict[str, Scalar] | None:
        """Return labels (parameter name -> label) that give `arch`, or None if none do."""
        return next(self._encodings(arch), None)

    @cached_property
    def count_is_exact(self) -> bool:
        """Whether `count` is the number of architectures; else it is an upper bound."""
        return self.survey is not None

    def count(self) -> int:
        """Return the number of different architectures (see `count_is_exact`)."""
        outside = len(self._outside)
        if self.survey is None:
            return math.prod(len(parameter.choices) for parameter in self.parameters) + outside
        return sum(kind.members for kind in self.survey.kinds) + outside

    def enumerate(self) -> Iterator[Arch]:
        """Yield every architecture once, the included ones first."""
        seen = set()
        for _, arch in self.included:
            seen.add(arch.arch_id)
            yield arch
        for arch in self._grid():
            if arch.arch_id not in seen:
                yield arch
            if self.survey is None:
                seen.add(arch.arch_id)

    def sample(self, rng: RandomSource) -> Arch:
        """Return one architecture; every different one is equally likely.

        Raises:
            ArchError: a million draws from a space too large to survey gave nothing buildable.
        """
        if self.survey is None:
            return self._sample_by_rejection(rng)
        *_, total = self._cumulative
        place = int(rng.random() * total)
        index = bisect.bisect_right(self._cumulative, place)
        if index >= len(self.survey.kinds):
            return self._outside[index - len(self.survey.kinds)]
        kind = self.survey.kinds[index]
        return self._member(kind, {name: draw(rng, sizes) for name, sizes in kind.sizes.items()})

    def corners(self, *, largest: bool, most: int) -> tuple[list[Arch], bool]:
        """Return architectures with no other below (or above) them in every growing number.

        Parameters and GMACs grow with each of those numbers, so the extremes are among the corners.

        Returns:
            At most `most` architectures, and whether they are all the corners there are.
        """
        if self.survey is None:
            rng = random.Random(0)  # noqa: S311  (not for secrets)
            return [self.sample(rng) for _ in range(most)], False
        pick = max if largest else min
        found = list(self._outside) + [
            self._member(kind, {name: pick(sizes) for name, sizes in kind.sizes.items()})
            for kind in self.survey.kinds
        ]
        corners = undominated(found, sign=-1 if largest else 1)
        return corners[:most], len(corners) <= most

    @cached_property
    def space_id(self) -> str:
        """A stable id of parameters, included architectures and limits."""
        content = {
            "family": self.family,
            "parameters": {name: _plain(node) for name, node in sorted(self.axes.items())},
            "include": [arch.arch_id for _, arch in self.included],
            "limits": self.limits.model_dump(mode="json", exclude_none=True),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"space-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @cached_property
    def survey(self) -> Survey | None:
        """What the parameters can give, by kinds; None if there are too many combinations."""
        if not self.axes:
            return Survey((), frozenset(), {}, frozenset(), frozenset(), "")
        return take_survey(self.axes.values(), self._values)

    def _values(self, chooser: Chooser) -> dict[str, Any]:
        """Return the architecture's parameters as `chooser` picks them.

        Depths are asked for last, and only at rates that the chosen levels and attention have.
        """
        values = {name: decode(node, chooser) for name, node in self.axes.items() if name != DEPTH}
        if DEPTH in self.axes:
            rates = rates_of(values[LEVELS])
            attending = values.pop(ATTENTION, None)
            used = rates if attending is None else [rate for rate in rates if rate in attending]
            # Which depth would be chosen where nothing attends makes no difference: don't ask.
            asked = used or not isinstance(self.axes[DEPTH], Choice)
            depths = decode(self.axes[DEPTH], chooser, used, len(rates)) if asked else {}
            if not isinstance(depths, dict):
                depths = dict.fromkeys(used, depths)
            lacking = [rate for rate in used if rate not in depths]
            if attending is not None and lacking:
                raise ArchError(
                    f"transformer_depth: no depth at rate {lacking[0]}; expected one at every rate "
                    f"of attention_resolutions {attending}"
                )
            values[DEPTH] = depths
        return {"family": self.family, **values}

    def _encodings(self, arch: Arch) -> Iterator[dict[str, Scalar]]:
        """Yield every assignment that gives `arch`."""
        if self.family != arch.FAMILY:
            return
        wanted = arch.canonical()
        # Where attention sits, and parameters without effect on `arch`, may be chosen in any way.
        ways = [
            list(assignments(node, wanted[name]))
            if name in wanted
            else [way for way, _ in every_way(partial(decode, node))]
            for name, node in self.axes.items()
            if name not in (DEPTH, CHANNELS, LEVELS)
        ]
        if LEVELS in self.axes:
            ways.append(list(self._width_assignments(wanted)))
        for parts in itertools.product(*ways):
            chosen = {name: label for part in parts for name, label in part.items()}
            for depths in self._depth_assignments(arch, chosen):
                assignment = {**chosen, **depths}
                try:
                    found = self.suggest(Recorded(assignment))
                except ArchError:
                    continue
                if found.arch_id == arch.arch_id:
                    yield assignment

    def _width_assignments(self, wanted: Mapping[str, Any]) -> Iterator[dict[str, Scalar]]:
        """Yield the ways to choose channels and multipliers with the products of `wanted`."""
        widths = [wanted[CHANNELS] * mult for mult in wanted[LEVELS]]
        for way, levels in every_way(partial(decode, self.axes[LEVELS])):
            channels = widths[0] // levels[0]
            if [channels * mult for mult in levels] == widths:
                for channels_way in assignments(self.axes[CHANNELS], channels):
                    yield {**way, **channels_way}

    def _depth_assignments(
        self, arch: Arch, chosen: Mapping[str, Scalar]
    ) -> Iterator[dict[str, Scalar]]:
        """Yield the ways to choose the depths of `arch` when the rest is `chosen`."""
        if DEPTH not in self.axes:
            yield {}
            return
        by_level: list[int] = arch.canonical()[DEPTH]
        depths = dict(zip(rates_of(by_level), by_level, strict=True))
        if ATTENTION in self.axes:
            attending = decode(self.axes[ATTENTION], Recorded(chosen))
            depths = {rate: depth for rate, depth in depths.items() if rate in attending}
        yield from assignments(self.axes[DEPTH], depths) if depths else [{}]

    def _member(self, kind: Kind, sizes: Mapping[str, Scalar]) -> Arch:
        return self.suggest(Recorded({**kind.assignment, **sizes}))

    def _grid(self) -> Iterator[Arch]:
        """Yield what the parameters give: each once, or, without a survey, each spelling once."""
        if self.survey is None:
            yield from self._every_spelling()
            return
        for kind in self.survey.kinds:
            for sizes in itertools.product(*kind.sizes.values()):
                yield self._member(kind, dict(zip(kind.sizes, sizes, strict=True)))

    def _every_spelling(self) -> Iterator[Arch]:
        def build(chooser: Chooser) -> Arch | None:
            try:
                return self.suggest(chooser)
            except ArchError:
                return None

        return (arch for _, arch in every_way(build) if arch is not None)

    @cached_property
    def _outside(self) -> tuple[Arch, ...]:
        """The included architectures that the parameters don't reach."""
        return tuple(arch for _, arch in self.included if self.encode(arch) is None)

    @cached_property
    def _cumulative(self) -> list[int]:
        """Architectures up to and including each kind, then each included one outside of them."""
        kinds = self.survey.kinds if self.survey else ()
        return list(
            itertools.accumulate([*(kind.members for kind in kinds), *(1 for _ in self._outside)])
        )

    def _sample_by_rejection(self, rng: RandomSource) -> Arch:
        """Draw assignments until one is accepted, so that every architecture is equally likely.

        Walking down the choices at random gives an architecture with some probability; accepting it
        with a probability inverse to that evens them out.
        """
        options = {parameter.name: len(parameter.choices) for parameter in self.parameters}
        least = 1 / math.prod(options.values())
        for _ in range(_MOST_DRAWS):
            try:
                arch = self.suggest(RandomChooser(rng))
            except ArchError:
                continue
            likely = sum(
                1 / math.prod(options[name] for name in assignment)
                for assignment in self._encodings(arch)
            )
            if rng.random() < least / likely:
                return arch
        raise ArchError(f"none of {_MOST_DRAWS} random choices in {self.name} can be built")


def load_space(path: str | Path) -> Space:
    """Read a search-space file.

    Raises:
        ConfigError: one line, ``file:line:column: key path: what came; what was expected``.
    """
    return space_from_document(load_document(path))


def space_from_document(document: Document) -> Space:
    """Make a space of the data of a search-space file. Raises as `load_space`."""
    file = read_space_file(document)
    space = Space(
        name=file.name,
        family=file.family,
        axes=file.axes,
        included=file.included,
        limits=file.limits,
        document=document,
    )
    if space.axes and space.survey is not None:
        file.check_use(space.survey)
    return space


def _plain(node: Node) -> Any:
    """Return a node as plain JSON: the same for the same meaning, whatever the file looks like."""
    match node:
        case Fixed(value):
            return value
        case Choice(_, options):
            return {"choice": [[label, _plain(option)] for label, option in options.items()]}
        case Items(items):
            return [_plain(item) for item in items]
        case PerRate(values, levels):
            by_rate = {str(rate): _plain(value) for rate, value in values.items()}
            return by_rate if levels is None else list(by_rate.values())
