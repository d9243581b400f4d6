"""The thread that keeps a URL like a folder: what changed is put there, whole, in a sure order.

At any moment, the objects at the URL are such that a search can go on from them: a decision is
there before what came of it, a trial's record before the checkpoint that knows of it, and a
checkpoint's own mark when all of its files are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nas_t2i.mirror.fetch import CHECKPOINTS, WHOLE, checkpoints_at
from nas_t2i.mirror.place import Entry, Place, one_line

PERIOD_SECONDS = 10.0  # between two looks at the folder
_LONGEST_PAUSE_SECONDS = 60.0
_PROGRESS_SECONDS = 60.0  # between two puts of a record that has only grown by progress
_BYTES_A_SECOND = 1e6  # of a file that keeps changing
_PROGRESS = b'{"event":"progress",'
_LOGS = (".jsonl", ".journal")  # appended to, line by line
_NOT_SENT = ("decisions", "rank_environment")  # between processes of one machine


class _Signature(NamedTuple):
    """Tells whether a file changed."""

    size: int
    mtime_ns: int


class Sender:
    """Sends a folder until it is finished. `say` is told once that a store fails, and once that
    it answers again.
    """

    def __init__(
        self,
        place: Place,
        folder: Path,
        listing: Mapping[str, Entry],
        say: Callable[[str], None],
        *,
        may_send: Callable[[], bool] = lambda: True,
        leave_out: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`listing` is what lies at the place now; of equal size it is not sent again.

        `leave_out` tells by their names which files are not this one's to send.
        """
        self._place, self._folder, self._say = place, folder, say
        self._may_send, self._leave_out = may_send, leave_out
        self._sent: dict[str, _Signature] = {}
        self._sent_at: dict[str, float] = {}
        self._whole: dict[str, dict[str, list[_Signature]]] = {
            name: {step: [] for step in steps} for name, steps in checkpoints_at(listing).items()
        }
        for name, signature in self._files():
            if name in listing and listing[name].size == signature.size:
                self._sent[name] = signature
        self.problem = ""
        """Why the last look's changes are not all sent, "" if they are."""
        self._finishing = threading.Event()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> str:
        """Send what is left; return what could not be sent, in words, "" for nothing.

        `seconds` is how long a store may fail meanwhile.
        """
        self._give_up_at = time.monotonic() + seconds
        self._finishing.set()
        self._thread.join()
        if not self.problem and self._may_send():
            return ""
        left = [name for name, signature in self._files() if self._sent.get(name) != signature]
        left += [
            f"{name}/{step}"
            for name, step in self._checkpoints()
            if step not in self._whole.get(name, {})
        ]
        if not left:
            return ""
        why = f": {self.problem}" if self.problem else ""
        return f"{len(left)} files and checkpoints, {min(left)} for one{why}"

    def _run(self) -> None:
        pause, failed = PERIOD_SECONDS, 0
        while True:
            self._finishing.wait(pause)
            finishing = self._finishing.is_set()
            if not self._may_send():
                return
            try:
                self._look(everything=finishing)
            except Exception as error:
                self.problem = one_line(error)
                if not failed:
                    self._say(
                        f"{self._place.url}: can't be written now: {self.problem}; the search goes "
                        f"on, all of it is in {self._folder} and sent when the store answers"
                    )
                if time.monotonic() > self._give_up_at:
                    return
                failed += 1
                pause = min(2.0**failed, _LONGEST_PAUSE_SECONDS)
                if finishing:
                    time.sleep(min(pause, 5.0))
            else:
                if failed and not finishing:
                    self._say(f"{self._place.url}: answers again")
                self.problem, pause, failed = "", PERIOD_SECONDS, 0
                if finishing:
                    return

    def _look(self, *, everything: bool) -> None:
        """Send all that changed."""
        # In this order: a checkpoint's record is read after it was seen, what a trial was told
        # after its record.
        pending = [pair for pair in self._checkpoints() if not self._is_whole(*pair)]
        self._send_records(everything=everything)
        told_at = time.monotonic()
        for name, step in sorted(pending, key=lambda pair: pair[1], reverse=True):
            if not self._may_send():
                return
            if time.monotonic() - told_at > PERIOD_SECONDS:  # large ones must not hold up records
                self._send_records(everything=everything)
                told_at = time.monotonic()
            self._send_checkpoint(name, step)

    def _send_records(self, *, everything: bool) -> None:
        changed = [
            (name, signature)
            for name, signature in self._files()
            if self._sent.get(name) != signature and (everything or self._is_due(name, signature))
        ]
        for name, signature in sorted(changed, key=lambda pair: _rank(pair[0])):
            if self._may_send():
                self._send_file(name, signature)

    def _send_file(self, name: str, signature: _Signature) -> None:
        file = self._folder / name
        try:
            if name.endswith(_LOGS):
                with file.open("rb") as stream:
                    content = stream.read(signature.size)
                # What follows the last line feed is on its way.
                self._place.put(name, content[: content.rfind(b"\n") + 1])
            else:
                self._place.put_file(name, file)
        except FileNotFoundError:
            if file.exists():  # it is the place that lacks something
                raise
            return
        self._sent[name], self._sent_at[name] = signature, time.monotonic()

    def _is_due(self, name: str, signature: _Signature) -> bool:
        """Whether a file that changed is to be sent already."""
        waited = time.monotonic() - self._sent_at.get(name, -float("inf"))
        if not name.endswith(_LOGS):
            return waited > signature.size / _BYTES_A_SECOND
        if not name.endswith("events.jsonl") or waited > _PROGRESS_SECONDS:
            return True
        before = self._sent.get(name)
        if before is None or before.size > signature.size:
            return True
        with (self._folder / name).open("rb") as stream:
            stream.seek(before.size)
            new = stream.read(signature.size - before.size).split(b"\n")
        return any(line and not line.startswith(_PROGRESS) for line in new)

    def _files(self, folder: Path | None = None) -> Iterator[tuple[str, _Signature]]:
        """Yield all files but those of checkpoints, with what tells whether they changed.

        Those in folders come first: what the driver decided is looked at after what came of it.
        """
        here = folder or self._folder
        for sub in _entries(here):
            if sub.is_dir(follow_symlinks=False) and sub.name != CHECKPOINTS:
                yield from self._files(Path(sub.path))
        for entry in _entries(here):
            name = Path(entry.path).relative_to(self._folder).as_posix()
            skipped = entry.name in _NOT_SENT or entry.name.endswith(".lock")
            if not (skipped or self._leave_out(name)):
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat()
                        yield name, _Signature(status.st_size, status.st_mtime_ns)

    def _checkpoints(self) -> Iterator[tuple[str, str]]:
        """Yield the newest checkpoint of each trial: the folder that it lies in, and its name.

        Older ones may be on their way out.
        """
        for pattern in (CHECKPOINTS, f"*/*/{CHECKPOINTS}"):
            for folder in self._folder.glob(pattern):
                if steps := [step.name for step in folder.glob("step-*")]:
                    yield folder.relative_to(self._folder).as_posix(), max(steps)

    def _is_whole(self, name: str, step: str) -> bool:
        """Whether a checkpoint lies at the place as it is on disk."""
        steps, now = self._whole.get(name, {}), _signatures(self._folder / name / step)
        if steps.get(step) == []:  # it was there before: this one was brought from there
            steps[step] = now
        return steps.get(step) == now

    def _send_checkpoint(self, name: str, step: str) -> None:
        """Put a checkpoint's files, then its mark; then remove what its trial has removed."""
        folder = self._folder / name / step
        # Links: the trial may remove or replace its checkpoint meanwhile.
        links = folder.with_name(f".sending-{step}")
        shutil.rmtree(links, ignore_errors=True)
        try:
            shutil.copytree(folder, links, copy_function=os.link)
        except (FileNotFoundError, shutil.Error):
            return  # removed just now: a newer one is there
        try:
            signatures, files = _signatures(links), sorted(links.iterdir())
            if signatures != _signatures(folder):
                return  # replaced just now
            if step in self._whole.get(name, {}):
                self._place.remove([f"{name}/{step}{WHOLE}"])
            for file in files:
                self._place.put_file(f"{name}/{step}/{file.name}", file)
            mark = {file.name: file.stat().st_size for file in files}
            self._place.put(f"{name}/{step}{WHOLE}", json.dumps(mark).encode())
        finally:
            shutil.rmtree(links, ignore_errors=True)
        self._whole.setdefault(name, {})[step] = signatures
        self._remove_old(name, step)

    def _remove_old(self, name: str, newest: str) -> None:
        whole = self._whole[name]
        for step in [step for step in whole if step < newest]:
            if not (self._folder / name / step).exists():
                self._place.remove([f"{name}/{step}{WHOLE}"])
                self._place.remove(self._place.list(f"{name}/{step}"))
                del whole[step]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name[0] != "."]
    except FileNotFoundError:
        return []


def _signatures(folder: Path) -> list[_Signature]:
    try:
        found = [file.stat() for file in sorted(folder.iterdir())]
    except FileNotFoundError:
        return []
    return [_Signature(status.st_size, status.st_mtime_ns) for status in found]


def _rank(name: str) -> tuple[bool, bool, str]:
    """Order of sending: the driver's own files, of those study.json first; then trials' configs,
    then their records.
    """
    tail = name.rpartition("/")[2]
    return "/" in name, tail not in ("study.json", "config.json"), name
