"""The Optuna side of a study: who is proposed next. The only importer of Optuna."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.files import repair_torn_tail
from nas_t2i.protocol.evaluation import Better
from nas_t2i.streams import derive_seed
from nas_t2i.untrusted.redact import HIDDEN, redacted

_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "gp": optuna.samplers.GPSampler,
    "qmc": optuna.samplers.QMCSampler,
}
Scalar = bool | int | float | str


@dataclass(frozen=True)
class OpenTrial:
    """An Optuna trial that has not ended yet."""

    number: int
    attributes: Mapping[str, Any]


class _Suggest:
    """Lets Optuna choose the labels of a search space."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        return self._trial.suggest_categorical(name, list(choices))  # type: ignore[no-any-return]


class OptunaStudy:
    """Ask and tell, over any storage."""

    def __init__(
        self,
        name: str,
        storage_url: str,
        *,
        seed: int,
        sampler: str,
        sampler_options: Mapping[str, Any],
        better: Better = "larger",
        warn: Callable[[str], None],
    ) -> None:
        """Open or create the study, of scores of which `better` ones are larger or smaller.

        Raises:
            StorageError: the storage can't be used.
            MissingExtraError: the packages of a sampler are not installed.
        """
        self._seed, self._sampler = seed, sampler
        self._options = dict(sampler_options)
        check_sampler(sampler, sampler_options)  # before anything is created
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with _readable_storage_errors(storage_url):
            self._study = optuna.create_study(
                study_name=name,
                storage=_open_storage(storage_url, warn),
                direction="maximize" if better == "larger" else "minimize",
                load_if_exists=True,
            )
        self._trials: dict[int, optuna.Trial] = {}

    def ask(self, decode: Callable[[_Suggest], Any]) -> tuple[int, Any]:
        """Open a trial and let `decode` make something of its suggestions; (number, that).

        What `decode` can't use closes the trial as failed, and its UserError is passed on.
        """
        # A sampler of its own per trial, seeded by how many there were: a study that is resumed
        # proposes what it would have proposed, and never its first trials again.
        self._study.sampler = self._make_sampler(self.count())
        trial = self._study.ask()
        self._trials[trial.number] = trial
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                return trial.number, decode(_Suggest(trial))
            except UserError:
                self.tell(trial.number, None)
                raise

    def enqueue(self, parameters: Mapping[str, Scalar]) -> None:
        """Make the next ask suggest these labels."""
        self._study.enqueue_trial(dict(parameters))

    def note(self, number: int, **attributes: Any) -> None:
        """Attach attributes to an open trial, so that a later process knows what it is."""
        for name, value in attributes.items():
            self._open(number).set_user_attr(name, value)

    def report(self, number: int, step: int, value: float) -> None:
        """Keep an intermediate value (Optuna ignores a repeated step)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self._open(number).report(value, step)

    def tell(self, number: int, value: float | None, *, stopped: bool = False) -> None:
        """Close a trial: complete with a value, stopped early, or (no value) failed."""
        state = OptunaState.COMPLETE if value is not None else OptunaState.FAIL
        if stopped:
            state, value = OptunaState.PRUNED, None
        self._study.tell(number, value, state=state, skip_if_finished=True)

    def count(self) -> int:
        """Return how many trials the storage knows, open and closed."""
        return len(self._study.get_trials(deepcopy=False))

    def open_trials(self) -> list[OpenTrial]:
        """Return the trials that an earlier process left open."""
        left = self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,))
        return [OpenTrial(trial.number, trial.user_attrs) for trial in left]

    def _open(self, number: int) -> optuna.Trial:
        if number not in self._trials:
            frozen = self._study.get_trials(deepcopy=False)[number]
            self._trials[number] = optuna.Trial(self._study, frozen._trial_id)
        return self._trials[number]

    def _make_sampler(self, index: int) -> BaseSampler:
        seed = derive_seed(self._seed, "sampler", index) % 2**32
        return _make_sampler(self._sampler, seed, self._options)


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


def _open_storage(url: str, warn: Callable[[str], None]) -> BaseStorage:
    """``journal:PATH`` is a journal file; anything else is a database URL of SQLAlchemy's kind."""
    if url.startswith("journal:"):
        path = Path(url.removeprefix("journal:"))
        if not path.parent.is_dir():
            raise StorageError(f"storage {url}: no such folder: {path.parent}")
        if path.exists() and (note := repair_torn_tail(path)):
            warn(note)
        return JournalStorage(JournalFileBackend(str(path)))
    if "://" not in url:
        # Of a URL with a slip in it nobody can tell where the password is.
        shown = url.partition(":")[0] + ":..." if ":" in url else redacted(url)
        raise StorageError(
            f"storage {shown!r}: not a URL; expected e.g. journal:study.journal, "
            "sqlite:///study.db or postgresql+psycopg://user@host/database"
        )
    return optuna.storages.get_storage(url)


@contextlib.contextmanager
def _readable_storage_errors(url: str) -> Any:
    """Turn what a storage can't do into one line that names it, without its password."""
    shown = redacted(url)
    try:
        yield
    except StorageError:
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("psycopg"):
            raise MissingExtraError(f"storage {shown}", "postgres") from None
        raise StorageError(f"storage {shown}: needs the package {error.name!r}") from None
    except ImportError as error:
        raise StorageError(f"storage {shown}: {_one_line(error, url)}") from None
    except Exception as error:
        known = type(error).__module__.partition(".")[0] in {"sqlalchemy", "optuna"}
        if not (known or isinstance(error, (OSError, ValueError, KeyError))):
            raise
        raise StorageError(f"storage {shown}: can't be used: {_one_line(error, url)}") from None


def _one_line(error: BaseException, url: str) -> str:
    """Return a library's message on one line; it may quote a password that it took for a port."""
    text = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    secret = re.search(r"://[^/:@]*:(.*)@", url)
    for piece in re.split(r"[/:@?&#]", unquote(secret[1]) + "@" + secret[1]) if secret else ():
        text = text.replace(piece, HIDDEN) if piece else text
    return text
