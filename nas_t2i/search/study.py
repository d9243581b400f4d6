"""The Optuna side of a study: who is proposed next, and what became of it."""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.protocol.evaluation import Better
from nas_t2i.search.storage import (
    GENERATION,
    DraftStorage,
    Patience,
    open_storage,
    readable_storage_errors,
)
from nas_t2i.streams import derive_seed
from nas_t2i.untrusted.redact import redacted

T = TypeVar("T")
Scalar = bool | int | float | str
_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "gp": optuna.samplers.GPSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
    "qmc": optuna.samplers.QMCSampler,
    # Never asked: all that is proposed is named.
    **dict.fromkeys(("grid", "front"), optuna.samplers.RandomSampler),
}
_STATES = {
    "running": OptunaState.RUNNING,
    "complete": OptunaState.COMPLETE,
    "stopped": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}
MEASURED_IN = "measured_in"  # the trial's attribute that names the study it was measured in
_OWNER = "nas_t2i"  # the study's attribute that says whose it is
_ARCHITECTURE = "architecture"  # how the study's attributes of architectures begin
_REJECTED = "rejected"  # the trial's attribute that says why it was not tried
_KEPT = re.compile(f"{GENERATION}$|^constraints:")  # of what Optuna notes on a trial
_INSTEAD_OF = "instead_of"  # the trial's attribute that names the one it stands for


@dataclass(frozen=True)
class Outcome:
    """How far a candidate is, as the sampler is to know it."""

    state: Literal["running", "complete", "stopped", "failed"]
    value: float | None
    """Mean over the seeds at the last rung, of a complete one."""
    at_rungs: Mapping[int, float]
    """Mean over the seeds at each rung that all of them have reached."""
    values: tuple[float, ...] = ()
    """One for each of several objectives, in their order; then `value` is None."""
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    """What else is known of a finished one, by name, for people; no sampler reads it."""

    @property
    def told(self) -> list[float] | None:
        """What Optuna is told of a complete one."""
        if self.values:
            return list(self.values)
        return None if self.value is None else [self.value]


@dataclass(frozen=True)
class KnownTrial:
    """An Optuna trial of an earlier process."""

    number: int
    finished: bool
    attributes: Mapping[str, Any]


@dataclass
class Draft:
    """A proposal that no storage knows yet."""

    trial: FrozenTrial
    made: Any = None
    problem: str = ""
    """Why nothing could be made of it."""

    def beyond(self, excess: Mapping[str, float]) -> Draft:
        """Note by how much it is beyond each soft limit, of the same ones for every draft.

        Optuna's TPE, GP, NSGA-II and NSGA-III prefer what is within: at 0 or less.
        """
        for name, value in excess.items():
            self.trial.set_constraint(name, value)
        return self


class _Suggest:
    """Lets a sampler choose the labels of a search space."""

    def __init__(
        self, study: optuna.Study, trial: FrozenTrial, fixed: Mapping[str, Scalar]
    ) -> None:
        self._study, self._trial, self._fixed = study, trial, fixed
        sampler = study.sampler
        sampler.before_trial(study, trial)
        space = sampler.infer_relative_search_space(study, trial)
        self._relative = {} if fixed else sampler.sample_relative(study, trial, space)

    def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        distribution = CategoricalDistribution(list(choices))
        if name not in self._trial.params:
            self._trial.params[name] = self._draw(name, distribution)
            self._trial.distributions[name] = distribution
        return self._trial.params[name]  # type: ignore[no-any-return]

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._fixed:
            return self._fixed[name]
        if distribution.single():
            return distribution.choices[0]
        if name in self._relative:
            return self._relative[name]
        return self._study.sampler.sample_independent(self._study, self._trial, name, distribution)


class OptunaStudy:
    """Proposals and outcomes, over any storage.

    Every proposal enters the storage whole, in one operation, so that a process killed at any
    moment leaves none that is half made.
    """

    def __init__(
        self,
        name: str,
        storage_url: str,
        *,
        seed: int,
        sampler: str,
        sampler_options: Mapping[str, Any],
        better: Better | Sequence[Better] = "larger",
        own: bool = False,
        wait_minutes: float = 10.0,
        warn: Callable[[str], None],
    ) -> None:
        """Open or create the study, of scores of which `better` ones are larger or smaller.

        Of several objectives `better` has one each.

        `storage_url` may be "": it is kept in memory.

        `own`: no other process can have the storage, a journal, open. A storage that is lost later
        is waited for during `wait_minutes`.

        Raises:
            StorageError: the storage can't be used.
            MissingExtraError: the packages of a sampler are not installed.
        """
        self._seed, self._sampler = seed, sampler
        self._options = dict(sampler_options)
        check_sampler(sampler, sampler_options)  # before anything is created
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._url, self.shown = storage_url, redacted(storage_url)
        self.patience = Patience(storage_url, wait_minutes, warn)
        sought = [better] if isinstance(better, str) else better
        directions = ["maximize" if one == "larger" else "minimize" for one in sought]
        with readable_storage_errors(storage_url):
            self._study = optuna.create_study(
                study_name=name,
                storage=open_storage(storage_url, warn, own=own),
                directions=directions,
                load_if_exists=True,
            )
            there = [direction.name.lower() for direction in self._study.directions]
        if there != directions:
            raise StorageError(
                f"storage {self.shown}: its study of this name seeks {', '.join(there)}, not "
                f"{', '.join(directions)}; choose another --study, or the objectives it began with"
            )
        self._storage = self._study._storage

    @property
    def owner(self) -> dict[str, str]:
        """Whose study it is; nothing for one that nobody has taken yet."""
        return self._patiently(lambda: dict(self._study.user_attrs.get(_OWNER, {})))

    @owner.setter
    def owner(self, owner: Mapping[str, str]) -> None:
        self._patiently(lambda: self._study.set_user_attr(_OWNER, dict(owner)))

    def draft(
        self, decode: Callable[[_Suggest], Any], fixed: Mapping[str, Scalar] | None = None
    ) -> Draft:
        """Draw a proposal, or the one that `fixed` names, and let `decode` make something of it."""
        return self._patiently(lambda: self._draft(decode, fixed or {}))

    def _draft(self, decode: Callable[[_Suggest], Any], fixed: Mapping[str, Scalar]) -> Draft:
        trials = self._trials()
        draft = Draft(_frozen(len(trials)))
        study = copy.copy(self._study)
        study._storage = DraftStorage(self._storage, draft.trial)
        # A sampler of its own per trial, seeded by how many there were: a study that is resumed
        # proposes what it would have proposed, and never its first trials again.
        study.sampler = self._make_sampler(sum(_INSTEAD_OF not in t.user_attrs for t in trials))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                draft.made = decode(_Suggest(study, draft.trial, fixed))
            except UserError as error:
                draft.problem = str(error)
        return draft

    def keep(self, draft: Draft, *, outcome: Outcome | None = None, **attributes: Any) -> int:
        """Open a trial for a draft (with an `outcome`, a finished one); return its number."""
        state = _STATES[outcome.state] if outcome else OptunaState.RUNNING
        return self._create(draft.trial, state, attributes, outcome)

    def refuse(self, draft: Draft, why: str) -> None:
        """Put a draft on record as one that was not tried."""
        self._create(draft.trial, OptunaState.FAIL, {_REJECTED: why})

    def refused_in_a_row(self) -> int:
        """Return how many of the latest proposals were refused, one after the other."""
        count = 0
        for trial in reversed(self._patiently(self._trials)):
            if _REJECTED in trial.user_attrs:
                count += 1
            elif _INSTEAD_OF not in trial.user_attrs:
                break
        return count

    def agree(self, number: int, outcome: Outcome) -> int:
        """Have the storage hold the outcome of a trial; return the number it is held under.

        Optuna's finished trials can't be changed: where one holds something else, another trial
        takes its place and says so.
        """
        return self._patiently(lambda: self._agree(number, outcome))

    def _agree(self, number: int, outcome: Outcome) -> int:
        trial = self._storage.get_trial(self._id(number))
        held, is_open = trial.intermediate_values, not trial.state.is_finished()
        if is_open and held.keys() <= outcome.at_rungs.keys():
            for step, value in outcome.at_rungs.items():
                if held.get(step) != value:
                    self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
            if outcome.state != "running":
                for name, said in outcome.attributes.items():  # a finished one takes none
                    if trial.user_attrs.get(name) != said:
                        self._storage.set_trial_user_attr(trial._trial_id, name, said)
                self._study.tell(number, outcome.told, state=_STATES[outcome.state])
            return number
        # One that is measured again may come to hold the same: that shows at its end.
        if _holds(trial, outcome) or (outcome.state == "running" and not is_open):
            return number
        if is_open:
            self._study.tell(number, state=OptunaState.FAIL)
        place = _frozen(len(self._trials()))
        place.params, place.distributions = dict(trial.params), dict(trial.distributions)
        place.system_attrs = {k: v for k, v in trial.system_attrs.items() if _KEPT.search(k)}
        told = trial.user_attrs | dict(outcome.attributes) | {_INSTEAD_OF: number}
        return self._create(place, _STATES[outcome.state], told, outcome=outcome)

    def note(self, name: str, attributes: Mapping[str, float | str]) -> None:
        """Put on record what became of an architecture whose trial was finished before that."""
        said = dict(attributes)
        self._patiently(lambda: self._study.set_user_attr(f"{_ARCHITECTURE} {name}", said))

    def known_trials(self) -> list[KnownTrial]:
        """Return all trials but those for which another one stands."""
        trials = self._patiently(self._trials)
        passed = {trial.user_attrs.get(_INSTEAD_OF) for trial in trials}
        return [
            KnownTrial(trial.number, trial.state.is_finished(), trial.user_attrs)
            for trial in trials
            if trial.number not in passed
        ]

    def values(self) -> dict[int, tuple[float, ...] | None]:
        """Return by number what was told of those that completed; None of open ones."""
        return {
            trial.number: tuple(trial.values) if trial.values else None
            for trial in self._patiently(self._trials)
            if trial.state in (OptunaState.COMPLETE, OptunaState.RUNNING)
        }

    def place_of(self, number: int) -> int | None:
        """Return the number under which a trial is held now, None where it is not known."""
        trials = self._patiently(self._trials)
        instead = {trial.user_attrs.get(_INSTEAD_OF): trial.number for trial in trials}
        while number in instead:
            number = instead[number]
        return number if number < len(trials) else None

    def discard(self, number: int) -> None:
        """Close a trial that nothing came of."""
        failed = OptunaState.FAIL
        self._patiently(lambda: self._storage.set_trial_state_values(self._id(number), failed))

    def count(self) -> int:
        """Return how many trials the storage knows, open and closed."""
        return len(self._patiently(self._trials))

    def _create(
        self,
        draft: FrozenTrial,
        state: Any,
        attributes: Mapping[str, Any],
        outcome: Outcome | None = None,
    ) -> int:
        at_rungs = dict(outcome.at_rungs) if outcome else {}
        values = outcome.told if outcome else None
        if state is OptunaState.PRUNED and at_rungs:
            values = [at_rungs[max(at_rungs)]]  # as Optuna has it
        template = create_trial(
            state=state,
            values=values,
            params=draft.params,
            distributions=draft.distributions,
            user_attrs=dict(attributes),
            system_attrs=dict(draft.system_attrs),
            intermediate_values=at_rungs,
        )

        def create() -> None:
            # The answer to an earlier attempt may have been lost: then it is there.
            if len(self._trials()) == draft.number:
                self._storage.create_new_trial(self._study._study_id, template_trial=template)

        self._patiently(create)
        return int(draft.number)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)  # type: ignore[no-any-return]

    def _id(self, number: int) -> int:
        study = self._study._study_id
        return int(self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _patiently(self, act: Callable[[], T]) -> T:
        with readable_storage_errors(self._url):
            return self.patience(act)

    def _make_sampler(self, index: int) -> BaseSampler:
        seed = derive_seed(self._seed, "sampler", index) % 2**32
        return _make_sampler(self._sampler, seed, self._options)


def _frozen(number: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=OptunaState.RUNNING,
        value=None,
        datetime_start=datetime.now(UTC).replace(tzinfo=None),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def _holds(trial: FrozenTrial, outcome: Outcome) -> bool:
    return (
        trial.state is _STATES[outcome.state]
        and (outcome.state != "complete" or trial.values == outcome.told)
        and trial.intermediate_values == dict(outcome.at_rungs)
    )


def check_sampler(name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError for options that Optuna's sampler doesn't take, or a missing package."""
    _make_sampler(name, 0, options)


def _make_sampler(name: str, seed: int, options: Mapping[str, Any]) -> BaseSampler:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _SAMPLERS[name](seed=seed, **options)
    except ImportError:
        raise MissingExtraError(f"the sampler {name!r}", "samplers") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"search.sampler_options of {name!r}: {error}") from None
