"""Hard bounds on size and compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas_t2i.records import Profile


class Bound(BaseModel):
    """The least and the greatest value allowed, both inclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    min: float | None = Field(default=None, ge=0, description="least value allowed")
    max: float | None = Field(default=None, ge=0, description="greatest value allowed")

    @model_validator(mode="after")
    def _one_at_least_in_order(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("no bound; expected min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Share(Bound):
    """A bound on a share, 0 to 1."""

    min: float | None = Field(default=None, ge=0, le=1, description="least share allowed")
    max: float | None = Field(default=None, ge=0, le=1, description="greatest share allowed")


class Limits(BaseModel):
    """Bounds on a full architecture's profile; what is None is not bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    params: Bound | None = Field(default=None, description="parameters")
    gmacs: Bound | None = Field(
        default=None, description="1e9 multiply-adds of one forward pass at batch 1, all counted"
    )
    attention_share: Share | None = Field(default=None, description="attention GMACs / GMACs")

    def items(self) -> Iterator[tuple[str, Bound]]:
        """Yield (profile field, its bound) of what is bounded."""
        for name in ("params", "gmacs", "attention_share"):
            bound = getattr(self, name)
            if bound is not None:
                yield name, bound

    def check(self, profile: Profile) -> str | None:
        """Return why `profile` is outside the limits, or None if it is inside."""
        for name, bound in self.items():
            value = getattr(profile, name)
            if bound.max is not None and value > bound.max:
                return f"{name} {show(name, value)} is above the limit {show(name, bound.max)}"
            if bound.min is not None and value < bound.min:
                return f"{name} {show(name, value)} is below the limit {show(name, bound.min)}"
        return None


def show(name: str, value: float) -> str:
    """Write a number of a profile for people, so exactly that no two look alike by rounding."""
    return f"{value:,.0f}" if name == "params" else f"{value:.6g}"
