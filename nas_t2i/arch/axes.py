"""The axes of a space: which parameters a family has, and what a value of each may be.

Names, types and bounds are read off the family's own class, so a new family needs nothing here.
What is known beside them is how numbers behave: see `SIZES` and `GROWING`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from nas_t2i.arch.families import family
from nas_t2i.arch.spec import JsonDict

# Whether an architecture can be built depends on which of these are 0, never on how large the
# others are. (Except where `mid_depth` is set beside them: a UNet ties it to the deepest depth.)
SIZES = frozenset({"transformer_depth", "res_blocks", "depth"})

# Parameters and GMACs grow with each of these as long as everything else, the number of levels
# included, is equal. ("widths": channels x multiplier, by level.)
GROWING = frozenset({"widths", "res_blocks", "transformer_depth", "mid_depth", "hidden", "depth"})

CHANNELS = "channels"
ATTENTION = "attention_resolutions"
DEPTH = "transformer_depth"
LEVELS = "channel_mult"  # only its products with the channels mean anything

_RATE: JsonDict = {"type": "integer", "minimum": 1}


@dataclass(frozen=True)
class Axis:
    """One parameter of a family, as a space file may set it."""

    name: str
    form: Literal["value", "list", "per_rate"]
    leaf: JsonDict  # JSON Schema of one scalar in it
    required: bool
    description: str

    def expected(self) -> str:
        """Say in words what one scalar must be."""
        if self.name == ATTENTION:
            return "a down-sampling rate: 1, 2, 4, 8, ..."
        if self.leaf["type"] != "integer":
            return {"boolean": "true or false", "number": "a number", "string": "a text"}[
                self.leaf["type"]
            ]
        low, high = self.leaf.get("minimum"), self.leaf.get("maximum")
        if high is not None:
            return f"a whole number from {low} to {high}"
        return "a whole number" + ("" if low is None else f" of at least {low}")

    def accepts(self, value: object) -> bool:
        """Whether one scalar is of the right type and within its bounds."""
        kind = self.leaf["type"]
        if isinstance(value, bool) or kind in ("boolean", "string"):
            return isinstance(value, {"boolean": bool, "string": str}.get(kind, ()))
        if not isinstance(value, (int, float) if kind == "number" else int):
            return False
        within = self.leaf.get("minimum", value) <= value <= self.leaf.get("maximum", value)
        return bool(within) and (self.name != ATTENTION or is_rate(value))


def is_rate(value: object) -> bool:
    """Whether `value` is the down-sampling rate of some level: a power of two."""
    return isinstance(value, int) and value >= 1 and value & (value - 1) == 0


def rates_of(levels: Sequence[object]) -> list[int]:
    """Return the down-sampling rate of each level: 1, 2, 4, ..."""
    return [2**level for level in range(len(levels))]


@cache
def axes_of(family_name: str) -> dict[str, Axis]:
    """Return the parameters that a space of that family may set, by name.

    Raises:
        ArchError: no such family.
    """
    schema = family(family_name).model_json_schema()
    required = set(schema.get("required", ()))
    axes = {}
    for name, field in schema["properties"].items():
        form: Literal["value", "list", "per_rate"] = "value"
        if field["type"] == "array":
            form = "per_rate" if name == DEPTH else "list"
        leaf = field["items"] if form != "value" else field
        leaf = {key: leaf[key] for key in ("type", "minimum", "maximum") if key in leaf}
        axes[name] = Axis(name, form, leaf, name in required, field.get("description", ""))
    if DEPTH in axes:
        description = "down-sampling rates with cross-attention; default: where the depth is not 0"
        axes[ATTENTION] = Axis(ATTENTION, "list", _RATE, False, description)
    return axes
