"""Racing rule ``race``: compute follows the probability of being among the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.protocol.search import Contender, RacingRule
from nas_t2i.ranking.front import on_front


class Race(RacingRule):
    """Train on whoever got least for the probability of being among the best `among`.

    It is the allocation that top-two Thompson sampling (Russo, "Simple Bayesian Algorithms for
    Best-Arm Identification", Operations Research 68, 2020) makes on average, followed without
    chance, compute counted in steps. benchmarks/racing_rules.py compares it with other rules.
    """

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"compute": 12.0}
    FRONTS: ClassVar[bool] = True

    rule: Literal["race"]
    among: int = Field(default=2, ge=1, description="compute goes to who may be among the best N")
    sure: float = Field(
        default=0.95, gt=0.5, le=1, description="the race ends when one is the best with that"
    )
    dominated: float = Field(
        default=0.95,
        gt=0.5,
        le=1,
        exclude_if=lambda value: value == 0.95,
        description="with objectives: who is dominated by one as cheap with that gets no more",
    )

    def choose(
        self, contenders: Sequence[Contender], draws: npt.NDArray[np.floating[Any]]
    ) -> int | None:
        """Return who is trained on; see `RacingRule.choose`."""
        if draws.ndim == 3 or any(contender.costs for contender in contenders):
            return self._for_the_front(contenders, draws)
        count = len(contenders)
        order = np.argsort(-draws, axis=1, kind="stable")
        if np.bincount(order[:, 0], minlength=count).max() >= self.sure * len(draws) and count > 1:
            return None
        # Half a draw more for each: nobody is out for good, however few draws there are.
        wins = np.bincount(order[:, : self.among].ravel(), minlength=count) + 0.5
        got = np.array([max(contender.steps, 1) for contender in contenders])
        free = np.array([contender.free for contender in contenders])
        return int(np.argmax(np.where(free, wins / got, -1.0)))

    def _for_the_front(
        self, contenders: Sequence[Contender], draws: npt.NDArray[np.floating[Any]]
    ) -> int | None:
        """Train on whoever got least for the probability of being on the front.

        Who is dominated, by one that costs no more and is as good in everything, with probability
        `dominated`, is left alone as long as that is believed. It ends when everyone is on the
        front or off it with `sure`.
        """
        costs = np.array([contender.costs for contender in contenders])
        member = on_front(draws, costs).mean(axis=0)
        if len(contenders) > 1 and np.all((member >= self.sure) | (member <= 1 - self.sure)):
            return None
        free = np.array([contender.free for contender in contenders])
        free &= member > 1 - self.dominated
        if not free.any():
            return None
        got = np.array([max(contender.steps, 1) for contender in contenders])
        return int(np.argmax(np.where(free, member / got, -1.0)))

    def described(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line."""
        return (
            f"a race: steps go to whoever got least for the probability of being among the best "
            f"{self.among}, {self.compute:g} x {rungs[-1]} steps in all, until one is the best "
            f"with {self.sure:.0%}"
        )

    def described_for_front(self, rungs: Sequence[int]) -> str:
        """Say in one line how it seeks a front."""
        return (
            "a race: steps go to whoever got least for the probability of being on the front, "
            f"{self.compute:g} x {rungs[-1]} steps in all, until everyone is on it or off it with "
            f"{self.sure:.0%}; nothing to who is dominated with {self.dominated:.0%}"
        )
