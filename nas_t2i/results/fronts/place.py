"""What a row of a ranking says of a front."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrontPlace(BaseModel):
    """One architecture's place on the front of expected score against a cost.

    The last five are of the whole front, and the same in all of its rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cost: str
    """gmacs, params, compute (FLOPs of one run of what was trained, to the last rung) or latency
    (seconds of one forward pass)."""
    value: float
    """What the architecture costs; exact, but for a latency, the median of what was measured."""
    probability: float
    """Of being on the front: of no other being as cheap or cheaper, and better."""
    probability_knee: float
    probability_best: float
    """Of being the best of those that the front is of: those within --under."""
    hypervolume: float
    """Median over the draws, in units of the score times the cost."""
    hypervolume_low: float
    hypervolume_high: float
    """The 95 % interval."""
    reference_score: float
    reference_cost: float
