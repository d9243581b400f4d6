"""The folder of a trial on a node, when its results are at a URL and no folder is shared.

Each start has a folder of its own: what the driver has on record comes with the job, the rest from
the URL. What the trial writes is sent from beside it, so that training never waits; the node keeps
what could not be sent.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.files import make_folder, write_atomically
from nas_t2i.mirror.fetch import fetch_checkpoints, is_of_checkpoint
from nas_t2i.mirror.place import Entry, one_line, open_place
from nas_t2i.mirror.send import Sender
from nas_t2i.mirror.study import FETCH_SECONDS, FINISH_SECONDS

FOLDER = "on-ray"  # in the cache folder


@dataclass(frozen=True)
class Away:
    """What a node needs to make the folder: travels with the job."""

    url: str  # of the trial's folder
    name: str  # of the folder on the node, another for each start
    files: Mapping[str, bytes]  # what the driver alone writes, as it is now


class AwayFolder:
    """The folder on this node. Its first rank alone fetches and sends."""

    def __init__(self, away: Away, cache: Path, *, is_first: bool) -> None:
        self.folder = cache / FOLDER / away.name
        self._away, self._is_first = away, is_first
        self._sender: Sender | None = None
        make_folder(self.folder)
        if is_first:
            listing = self._fetch()
            self._sender = Sender(
                open_place(away.url),
                self.folder,
                listing,
                self._say,
                leave_out=lambda name: name in away.files,
            )
        for name, content in away.files.items():
            write_atomically(self.folder / name, content)

    def finish(self) -> str:
        """Send the rest and remove the folder; return what could not be sent, "" for nothing."""
        if self._sender is None:
            return ""
        unsent = self._sender.finish(FINISH_SECONDS)
        if not unsent:
            shutil.rmtree(self.folder, ignore_errors=True)
        return unsent and f"{unsent}; it stays in {self.folder}"

    def _fetch(self) -> dict[str, Entry]:
        """Bring what the URL has of the trial; without an answer the trial begins anew."""
        place, begin, pause = open_place(self._away.url), time.monotonic(), 1.0
        while True:
            try:
                listing = place.list()
                wanted = [
                    name
                    for name in listing
                    if not is_of_checkpoint(name) and name not in self._away.files
                ]
                place.get_files(wanted, self.folder)
                fetch_checkpoints(place, self.folder)
                return listing
            except Exception as error:
                if time.monotonic() + pause > begin + FETCH_SECONDS:
                    self._say(
                        f"{place.url}: can't be read: {one_line(error)}; the trial is trained from "
                        "its beginning"
                    )
                    return {}
            time.sleep(pause)
            pause *= 2

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError), (self.folder / "stderr.log").open("a") as log:
            print(text, file=log)
