"""How candidates are chosen, and when one is stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.protocol.part import Named, Part

SignalName = Literal["heldout_loss", "text_gain", "caption_gain"]


class StoppingRule(Part, ABC):
    """A rule of early stopping: what a plug-in of the kind ``stopping`` derives from."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # settings to check its contract with

    rule: str

    @abstractmethod
    def goes_on(
        self,
        candidate: str,
        at_rung: Mapping[str, npt.NDArray[np.float64]],
        rung_index: int,
    ) -> bool:
        """Decide whether a candidate goes on past the `rung_index`-th rung that it decides at.

        `at_rung` holds, for every candidate that has reached the rung so far (this one included),
        its scores (prompts,), the same prompts in the same order; larger is better, whatever the
        metric. At a rung with signals alone they are of held-out pairs, of the signal `judges_by`,
        and of the candidates of its own family: signals don't compare over families.
        """

    def judges_by(self) -> str | None:
        """Name the signal by which it decides where there is no score, too.

        By default there is none: the rule is asked at full rungs only.
        """
        return None

    def expected_shares(self, rungs: Sequence[int], trials: int) -> Sequence[float]:  # noqa: ARG002
        """Return the share of `trials` that likely goes on past each rung but the last.

        It is for estimates of a search's length; by default all go on.
        """
        return [1.0] * (len(rungs) - 1)

    @abstractmethod
    def described(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line, for records."""

    def check(self, rungs: Sequence[int]) -> None:
        """Raise ValueError, ``key: got X; expected Y``, where the settings don't fit the rungs."""


@dataclass(frozen=True)
class Contender:
    """An architecture in a race, as a racing rule sees it."""

    name: str
    steps: int
    """Steps of training given to it so far, all its seeds together, those under way too."""
    free: bool
    """Whether it can be trained on: nothing of it is under way, and something is left to train."""
    costs: tuple[float, ...] = ()
    """What it costs, smaller is better, exact: the search's objectives beside the score. Where it
    has none, the best score alone is sought."""


class RacingRule(StoppingRule):
    """A rule that says, piece by piece, who is trained on: a plug-in of the kind ``stopping``, too.

    A piece is the training of one seed up to its next rung. Every architecture first gets one, up
    to the first rung; from then on the rule is asked before each piece. Nobody is stopped for good.
    """

    FRONTS: ClassVar[bool] = False  # whether it can seek a front: it looks at contenders' costs

    compute: float = Field(gt=0, description="training to give away, in trials to the last rung")
    ahead: int = Field(
        default=4,
        ge=1,
        description="pieces that may be under way, unknown, when the next one is decided on",
    )

    @abstractmethod
    def choose(
        self, contenders: Sequence[Contender], draws: npt.NDArray[np.floating[Any]]
    ) -> int | None:
        """Return the index of the free contender that is trained on; None: the race is decided.

        `draws` of shape (draws, contenders) are joint draws of the final scores, larger for
        better. At least one contender is free. Where contenders have costs, the front of score
        against them is sought; of several scores draws are (draws, contenders, metrics).
        """

    def goes_on(
        self,
        candidate: str,  # noqa: ARG002
        at_rung: Mapping[str, npt.NDArray[np.float64]],  # noqa: ARG002
        rung_index: int,  # noqa: ARG002
    ) -> bool:
        """Return True: a race stops nobody for good."""
        return True

    def described_for_front(self, rungs: Sequence[int]) -> str:
        """Say the rule in one line where it seeks a front."""
        return self.described(rungs)

    def check_plan(self, rungs: Sequence[int], trials: int) -> None:
        """Raise ValueError where the compute does not take everyone to the first rung."""
        least = trials * rungs[0] / rungs[-1]
        if self.compute < least + 1:
            raise ValueError(
                f"search.early_stopping.compute: got {self.compute:g}; expected at least "
                f"{least + 1:.3g}: {trials} architectures to the first rung ({rungs[0]} of "
                f"{rungs[-1]} steps), and one to the last"
            )


class SearchPlan(Part):
    """How candidates are chosen. Not part of the id: it changes who is tried, not any score."""

    trials: int = Field(ge=1, description="distinct architectures to try, included ones first")
    seeds_per_architecture: int = Field(
        ge=1, description="trials per architecture; scores are means; in a race, at most so many"
    )
    parallel: int = Field(ge=0, description="trials side by side; 0: one per `threads` cores")
    sampler: Literal["tpe", "random", "gp", "nsga2", "nsga3", "qmc", "front", "grid"] = Field(
        description="one of Optuna's; front, which knows costs exactly, for objectives; or grid: "
        "every architecture of the space, in random order"
    )
    sampler_options: dict[str, Any] = Field(description="keyword arguments of Optuna's sampler")
    objectives: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        exclude_if=lambda objectives: not objectives,
        description="what is sought at once, the sign says the direction: [tifa, -gmacs]; of the "
        "metrics and signals that are measured, -gmacs, -params, -compute, -latency; left out: the "
        "ranked metric alone",
    )
    latency: LatencySettings | None = Field(
        default=None,
        exclude_if=lambda settings: settings is None,
        description="how latencies are measured, and that they are; left out: only for an "
        "objective or a limit, with the defaults",
    )
    early_stopping: (
        Annotated[StoppingRule, Named("stopping", "rule", default="best_share")] | None
    ) = Field(description="null: every trial runs to the end")
    stall_minutes: float = Field(gt=0, description="a trial silent for so long is killed")
    retries: int = Field(
        default=1,
        ge=0,
        description="attempts more for a trial that was killed, lost, or out of disk or memory",
    )
    storage_wait_minutes: float = Field(
        default=10.0, gt=0, description="how long a storage that does not answer is waited for"
    )
    reuse: bool = Field(
        default=True,
        exclude_if=lambda reuse: reuse,
        description="use complete records of other studies under this budget instead of training",
    )
