"""What a row of a ranking says of a front."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class FrontScore(BaseModel):
    """What is expected of one architecture by one measured objective of a front."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: float
    """The expected score at the last rung, over seeds, in the metric's unit."""
    low: float
    high: float
    """The 95 % interval."""


class FrontPlace(BaseModel):
    """One architecture's place on a front of scores and costs.

    `objectives`, `hypervolume` and `reference` are of the whole front, and the same in all of its
    rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objectives: list[str]
    """What the front is of, as a search's objectives are written: tifa, -gmacs."""
    scores: Mapping[str, FrontScore]
    """By metric, the measured objectives."""
    costs: Mapping[str, float]
    """By name, the others: gmacs, params, compute (FLOPs of one run of what was trained, to the
    last rung) or latency (seconds of one forward pass). Exact, but for a latency, the median of
    what was measured."""
    probability: float
    """Of being on the front: of no other being as good and as cheap in everything, and better in
    one thing."""
    probability_knee: float | None
    """None: the front is not of one score and one cost."""
    probability_best: float
    """Of being the best by the first of `scores` of those that the front is of: of those within
    --under."""
    hypervolume: float
    """Median over the draws, in units of all objectives multiplied."""
    hypervolume_low: float
    hypervolume_high: float
    """The 95 % interval."""
    reference: Mapping[str, float]
    """By objective, where the hypervolume is counted from."""
