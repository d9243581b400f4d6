"""Bounds on size, compute and latency: hard ones, and soft ones that a sampler is told of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas_t2i.records import Profile


class Sized(Protocol):
    """What has the sizes that limits are on, such as a `Profile`."""

    @property
    def params(self) -> int:
        """Parameters."""

    @property
    def gmacs(self) -> float:
        """1e9 multiply-adds of one forward pass at batch 1."""

    @property
    def attention_share(self) -> float:
        """Attention's share of the GMACs, 0 to 1."""


class Bound(BaseModel):
    """The least and the greatest value allowed, both inclusive."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    min: float | None = Field(default=None, ge=0, description="least value allowed")
    max: float | None = Field(default=None, ge=0, description="greatest value allowed")
    soft: bool = Field(
        default=False,
        exclude_if=lambda soft: not soft,
        description="what is beyond may be tried; the sampler is told by how much it is",
    )

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
    """Bounds on a full architecture's profile and latency; what is None is not bounded.

    A latency is no part of a profile: where none is given, its bound is passed over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    params: Bound | None = Field(default=None, description="parameters")
    gmacs: Bound | None = Field(
        default=None, description="1e9 multiply-adds of one forward pass at batch 1, all counted"
    )
    attention_share: Share | None = Field(default=None, description="attention GMACs / GMACs")
    latency: Bound | None = Field(
        default=None,
        description="seconds of one forward pass on the machine that searches, measured as the "
        "budget's search.latency says",
    )

    def items(self) -> Iterator[tuple[str, Bound]]:
        """Yield (quantity, its bound) of what nobody may be beyond."""
        return ((name, bound) for name, bound in self._all() if not bound.soft)

    def soft(self) -> Iterator[tuple[str, Bound]]:
        """Yield (quantity, its bound) of what is better not exceeded."""
        return ((name, bound) for name, bound in self._all() if bound.soft)

    def _all(self) -> Iterator[tuple[str, Bound]]:
        for name in ("params", "gmacs", "attention_share", "latency"):
            bound = getattr(self, name)
            if bound is not None:
                yield name, bound

    def excess(self, size: Sized, *, latency: float | None = None) -> dict[str, float]:
        """Return how far `size` is beyond each soft bound, as a share of it; 0 or less: within."""
        found = {}
        for name, bound in self.soft():
            value = latency if name == "latency" else getattr(size, name)
            if value is None:
                continue
            sides = [] if bound.max is None else [(value - bound.max) / (bound.max or 1)]
            sides += [] if bound.min is None else [(bound.min - value) / (bound.min or 1)]
            found[name] = max(sides)
        return found

    def check(self, profile: Profile, *, latency: float | None = None) -> str | None:
        """Return why `profile` is outside the hard limits, or None if it is inside."""
        for name, bound in self.items():
            value = latency if name == "latency" else getattr(profile, name)
            if value is None:
                continue
            if bound.max is not None and value > bound.max:
                return f"{name} {show(name, value)} is above the limit {show(name, bound.max)}"
            if bound.min is not None and value < bound.min:
                return f"{name} {show(name, value)} is below the limit {show(name, bound.min)}"
        return None


def show(name: str, value: float) -> str:
    """Write a number of a profile for people, so exactly that no two look alike by rounding."""
    if name == "latency":
        return f"{1e3 * value:.6g} ms"
    return f"{value:,.0f}" if name == "params" else f"{value:.6g}"
