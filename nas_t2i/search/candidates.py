"""Who is tried: included architectures, controls, then the sampler's proposals; nobody twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nas_t2i import plugins
from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.limits import Limits
from nas_t2i.arch.space import Space
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, UserError
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import CurvePoint, EndEvent, Latency, Profile, Reused, TrialState
from nas_t2i.search.study import MEASURED_IN, Draft, OptunaStudy
from nas_t2i.search.trial_config import Control, TrialConfig
from nas_t2i.streams import derive_seed

FloatArray = npt.NDArray[np.float64]

_ASKS = 30  # proposals in a row that may be unusable before the sampler is passed over
_DRAWS = 2000  # uniform draws before the space counts as used up
_TOO_SLOW = 100  # measured in a row beyond the limit on latency: no more are
_IN_VAIN = f"none of {_TOO_SLOW} timed in a row is within the limit on latency, or fits the memory"
POOL = 96  # architectures that one is chosen among where it is not Optuna that chooses


@dataclass
class Candidate:
    """An architecture under the study's budget: one trial for each of its seeds."""

    name: str
    arch: Arch
    trained: Arch
    profile: Profile
    trained_profile: Profile
    seeds: tuple[int, ...]
    control: Control = ""
    optuna_number: int | None = None
    points: dict[int, dict[int, CurvePoint]] = field(default_factory=dict)  # rung -> seed -> point
    ends: dict[int, EndEvent] = field(default_factory=dict)  # by seed
    stopped: bool = False  # a rung decided against it; its other seeds stop at their next rung
    failures: dict[int, int] = field(default_factory=dict)  # started seed -> attempts that failed
    reused: dict[int, Reused] = field(default_factory=dict)  # seed -> where it was trained
    latency: Latency | None = None  # of the full architecture; None: not measured
    _prompt_scores: dict[tuple[int, str], tuple[list[int], FloatArray]] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def key(self) -> tuple[str, str]:
        """No two candidates of a study share it."""
        return self.arch.arch_id, self.control

    @property
    def label(self) -> str:
        """The key in one word."""
        return self.arch.arch_id + (f"-{self.control}" if self.control else "")

    @property
    def sizes(self) -> dict[str, float]:
        """Size and compute by name: of the architecture, and of what is trained."""
        full, trained = self.profile, self.trained_profile
        sizes = {
            "params": full.params,
            "gmacs": full.gmacs,
            "attention_share": full.attention_share,
            "trained_params": trained.params,
            "trained_gmacs": trained.gmacs,
        }
        return sizes if self.latency is None else sizes | {"latency_s": self.latency.median_s}

    def excess(self, limits: Limits) -> dict[str, float]:
        """Return how far it is beyond each soft limit, as a share of it; 0 or less: within."""
        timed = self.latency
        return limits.excess(self.profile, latency=None if timed is None else timed.median_s)

    @property
    def finished(self) -> bool:
        """Whether every seed has its end event."""
        return all(
            seed in self.ends and self.ends[seed].state is not TrialState.INTERRUPTED
            for seed in self.seeds
        )

    def has_started(self, seed: int) -> bool:
        """Whether any process of a seed's trial is on record."""
        return seed in self.failures

    def prompt_scores(self, rung: int, metric: str) -> FloatArray:
        """Return the score of each prompt at a rung, (prompts,), the mean over the seeds seen.

        Of a signal's name, what each held-out pair contributes; where single ones are not on
        record, the value alone.
        """
        seen = [id(point) for point in self.points[rung].values()]
        known = self._prompt_scores.get((rung, metric))
        if known is not None and known[0] == seen:  # a decision asks for those of every candidate
            return known[1]
        columns = [_single(point, metric) for point in self.points[rung].values()]
        means = np.array([sum(scores) / len(scores) for scores in zip(*columns, strict=True)])
        self._prompt_scores[rung, metric] = seen, means
        return means

    def config(self, study: str, number: int, budget: Budget, seed: int) -> TrialConfig:
        """Return the frozen config of one seed's trial."""
        return TrialConfig(
            study=study,
            number=number,
            optuna_number=self.optuna_number,
            name=self.name,
            arch=self.arch.canonical(),
            trained_arch=self.trained.canonical(),
            profile=self.profile,
            trained_profile=self.trained_profile,
            budget=budget.model_dump(mode="json"),
            budget_id=budget.budget_id,
            seed=seed,
            control=self.control,
            plugins=plugins.used(),
            latency=self.latency,
        )


def _single(point: CurvePoint, name: str) -> Sequence[float]:
    if name in point.scores:
        return point.scores[name].per_prompt
    signal = point.signals[name]
    return signal.per_pair or [signal.value]


class Maker(Protocol):
    """Turns architectures into candidates; a replay has its own."""

    def trained(self, arch: Arch) -> Arch:
        """Return what the budget trains for `arch`. Raises ArchError."""

    def profile(self, arch: Arch, /) -> Profile:
        """Return the size and compute of the full architecture."""

    def is_timed(self, arch: Arch, /) -> bool:
        """Whether `latency` answers without measuring."""

    def latency(self, arch: Arch, /) -> float | None:
        """Return the seconds of a pass of it, measured now if need be; None: nobody asks for it."""

    def make(self, arch: Arch, *, name: str = "", control: Control = "") -> Candidate:
        """Return the candidate of an architecture."""


class Chooser(Protocol):
    """Chooses among architectures by what was told of others: a sampler that is not Optuna's."""

    def choose(
        self,
        tried: Sequence[Candidate],
        told: Sequence[tuple[float, ...] | None],
        pool: Sequence[Candidate],
    ) -> int:
        """Return the index of the one of `pool` to try; `told` is of each that was tried."""


class Proposals:
    """An endless-looking supply of new candidates, until the space is used up."""

    def __init__(
        self,
        space: Space,
        factory: Maker,
        study: OptunaStudy,
        *,
        seed: int,
        controls: bool,
        exhaustive: bool,
        known: dict[tuple[str, str], Candidate],
        say: Callable[[str], None],
        chooser: Chooser | None = None,
    ) -> None:
        """`exhaustive`: every architecture of the space is proposed, in random order.

        `chooser` proposes instead of Optuna's sampler.
        """
        self._space, self._factory, self._study = space, factory, study
        self._seed, self._say = seed, say
        self._known = known
        self._proxies = {c.trained.arch_id: c.name for c in known.values() if not c.control}
        self._elsewhere: dict[str, str] = {}  # arch_id -> the study it was measured in
        for trial in study.known_trials():
            if MEASURED_IN in trial.attributes:
                arch = arch_from_dict(dict(trial.attributes["arch"]))
                self._elsewhere[arch.arch_id] = trial.attributes[MEASURED_IN]
                self._proxies.setdefault(factory.trained(arch).arch_id, trial.attributes["name"])
        self._chooser = chooser
        self._made: dict[str, Candidate] = {}  # those that `chooser` was shown
        self._planned = self._plan(controls)
        self._grid = self._list() if exhaustive else None
        # Refused since the last new one, for latencies that were measured for it.
        self._too_slow = 0
        self._used_up = False  # the space: nothing new was found in it

    def next(self, *, planned_only: bool) -> Candidate | None:
        """Return the next new candidate: planned ones first; None when there is no other."""
        candidate = next(self._planned, None)
        if candidate is None and not planned_only and not self._used_up:
            if self._grid is not None:
                candidate = next(self._grid, None)
            elif self._chooser is not None:
                candidate = self._chosen(self._chooser)
            else:
                candidate = self._from_sampler() or self._from_uniform()
            self._used_up = candidate is None
            if self._used_up and self._too_slow >= _TOO_SLOW:
                self._say(f"no more is tried: {_IN_VAIN}")
            elif self._used_up and self._space.parameters:
                self._say(
                    "the space holds no other architecture that is within its limits and not yet "
                    "trained"
                )
        if candidate is not None:
            self._too_slow = 0
            self._known[candidate.key] = candidate
            self._proxies.setdefault(candidate.trained.arch_id, candidate.name)
        return candidate

    def _plan(self, controls: bool) -> Iterator[Candidate]:
        for name, arch in self._space.included:
            if (arch.arch_id, "") not in self._known and arch.arch_id not in self._elsewhere:
                yield self._enqueue(self._factory.make(arch, name=name))
        if controls:
            for candidate in control_candidates(self._space, self._factory):
                if candidate.key not in self._known:
                    yield candidate

    def _enqueue(self, candidate: Candidate) -> Candidate:
        """Register a chosen architecture with Optuna, if it is a point of the space."""
        labels = self._space.encode(candidate.arch)
        if labels is not None:
            self._keep(self._study.draft(self._space.suggest, labels), candidate)
        return candidate

    def _keep(self, draft: Draft, candidate: Candidate) -> Candidate:
        known: dict[str, Any] = {"name": candidate.name, "arch": candidate.arch.canonical()}
        known |= candidate.sizes
        draft.beyond(candidate.excess(self._space.limits))
        candidate.optuna_number = self._study.keep(draft, **known)
        return candidate

    def _from_sampler(self) -> Candidate | None:
        if not self._space.parameters:
            return None
        # What a process refused that was killed before it kept one counts, too.
        for _ in range(_ASKS - self._study.refused_in_a_row()):
            draft = self._study.draft(self._space.suggest)
            problem = draft.problem or self._why_not(draft.made)
            if not problem:
                return self._keep(draft, self._factory.make(draft.made))
            self._study.refuse(draft, problem)
        return None

    def _from_uniform(self) -> Candidate | None:
        """Draw from the space when the sampler keeps proposing what is known or out of bounds."""
        if not self._space.parameters:
            return None
        rng = random.Random(derive_seed(self._seed, "uniform proposal", len(self._known)))  # noqa: S311
        for _ in range(_DRAWS):
            arch = self._space.sample(rng)
            if not self._why_not(arch):
                return self._enqueue(self._factory.make(arch))
        return None

    def _chosen(self, chooser: Chooser) -> Candidate | None:
        """Let the chooser have one of a pool: always the first draws that are not tried yet."""
        if not self._space.parameters:
            return None
        rng = random.Random(derive_seed(self._seed, "pool of proposals"))  # noqa: S311
        pool: dict[str, Candidate] = {}
        for _ in range(_DRAWS):
            arch = self._space.sample(rng)
            if arch.arch_id in pool or self._why_not(arch):
                continue
            pool[arch.arch_id] = self._make(arch)
            if len(pool) == POOL:
                break
        if not pool:
            return None
        told = self._study.values()
        tried = {
            trial.number: self._make(arch_from_dict(dict(trial.attributes["arch"])))
            for trial in self._study.known_trials()
            if trial.number in told and "arch" in trial.attributes
        }
        options = list(pool.values())
        values = [told[number] for number in tried]
        return self._enqueue(options[chooser.choose(list(tried.values()), values, options)])

    def _make(self, arch: Arch) -> Candidate:
        if arch.arch_id not in self._made:
            self._made[arch.arch_id] = self._factory.make(arch)
        return self._made[arch.arch_id]

    def _list(self) -> Iterator[Candidate]:
        architectures = list(self._space.enumerate())
        # Whoever stops half-way has a fair sample.
        random.Random(derive_seed(self._seed, "grid")).shuffle(architectures)  # noqa: S311
        for arch in architectures:
            if not self._why_not(arch):
                yield self._enqueue(self._factory.make(arch))

    def _why_not(self, arch: Arch) -> str:
        if (arch.arch_id, "") in self._known:
            return "already in the study"
        if arch.arch_id in self._elsewhere:
            return f"measured in study {self._elsewhere[arch.arch_id]}"
        try:
            proxy = self._factory.trained(arch).arch_id
        except ArchError as error:
            return str(error)
        if proxy in self._proxies:
            return f"the budget trains the same proxy as for {self._proxies[proxy]}"
        size = self._factory.profile(arch)
        if why := self._space.limits.check(size):
            return why
        drawn = self._grid is None and not self._factory.is_timed(arch)
        if drawn and self._too_slow >= _TOO_SLOW:
            return _IN_VAIN
        try:
            why = self._space.limits.check(size, latency=self._factory.latency(arch))
        except UserError as error:
            why = str(error)
        self._too_slow += bool(drawn and why)
        return why or ""


def control_candidates(space: Space, factory: Maker) -> list[Candidate]:
    """Return the two controls, made from the space's first architecture.

    Without cross-attention the text can't reach the image; with shuffled captions there is
    nothing to learn from it. Both must end at chance, or the benchmark measures something else.
    """
    if space.included:
        name, arch = space.included[0]
    else:
        arch = space.sample(random.Random(0))  # noqa: S311
        name = name_of(arch)
    shuffled = factory.make(arch, name=f"{name} (shuffled captions)", control="shuffled-captions")
    canonical = arch.canonical()
    if "transformer_depth" not in canonical:
        return [shuffled]  # a pure transformer without cross-attention is another family
    without_text = arch_from_dict(
        {**canonical, "transformer_depth": [0] * len(canonical["channel_mult"]), "mid_depth": 0}
    )
    no_text = factory.make(
        without_text, name=f"{name} (no cross-attention)", control="no-cross-attention"
    )
    return [no_text, shuffled]
