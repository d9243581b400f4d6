"""Latencies on record: of trials, or what ``nas-t2i profile --latency`` printed, in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_t2i.errors import IncomparableError, Where
from nas_t2i.files import record_error
from nas_t2i.records import MEASURED, TrialRecord
from nas_t2i.untrusted.json_text import JsonError, parse_json
from nas_t2i.untrusted.regular_files import read_regular


@dataclass(frozen=True)
class Latencies:
    """Median seconds of one forward pass, by architecture id, and what all of them hold for."""

    seconds: Mapping[str, float]
    conditions: Mapping[str, Any]

    @property
    def described(self) -> str:
        """Say on which hardware, in one phrase."""
        kind = f"{self.conditions.get('dtype')}, batch {self.conditions.get('batch')}"
        return f"{self.conditions.get('hardware')} ({kind})"


def recorded_latencies(trials: Iterable[TrialRecord]) -> Latencies | None:
    """Return what the studies of trials measured themselves; None where they measured nothing.

    Raises:
        IncomparableError: of two machines, number formats or versions; names what differs.
    """
    timed = [(trial, trial.latency) for trial in trials if trial.latency is not None]
    if not timed:
        return None
    first, conditions = timed[0][0], timed[0][1].conditions
    for trial, latency in timed:
        for key, value in latency.conditions.items():
            if value != conditions[key]:
                raise IncomparableError(
                    f"{trial.study}/{trial.name}: latencies of unlike {key} don't compare: "
                    f"{value!r}, and {conditions[key]!r} of {first.study}/{first.name}"
                )
    return Latencies({trial.arch_id: one.median_s for trial, one in timed}, conditions)


def read_latencies(file: Path) -> Latencies:
    """Read a file of latencies.

    Raises:
        RecordError: no such file, or no latencies in it.
        IncomparableError: of two machines, number formats or versions; names what differs.
    """
    try:
        rows = parse_json(read_regular(file))
    except JsonError as error:
        place = Where(str(file), error.line, error.column)
        raise record_error(place, error.problem, expected=_EXPECTED) from None
    except OSError as error:
        raise record_error(str(file), f"can't be read: {error.strerror}") from None
    if not isinstance(rows, list) or not rows:
        raise record_error(str(file), "no list of profiles", expected=_EXPECTED)
    seconds: dict[str, float] = {}
    conditions: dict[str, Any] = {}
    for number, row in enumerate(rows):
        found = row.get("latency") if isinstance(row, dict) else None
        found = found if isinstance(found, dict) else {}
        median = found.get("median_s")
        arch_id = row.get("arch_id") if isinstance(row, dict) else None
        if not isinstance(median, int | float) or not median > 0 or not isinstance(arch_id, str):
            raise record_error(str(file), f"[{number}]: no latency", expected=_EXPECTED)
        now = {key: value for key, value in found.items() if key not in MEASURED}
        conditions = conditions or now
        for key in sorted(now.keys() | conditions.keys()):
            if now.get(key) != conditions.get(key):
                raise IncomparableError(
                    f"{file}: [{number}]: latencies of unlike {key} don't compare: "
                    f"{conditions.get(key)!r} and {now.get(key)!r}"
                )
        seconds[arch_id] = float(median)
    return Latencies(seconds, conditions)


_EXPECTED = "what `nas-t2i profile --arch ... --latency --format json` prints"
