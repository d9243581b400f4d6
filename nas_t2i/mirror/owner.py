"""Who searches a study at a URL: an object that its driver puts anew every few seconds.

An object store has no locks. What this can promise: whoever finds an owner whose object does not
change for `STALE_SECONDS` may take over; an owner that was only cut off sees the other one's object
when it is back, and sends nothing more. What it can't: between the owner's last look and its
next, both may send. No clock is compared with another machine's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nas_t2i.errors import StorageError
from nas_t2i.mirror.place import Place, cant
from nas_t2i.untrusted.json_text import parse_json

OWNER_FILE = "owner.json"
BEAT_SECONDS = 10.0  # between two signs of life
STALE_SECONDS = 60.0  # without one, until an owner counts as gone
SETTLE_SECONDS = 2.0  # for another one that starts at the same moment to be seen
_FRESH_SECONDS = 120.0  # for a reader, whose clock may differ


class Owner(BaseModel):
    """What the object says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    token: str  # of this run of a search
    process: int
    host: str
    beat: int = 0
    time: datetime
    released: bool = False  # it left in order

    def __str__(self) -> str:
        return f"process {self.process} on host {self.host}"

    @property
    def seems_there(self) -> bool:
        """Whether it looks alive to a reader, by this machine's clock."""
        age = (datetime.now(UTC) - self.time).total_seconds()
        return not self.released and age < _FRESH_SECONDS


def parse_owner(content: bytes, shown: str) -> Owner:
    """Return what an owner's object says. Raises StorageError."""
    try:
        data: Any = parse_json(content)
        return Owner.model_validate(data)
    except (ValueError, ValidationError):
        raise StorageError(f"{shown}/{OWNER_FILE}: not what a search puts there") from None


class Lease:
    """A study at a URL, owned until `release`; `lost` says who took it meanwhile, "" for nobody.

    Raises:
        StorageError: another driver has it, or the store can't be read or written.
    """

    def __init__(self, place: Place, tokens: list[str], say: Callable[[str], None]) -> None:
        """Take it; `tokens` are of owners that are known to be gone, the last is to be its own."""
        self.token = tokens[-1]
        self.lost = ""
        self.before: Owner | None = None
        """Who had it last."""
        self._place, self._beat = place, 0
        self._closed = threading.Event()
        try:
            self.before = self._read()
        except StorageError:
            raise
        except Exception as error:
            raise cant("can't be read", place, error) from None
        before = self.before
        if before is not None and not before.released and before.token not in tokens:
            self._outwait(before, say)
        try:
            self._put()
            time.sleep(SETTLE_SECONDS)
            now = self._read()
        except Exception as error:
            raise cant("can't be written", place, error) from None
        if now is None or now.token != self.token:
            raise StorageError(f"{place.url}: is being searched by {now or 'another driver'}")
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)
        self._thread.start()

    def release(self, *, begun: bool) -> None:
        """Leave in order; of a search that never began nothing stays there."""
        self._closed.set()
        self._thread.join()
        # Unreachable, it counts as gone in a minute.
        with contextlib.suppress(Exception):
            now = self._read()
            if now is not None and now.token == self.token:
                if begun or self.before is not None:
                    self._put(released=True)
                else:
                    self._place.remove([OWNER_FILE])

    def _outwait(self, before: Owner, say: Callable[[str], None]) -> None:
        """Watch another owner until it is surely gone. Raises StorageError: it is there."""
        say(
            f"{self._place.url}: {before} has not left it; watching for up to {STALE_SECONDS:g} s "
            "whether it is still there"
        )
        end = time.monotonic() + STALE_SECONDS
        while time.monotonic() < end:
            time.sleep(min(BEAT_SECONDS / 2, STALE_SECONDS / 4))
            try:
                now = self._read()
            except StorageError:
                raise
            except Exception as error:
                raise cant("can't be read", self._place, error) from None
            if now is None or now.released:
                return
            if (now.token, now.beat) != (before.token, before.beat):
                raise StorageError(f"{self._place.url}: is being searched by {now}")

    def _live(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            # A store that is away is told of by the one who sends.
            with contextlib.suppress(Exception):
                now = self._read()
                if now is None or now.token != self.token:
                    self.lost = str(now or "nobody: its object was removed")
                    return
                self._put()

    def _read(self) -> Owner | None:
        content = self._place.get(OWNER_FILE)
        return None if content is None else parse_owner(content, self._place.url)

    def _put(self, *, released: bool = False) -> None:
        self._beat += 1
        owner = Owner(
            token=self.token,
            process=os.getpid(),
            host=socket.gethostname(),
            beat=self._beat,
            time=datetime.now(UTC),
            released=released,
        )
        self._place.put(OWNER_FILE, owner.model_dump_json().encode() + b"\n")


def new_token() -> str:
    """Return a name for one run of a search."""
    return uuid.uuid4().hex
