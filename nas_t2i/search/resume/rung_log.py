"""``rungs.jsonl``: who was seen at which rung, and what was decided there, in order.

The table that a decision was made on is what stands above it: every ``seen`` line of its rung. A
decision that was made stands, whoever is seen later; a resumed search gives it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nas_t2i.errors import RecordError
from nas_t2i.files import Closing
from nas_t2i.logs.sealed import RunningSum, SealedLog, set_damage_aside

RUNGS_FILE = "rungs.jsonl"


class Seen(BaseModel):
    """A trial was measured at a rung."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["seen"] = "seen"
    rung: int
    candidate: str
    seed: int
    score: float


class Decided(BaseModel):
    """Seeds of a candidate that waited at a rung were told to go on, or to stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["decided"] = "decided"
    rung: int
    candidate: str
    seeds: list[int]
    goes_on: bool
    peers: int  # candidates it was compared with, this one included: by a signal, of its family


class RungLog(Closing):
    """The rungs of one study; without a folder, kept in memory only.

    Raises:
        StorageError: the file can't be opened or written.
        RecordError: a line is no such event.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.note = ""  # what was found damaged
        self._seen: dict[tuple[str, int, int], float] = {}
        self._decided: dict[tuple[str, int, int], bool] = {}
        self._log: SealedLog | None = None
        if folder is not None:
            self.note = set_damage_aside(folder / RUNGS_FILE)
            self._log = SealedLog(folder / RUNGS_FILE)
            for event in read_rungs(folder / RUNGS_FILE):
                self._take(event)

    def see(self, candidate: str, seed: int, rung: int, score: float) -> float | None:
        """Note a score; return the other one that was seen there before, if any."""
        before = self._seen.get((candidate, seed, rung))
        if before == score:
            return None
        self._write(Seen(rung=rung, candidate=candidate, seed=seed, score=score), durable=False)
        return before

    def decision(self, candidate: str, seed: int, rung: int) -> bool | None:
        """Return whether a trial was told to go on after a rung, None if it was told nothing."""
        return self._decided.get((candidate, seed, rung))

    def decide(
        self, candidate: str, seeds: Iterable[int], rung: int, *, goes_on: bool, peers: int
    ) -> None:
        """Put a decision on the disk, before anyone hears of it."""
        self._write(
            Decided(
                rung=rung, candidate=candidate, seeds=sorted(seeds), goes_on=goes_on, peers=peers
            ),
            durable=True,
        )

    def was_stopped(self, candidate: str) -> bool:
        """Whether a rung decided against a candidate."""
        return any(name == candidate and not go for (name, *_), go in self._decided.items())

    def rungs_seen(self, candidate: str, seed: int) -> dict[int, float]:
        """Return the scores of a trial that were seen, by rung."""
        return {
            rung: score
            for (name, its_seed, rung), score in self._seen.items()
            if (name, its_seed) == (candidate, seed)
        }

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()

    def _write(self, event: Seen | Decided, *, durable: bool) -> None:
        if self._log is not None:
            self._log.append_line(event.model_dump_json().encode(), durable=durable)
        self._take(event)

    def _take(self, event: Seen | Decided) -> None:
        if isinstance(event, Seen):
            self._seen[event.candidate, event.seed, event.rung] = event.score
        else:
            for seed in event.seeds:
                self._decided[event.candidate, seed, event.rung] = event.goes_on


def read_rungs(file: Path) -> list[Seen | Decided]:
    """Read a rungs.jsonl, as far as its lines are whole. Raises RecordError."""
    running, events = RunningSum(), []
    content = file.read_bytes() if file.exists() else b""
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        body, right = running.check(line)
        try:
            data: dict[str, Any] = json.loads(body)
            model = Seen if data.get("event") == "seen" else Decided
            events.append(model.model_validate(data))
        except (ValueError, AttributeError, ValidationError):
            right = False
        if not right:
            raise RecordError(f"{file}:{number}: not a line as it was written")
    return events
