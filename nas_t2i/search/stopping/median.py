"""Stopping rule ``median``: stop what is worse than the median of those before it.

Golovin, Solnik, Moitra, Kochanski, Karro & Sculley, "Google Vizier: A Service for Black-Box
Optimization", KDD 2017, section 3.2.2. There a trial is stopped at a step when its best value so
far is below the median, over the other trials, of their averages up to that step. Here values of
different rungs may be of different kinds, so both are taken at the rung itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.protocol.search import SignalName, StoppingRule


class Median(StoppingRule):
    """Stop a trial at a rung when it is below the median of the others seen there so far."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"min_peers": 3}

    rule: Literal["median"]
    min_peers: int = Field(
        default=5, ge=1, description="nobody stops before so many trials saw the rung"
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
        means = {name: float(scores.mean()) for name, scores in at_rung.items()}
        own = means.pop(candidate)
        if not means or len(at_rung) < self.min_peers:
            return True
        return own >= float(np.median(list(means.values())))

    def judges_by(self) -> str | None:
        """Return the signal it decides by where there is no score."""
        return self.signal

    def expected_shares(self, rungs: Sequence[int], trials: int) -> Sequence[float]:
        """Return the share that goes on past each rung but the last."""
        free = min(1.0, (self.min_peers - 1) / trials)
        return [free + (1 - free) / 2] * (len(rungs) - 1)

    def described(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line."""
        where = (
            f"; at rungs without a score by {self.signal}, within a family" if self.signal else ""
        )
        return (
            f"the median rule: from {self.min_peers} trials on, who is below the median of the "
            f"others at a rung before step {rungs[-1]} stops{where}"
        )
