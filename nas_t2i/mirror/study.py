"""A study that is searched with its results at a URL.

The search works in a folder of the cache, as it would in any; a thread sends what it writes. What
the URL has and the folder lacks is brought at the beginning, checkpoints when a trial needs them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from nas_t2i.environment import cache_dir
from nas_t2i.errors import PausedError, UserError
from nas_t2i.files import make_folder, write_json
from nas_t2i.locks import FolderLock
from nas_t2i.mirror.fetch import checkpoints_at, fetch_checkpoints, is_of_checkpoint
from nas_t2i.mirror.owner import OWNER_FILE, Lease, Owner, new_token
from nas_t2i.mirror.place import Entry, Place, cant, one_line, open_place
from nas_t2i.mirror.send import Sender
from nas_t2i.untrusted.json_text import parse_json

# How long a store may fail:
FINISH_SECONDS = 30.0  # at the end, until what is left is told
FETCH_SECONDS = 60.0  # until a trial begins anew without its checkpoints
_STUDY_FILE = "study.json"


class Mirror:
    """The working folder of a study at a URL; `root` takes the place of the results folder.

    Raises:
        UserError: the URL can't hold results; its store is not asked before `open`.
    """

    def __init__(self, url: str, study: str, *, nodes_write: bool = False) -> None:
        """`nodes_write`: all files of trials but their records are sent by other machines."""
        results = open_place(url)
        self.results = results.url
        self.place: Place = results.at(study)
        self.root = cache_dir() / "results" / results.digest
        self.folder = self.root / study
        self._unsent: list[str] = []
        self._study, self._nodes_write = study, nodes_write
        self._lease: Lease | None = None
        self._at_url: dict[str, list[str]] = {}
        self.say: Callable[[str], None] = _print
        """Is told what a user should know."""

    @property
    def url(self) -> str:
        """Where the study lies."""
        return self.place.url

    @property
    def unsent(self) -> str:
        """What could not be sent, in words; "" for nothing. Complete once it is closed."""
        return "; ".join(self._unsent)

    def note_unsent(self, what: str) -> None:
        """Take note of what a node could not send."""
        self._unsent.append(what)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Own the study, bring what the folder lacks, and send what changes until the end.

        Raises:
            StorageError: another driver searches it, or the store can't be used.
        """
        make_folder(self.root)
        lock = FolderLock(
            self.root / f".{self._study}.lock", held=f"study {self.url} is being searched"
        )
        with lock:
            state = self.root / f".{self._study}.json"
            known = _tokens(state)
            # On the disk before anyone sees it: killed in between, the folder is still known.
            tokens = [*known[-4:], new_token()]
            write_json(state, {"url": self.url, "tokens": tokens})
            self._lease = lease = Lease(self.place, tokens, self._tell)
            try:
                listing = self._restore(lease.before, known)
            except BaseException:
                lease.release(begun=False)
                raise
            write_json(state, {"url": self.url, "tokens": tokens[-1:]})
            sender = Sender(
                self.place,
                self.folder,
                listing,
                self._tell,
                may_send=lambda: not lease.lost,
                leave_out=self._is_of_nodes,
            )
            try:
                yield
            finally:
                if left := sender.finish(FINISH_SECONDS):
                    self._unsent.append(f"{left}; it stays in {self.folder}")
                lease.release(begun=(self.folder / _STUDY_FILE).exists())

    def check(self) -> None:
        """Raise PausedError when another driver took the study."""
        if self._lease is not None and self._lease.lost:
            raise PausedError(
                f"{self.url}: it was taken over by {self._lease.lost} while this driver was cut "
                f"off; nothing more is sent, what is here stays in {self.folder}"
            )

    def fetch_checkpoints(self, trial: str) -> None:
        """Bring a trial's checkpoints, `trial` being its key, unless its folder has as new ones.

        A store that does not give them is told of: the trial then begins anew.
        """
        name = f"trials/{trial}"
        there = self._at_url.get(f"{name}/checkpoints", [])
        here = [step.name for step in (self.folder / name / "checkpoints").glob("step-*")]
        if max(there, default="") <= max(here, default=""):
            return
        begin, pause = time.monotonic(), 1.0
        while True:
            try:
                fetch_checkpoints(self.place, self.folder, name)
                return
            except Exception as error:
                if time.monotonic() + pause > begin + FETCH_SECONDS:
                    self.say(
                        f"{self.url}/{name}: its checkpoints can't be fetched: {one_line(error)}; "
                        "the trial is trained from its beginning"
                    )
                    return
            time.sleep(pause)
            pause *= 2

    def fetch_images(self) -> None:
        """Bring the images of trials on other machines; without an answer there are none."""
        if self._nodes_write:
            with contextlib.suppress(Exception):
                images = [name for name in self.place.list() if name.endswith(".png")]
                missing = [name for name in images if not (self.folder / name).exists()]
                self.place.get_files(missing, self.folder)

    def _is_of_nodes(self, name: str) -> bool:
        own = not name.startswith("trials/") or name.endswith(("/config.json", "/events.jsonl"))
        return self._nodes_write and not own

    def _tell(self, text: str) -> None:
        self.say(text)  # as it is now

    def _restore(self, before: Owner | None, known: list[str]) -> dict[str, Entry]:
        """Bring what the folder lacks; return what is at the URL. Raises UserError."""
        if self.folder.exists() and (before is None or before.token not in known):
            aside = self.root / "aside" / f"{self._study}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
            make_folder(aside.parent)
            self.folder.rename(aside)
            self.say(
                f"{self.url} was searched elsewhere since, or emptied, and counts; what was here "
                f"is kept in {aside}"
            )
        try:
            listing = self.place.list()
            self._at_url = checkpoints_at(listing)
            missing = [
                name
                for name in listing
                if not (is_of_checkpoint(name) or name == OWNER_FILE or self._is_of_nodes(name))
                and not (self.folder / name).exists()
            ]
            self.place.get_files(missing, self.folder)
        except UserError:
            raise
        except Exception as error:
            raise cant("can't be read", self.place, error) from None
        return listing


def _print(text: str) -> None:
    print(f"nas-t2i: note: {text}", file=sys.stderr, flush=True)


def _tokens(state: Path) -> list[str]:
    """Return the tokens of the runs that this machine's folder is of."""
    try:
        return [str(token) for token in parse_json(state.read_bytes())["tokens"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
