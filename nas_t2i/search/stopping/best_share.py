"""Stopping rule ``best_share``: stop what is hopeless, and only what can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.protocol.search import StoppingRule

Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)
]
PromptScores = npt.NDArray[np.float64]


class BestShare(StoppingRule):
    """Stop a trial at a rung when it is out of the best share, and provably so.

    A trial goes on when it is among the best ``ceil(share * n)`` of the n trials seen at the rung
    so far, or its paired difference to the last kept one is within `margin` standard errors.
    """

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"keep": [0.5], "margin": 1.0, "min_peers": 2}

    rule: Literal["best_share"] = "best_share"
    keep: Shares = Field(description="share that goes on, for each rung but the last")
    margin: float = Field(ge=0, description="standard errors of the paired difference over prompts")
    min_peers: int = Field(ge=1, description="nobody stops before this many trials saw the rung")

    def goes_on(self, candidate: str, at_rung: Mapping[str, PromptScores], rung_index: int) -> bool:
        """Decide whether `candidate` goes on past a rung; see `StoppingRule.goes_on`."""
        if len(at_rung) < self.min_peers:
            return True
        means = dict(zip(at_rung, np.stack(list(at_rung.values())).mean(axis=1), strict=True))
        ranked = sorted(at_rung, key=lambda name: -means[name])
        kept = ranked[: math.ceil(self.keep[rung_index] * len(ranked))]
        if candidate in kept:
            return True
        shortfall: PromptScores = at_rung[kept[-1]] - at_rung[candidate]
        stderr = float(shortfall.std(ddof=1)) / math.sqrt(len(shortfall))
        return float(shortfall.mean()) <= self.margin * stderr

    def check(self, rungs: Sequence[int]) -> None:
        """Raise ValueError unless there is a share for each rung but the last."""
        if len(rungs) > 1 and len(self.keep) != len(rungs) - 1:
            raise ValueError(
                f"search.early_stopping.keep: got {len(self.keep)} shares; expected "
                f"{len(rungs) - 1}, one for each rung but the last"
            )

    def described(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line."""
        shares = ", ".join(
            f"{rung} the best {keep:.0%} go on"
            for rung, keep in zip(rungs, self.keep, strict=False)
        )
        return (
            f"at step {shares}, from {self.min_peers} trials on, the rest stop if more than "
            f"{self.margin:g} standard error(s) short"
        )

    def expected_shares(self, rungs: Sequence[int], trials: int) -> Sequence[float]:
        """Return the share that goes on past each rung if each lets just its best share go on."""
        # The first trials at a rung all go on, whatever their share.
        free = min(1.0, (self.min_peers - 1) / trials)
        return [free + (1 - free) * kept for kept in self.keep[: len(rungs) - 1]]
