"""What a tracker is: a program elsewhere that is given runs, rows of numbers, and images."""

from __future__ import annotations

import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from PIL import Image

from nas_t2i.errors import MissingExtraError, UserError

NOTHING = -1
"""The step of the last row of a run that holds none."""


class TrackingError(UserError):
    """What a tracker was given did not arrive: exit status 1, for the study is sound."""

    status = 1


Param = bool | int | float | str


@dataclass(frozen=True)
class Run:
    """What a tracker shows as one run: a trial (one architecture, one seed), or the search."""

    key: str
    """The same whenever, and from wherever, its study is sent: 20 hexadecimal digits."""
    name: str
    """For people; two runs of a study may share it."""
    study: str
    params: Mapping[str, Param]
    """What distinguishes it: parameters of the architecture, params, GMACs, seed."""
    metric: str
    """The value by which runs are compared: its last one is the run's result."""

    @property
    def file_name(self) -> str:
        """A name for a file or folder, no two runs of a study share it."""
        return f"{safe_name(self.name)}-{self.key[:8]}"


@dataclass(frozen=True)
class Row:
    """What was measured of a run at one step. Steps of a run ascend."""

    step: int
    values: Mapping[str, float]
    """By name, such as ``scores/tifa``; may be NaN or infinite where a trial diverged."""
    images: Mapping[str, Image.Image] = field(default_factory=dict)


class Tracker(ABC):
    """Sends runs somewhere: what a plug-in of the kind ``trackers`` derives from.

    It is named ``NAME=WHERE`` on the command line. For each run `begin` is called, then `log` with
    the rows that it does not hold yet, then `end`. Several runs may be open at a time, and one that
    has ended may be begun again: by a resumed search, or in another process. So `begin` says what
    is held, and nothing is sent twice.

    Whatever it raises costs neither a trial nor the search: it is said once, and the tracker gets
    nothing more. Errors from the modules in PACKAGES, and of the network, are told in a line.

    Attributes:
        TAKES: what WHERE is, for messages, such as DIR or URI.
        PACKAGES: modules that it imports, when it is first used and not before.
        EXTRA: the extra of nas-t2i that installs them.
    """

    TAKES: ClassVar[str] = "WHERE"
    PACKAGES: ClassVar[tuple[str, ...]] = ()
    EXTRA: ClassVar[str] = ""

    def __init__(self, where: str) -> None:
        self.where = where

    def check(self) -> None:
        """Say, in an instant and without sending anything, whether it can work at all.

        Raises:
            MissingExtraError: a package is not installed.
            ConfigError: WHERE is no such place.
        """
        if any(importlib.util.find_spec(name) is None for name in self.PACKAGES):
            raise MissingExtraError(f"sending a study to {self.EXTRA}", self.EXTRA)

    @abstractmethod
    def begin(self, run: Run) -> int:
        """Begin a run, or take it up again; return the step of its last row, `NOTHING` for none."""

    @abstractmethod
    def log(self, run: Run, rows: Sequence[Row]) -> None:
        """Take rows of a run that has begun; their steps are above the last one's."""

    @abstractmethod
    def end(self, run: Run, state: str, reason: str) -> None:
        """End a run; `state` is one of TrialState's, or "ended" for the search."""

    def close(self) -> None:  # noqa: B027  there may be nothing to do
        """Let everything arrive; nothing is called afterwards. Runs may be open: they go on."""


_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def safe_name(text: str) -> str:
    """Return a text as a part of a path: letters, digits and ``._+-``, at most 80, no dot first."""
    return _UNSAFE.sub("_", text)[:80].lstrip(".") or "_"
