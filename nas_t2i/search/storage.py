"""Optuna storages: opened, waited for while they are away, and their trouble told in one line."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial

from nas_t2i.errors import MissingExtraError, StorageError, Where
from nas_t2i.files import json_object, read_bytes, record_error, repair_torn_tail
from nas_t2i.untrusted.redact import HIDDEN, redacted

T = TypeVar("T")
Say = Callable[[str], None]
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
GENERATION = ":generation"  # how what a genetic sampler notes on a trial ends
_GRACE_SECONDS = 30  # after which Optuna takes a journal's lock for one that was left behind
_LOST = {"OperationalError", "InterfaceError", "InternalError", "PendingRollbackError"}
_LOST |= {"TimeoutError", "DisconnectionError", "StorageInternalError"}


def open_storage(url: str, warn: Say, *, own: bool) -> BaseStorage:
    """Open ``journal:PATH``, a journal file, or a database URL of SQLAlchemy's kind.

    "" is a storage in memory, for replays.

    `own`: nobody else can have the journal open, so that a lock on it is one that was left behind.

    Raises:
        StorageError: it can't be used.
        RecordError: the journal is damaged; says where.
    """
    if not url:
        return InMemoryStorage()
    if url.startswith("journal:"):
        # Absolute: the lock is a link to it, and a link from another folder would lead nowhere.
        path = Path(url.removeprefix("journal:")).absolute()
        if not path.parent.is_dir():
            raise StorageError(f"storage {redacted(url)}: no such folder: {path.parent}")
        if own:
            _remove_stale_lock(path, warn)
        if path.exists():
            if note := repair_torn_tail(path):
                warn(note)
            _check_journal(path)
        return JournalStorage(JournalFileBackend(str(path), _SpokenLock(path, warn)))
    if "://" not in url:
        # Of a URL with a slip in it nobody can tell where the password is.
        shown = url.partition(":")[0] + ":..." if ":" in url else redacted(url)
        raise StorageError(
            f"storage {shown!r}: not a URL; expected e.g. journal:study.journal, "
            "sqlite:///study.db or postgresql+psycopg://user@host/database"
        )
    return optuna.storages.get_storage(url)


def _check_journal(path: Path) -> None:
    """Raise RecordError, with its place, for a line that Optuna would stumble over."""
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        operation = json_object(line, path, number).get("op_code")
        if operation not in [*JournalOperation]:
            raise record_error(
                Where(str(path), number, 1),
                f"op_code: got {operation!r:.60}",
                expected=f"one of Optuna's, 0 to {max(JournalOperation)}",
            )


def _lock_of(journal: Path) -> Path:
    return Path(f"{journal}.lock")


def _remove_stale_lock(journal: Path, warn: Say) -> None:
    lock = _lock_of(journal)
    if os.path.lexists(lock):
        lock.unlink(missing_ok=True)
        warn(f"{lock}: left by a process that was killed; removed")


class _SpokenLock(JournalFileSymlinkLock):  # type: ignore[misc]
    """Optuna's lock on a journal, which says so when it has to wait."""

    def __init__(self, journal: Path, warn: Say) -> None:
        super().__init__(str(journal), grace_period=_GRACE_SECONDS)
        self._file, self._warn = _lock_of(journal), warn

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        if os.path.lexists(self._file):
            time.sleep(0.2)  # one that is in use is let go within a write
        if os.path.lexists(self._file):
            self._warn(
                f"{self._file}: another process writes the journal, or left this lock behind when "
                f"it was killed; if nothing happens for {_GRACE_SECONDS} s it is removed"
            )
        return bool(super().acquire())


class DraftStorage:
    """A storage in which a draft is no trial: of what a sampler notes on it, little is kept."""

    def __init__(self, storage: Any, draft: FrozenTrial) -> None:
        self._storage, self._draft = storage, draft

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, _: int, key: str, value: Any) -> None:
        """Keep the generation that a genetic sampler notes."""
        # Without its generation a genetic sampler would take every trial for one of the first.
        if key.endswith(GENERATION):
            self._draft.system_attrs[key] = value


class Patience:
    """Tries again, with growing pauses, what a storage that is away can't do now.

    What is tried must be safe to do twice: an answer may have been lost on its way.
    """

    def __init__(self, url: str, minutes: float, say: Say) -> None:
        self._url, self._shown = url, redacted(url)
        self._minutes, self._say = minutes, say
        self._over = False
        self.leave: Callable[[], bool] = lambda: False

    def __call__(self, act: Callable[[], T]) -> T:
        """Return what `act` returns.

        Raises:
            StorageError: no answer for the declared time, or until the search was asked to leave.
        """
        begin, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        said = False
        while True:
            try:
                result = act()
            except Exception as error:
                if not is_lost(error):
                    raise
                problem = one_line(error, self._url)
                if not (said or self._over or self.leave()):
                    said = True
                    self._say(
                        f"storage {self._shown}: {problem}; trying again for "
                        f"{self._minutes:g} minutes; trials train on to their next rung meanwhile"
                    )
                until = min(time.monotonic() + pause, begin + 60 * self._minutes)
                while time.monotonic() < until and not (self._over or self.leave()):
                    time.sleep(min(0.2, pause))
                if self._over or self.leave() or time.monotonic() >= begin + 60 * self._minutes:
                    self._over = True  # on the way out nobody waits again
                    raise StorageError(
                        f"storage {self._shown}: no answer for "
                        f"{(time.monotonic() - begin) / 60:.1f} minutes: {problem}; all records "
                        "are saved in the study's folder, and the same command carries on"
                    ) from None
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                if said:
                    self._say(f"storage {self._shown}: answers again")
                return result


def is_lost(error: BaseException | None) -> bool:
    """Whether an error says that a storage is away, which may pass."""
    seen = 0
    while error is not None and seen < 10:
        if type(error).__module__.partition(".")[0] in {"sqlalchemy", "optuna", "psycopg"}:
            if type(error).__name__ in _LOST:
                return True
        elif isinstance(error, OSError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


@contextlib.contextmanager
def readable_storage_errors(url: str) -> Iterator[None]:
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
        raise StorageError(f"storage {shown}: {one_line(error, url)}") from None
    except Exception as error:
        known = type(error).__module__.partition(".")[0] in {"sqlalchemy", "optuna"}
        if not (known or isinstance(error, (OSError, ValueError, KeyError))):
            raise
        raise StorageError(f"storage {shown}: can't be used: {one_line(error, url)}") from None


def one_line(error: BaseException, url: str) -> str:
    """Return a library's message on one line; it may quote a password that it took for a port."""
    wrapped: BaseException | None = error  # what the database said is within what was made of it
    while wrapped is not None and getattr(wrapped, "orig", None) is None:
        wrapped = wrapped.__cause__
    cause = getattr(wrapped, "orig", None) or error
    text = " ".join(str(cause).split())[:300]
    secret = re.search(r"://[^/:@]*:(.*)@", url)
    for piece in re.split(r"[/:@?&#]", unquote(secret[1]) + "@" + secret[1]) if secret else ():
        text = text.replace(piece, HIDDEN) if piece else text
    return text
