"""Stopping rule ``asha``: asynchronous successive halving, as a rule that stops.

Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht & Talwalkar, "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020. Their algorithm 2 promotes whoever is in the best 1/eta of a
rung; here a trial runs on unless it is outside of them when it gets there, which is the variant
that Syne Tune calls ``stopping``: nobody is taken up again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.protocol.search import SignalName, StoppingRule


class Asha(StoppingRule):
    """Stop a trial at a rung when it is not among the best ``n / eta`` of the n seen there so far.

    Before `eta` trials have been seen nobody stops: the first ones have nothing to fall short of.
    """

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"eta": 3.0}

    rule: Literal["asha"]
    eta: float = Field(
        default=4.0, gt=1, description="reduction factor: one of so many goes on past a rung"
    )
    signal: SignalName | None = Field(
        default=None,
        description="decide at rungs with signals alone, too, by this one, within a family; null: "
        "at full rungs",
    )

    def goes_on(
        self, candidate: str, at_rung: Mapping[str, npt.NDArray[np.float64]], rung_index: int
    ) -> bool:
        """Decide whether `candidate` goes on past a rung; see `StoppingRule.goes_on`."""
        del rung_index
        if len(at_rung) < self.eta:
            return True
        means = {name: float(scores.mean()) for name, scores in at_rung.items()}
        better = sum(mean > means[candidate] for mean in means.values())
        return better < int(len(at_rung) / self.eta)

    def judges_by(self) -> str | None:
        """Return the signal it decides by where there is no score."""
        return self.signal

    def expected_shares(self, rungs: Sequence[int], trials: int) -> Sequence[float]:
        """Return the share that goes on past each rung but the last."""
        free = min(1.0, (self.eta - 1) / trials)  # the first trials at a rung all go on
        return [free + (1 - free) / self.eta] * (len(rungs) - 1)

    def described(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line."""
        where = (
            f"; at rungs without a score by {self.signal}, within a family" if self.signal else ""
        )
        return (
            f"asynchronous successive halving: at every rung up to step {rungs[-1]} the best "
            f"1/{self.eta:g} of those seen so far go on{where}"
        )
