"""Rungs: the steps at which a trial is measured, and which of them have the ranked metric too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from nas_t2i.protocol.part import Part, Steps

_FIRST_SHARE = 1 / 20  # of the steps: where the ladder that a budget may leave out begins
_LADDER = 6  # its rungs, a constant factor apart
_FULL = 2  # that many of them, the last ones, are full


class Rungs(tuple[int, ...]):
    """The steps of all rungs, ascending. At `full` ones the ranked metric is measured.

    At the others, the `cheap` ones, the signals alone are (nas_t2i.evaluation.signals).
    """

    full: tuple[int, ...]
    cheap: tuple[int, ...]

    def __new__(cls, full: Iterable[int] = (), cheap: Iterable[int] = ()) -> Self:
        """Put the two kinds together; a step may be given once."""
        both = (tuple(full), tuple(cheap))
        self = super().__new__(cls, sorted((*both[0], *both[1])))
        self.full, self.cheap = both
        return self

    def __eq__(self, other: object) -> bool:
        """Whether steps and kinds are the same; a plain tuple is all full rungs."""
        same = isinstance(other, tuple) and tuple.__eq__(self, other)
        return bool(same) and self.full == getattr(other, "full", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __getnewargs__(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.full, self.cheap


def described(rungs: tuple[int, ...]) -> str:
    """Say rungs in a few words, for the screen."""
    if not isinstance(rungs, Rungs) or not rungs.cheap:
        return f"rungs {list(rungs)}"
    return f"rungs {list(rungs.full)}, signals alone at {list(rungs.cheap)}"


def ladder(steps: int) -> Rungs:
    """Return the rungs of a budget that names none: six, geometric, from 5 % of the steps on.

    The last two are full. Of a very short run some fall together.
    """
    factor = _FIRST_SHARE ** (-1 / (_LADDER - 1))
    rungs = {max(1, round(steps / factor**below)) for below in range(_LADDER)}
    ascending = sorted(rungs)
    return Rungs(ascending[-_FULL:], ascending[:-_FULL])


class RungKinds(Part):
    """Rungs by kind, where some have the signals alone."""

    signals: Steps = Field(default=(), description="steps at which the signals alone are measured")
    full: Steps = Field(min_length=1, description="steps at which the ranked metric is, too")


class RungsForm:
    """Marks a field of rungs: a list, all full, or a mapping of the two kinds (`RungKinds`)."""

    def class_for(self, data: object) -> type[RungKinds] | None:
        """Return the class that plain data would be read as; a list is of none."""
        return RungKinds if isinstance(data, dict) else None

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate either form; write out the shorter one that says it all."""
        return core_schema.no_info_plain_validator_function(
            _validated, serialization=core_schema.plain_serializer_function_ser_schema(_written)
        )

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Offer both forms."""
        forms = (_LIST.core_schema, RungKinds.__pydantic_core_schema__)
        return {"anyOf": [handler(form) for form in forms]}


_LIST: TypeAdapter[tuple[int, ...]] = TypeAdapter(
    Annotated[Steps, Field(min_length=1)], config={"strict": True}
)


def _validated(value: object) -> Rungs:
    if isinstance(value, Rungs):
        return value
    if isinstance(value, dict):
        kinds = RungKinds.model_validate(value)
        twice = sorted(set(kinds.full) & set(kinds.signals))
        if twice:
            raise ValueError(f"rungs: got {twice[0]} as both kinds; expected each step once")
        return Rungs(kinds.full, kinds.signals)
    return Rungs(_LIST.validate_python(value))


def _written(rungs: tuple[int, ...]) -> list[int] | dict[str, list[int]]:
    cheap = rungs.cheap if isinstance(rungs, Rungs) else ()
    if not cheap:
        return list(rungs)
    return {"signals": list(cheap), "full": [step for step in rungs if step not in cheap]}
