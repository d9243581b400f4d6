"""Latencies of full architectures: each measured once a study, and kept in its folder.

They are of the machine that searches. Nothing of the study trains while one is measured: the driver
proposes what is not measured yet only when no trial runs (`Driver`), and the process that measured
is gone before one starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.arch.space import Space
from nas_t2i.arch.spec import Arch
from nas_t2i.environment import checked_device
from nas_t2i.errors import IncomparableError, UserError, Where
from nas_t2i.files import Closing, check_version, json_object, validated
from nas_t2i.logs.sealed import RunningSum, SealedLog, set_damage_aside
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.records import Latency
from nas_t2i.search.beforehand.stopwatch import Stopwatch
from nas_t2i.training.latency import conditions_of

LATENCIES_FILE = "latencies.jsonl"
_UNSTEADY = 0.2  # of the median, between the quartiles: something else was running


class LatencyRow(BaseModel):
    """A line of ``latencies.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    arch_id: str
    name: str
    latency: Latency = Field(description="of the full architecture, and what it holds for")


class Latencies(Closing):
    """What is known of latencies in one study, and how more is found out.

    Raises:
        IncomparableError: those on record are of other hardware, versions or settings.
        ConfigError: there is no such device.
    """

    def __init__(self, settings: LatencySettings, folder: Path, say: Callable[[str], None]) -> None:
        """Read what is on record; `settings` leave nothing out. Nothing is written yet."""
        assert settings.device is not None
        checked_device(settings.device, "search.latency.device")
        self.settings, self.here = settings, conditions_of(settings)
        self.complete = False  # whether all that may be proposed is measured
        self.leave: Callable[[], bool] = lambda: False
        self._folder, self._say, self._keeps = folder, say, False
        self._rows = {row.arch_id: row for row in read_rows(folder / LATENCIES_FILE)}
        self._problems: dict[str, str] = {}
        self._told = False
        self._stopwatch = Stopwatch(settings)
        for row in self._rows.values():
            self._check_alike(row)

    @property
    def described(self) -> str:
        """Say what they hold for, in one phrase."""
        now, compiled = self.here, ", compiled" if self.here["compiled"] else ""
        threads = f", {now['threads']} thread(s)" if now["threads"] else ""
        return (
            f"batch {now['batch']} of {now['latent_size']}x{now['latent_size']} latents, "
            f"{now['text_tokens']} text tokens, {now['dtype']}{compiled}, on {now['hardware']}"
            f"{threads}"
        )

    def keep(self) -> None:
        """From now on have in the study's folder what is measured, and what was so far.

        Raises:
            StorageError: the file can't be read or written.
        """
        file = self._folder / LATENCIES_FILE
        if note := set_damage_aside(file):
            self._say(f"{note}; it is measured again")
        kept = {row.arch_id for row in read_rows(file)}
        self._keeps = True
        for arch_id, row in self._rows.items():
            if arch_id not in kept:
                self._append(row)

    def knows(self, arch: Arch) -> bool:
        """Whether it is known of an architecture how long it takes, or why that can't be said."""
        return arch.arch_id in self._rows or arch.arch_id in self._problems

    def of(self, arch: Arch, name: str) -> Latency:
        """Return the latency of an architecture, measured now where it is not on record.

        Raises:
            UserError: it does not fit into the memory, or not on such latents.
            KeyboardInterrupt: the search was asked to leave.
        """
        row = self._rows.get(arch.arch_id)
        if row is None:
            if arch.arch_id in self._problems:
                raise UserError(self._problems[arch.arch_id])
            row = self._measure(arch, name)
        return row.latency

    def learn(self, arch: Arch, name: str, found: Latency) -> None:
        """Take over what a trial of the study has on record, where the study's own row is gone.

        Raises:
            IncomparableError: it is of other hardware, versions or settings.
        """
        if arch.arch_id not in self._rows:
            self._take(LatencyRow(arch_id=arch.arch_id, name=name, latency=found))

    def measure_all(self, archs: Iterable[tuple[Arch, str]]) -> None:
        """Measure all that may be proposed: from now on proposals need not wait for trials."""
        for arch, name in archs:
            if arch.arch_id not in self._rows:
                try:
                    self.of(arch, name)
                except UserError as error:
                    self._say(f"not tried: {error}")
        self.complete = True

    def close(self) -> None:
        """Let go of all that measuring holds; the next one takes it up again."""
        self._stopwatch.close()

    def _measure(self, arch: Arch, name: str) -> LatencyRow:
        if self.leave():
            raise KeyboardInterrupt
        if not self._told:
            self._told = True
            self._say(f"latency is measured before anything trains: a pass of {self.described}")
        try:
            found = self._stopwatch.measure(arch, name)
        except UserError as error:
            self._problems[arch.arch_id] = str(error)
            raise
        row = LatencyRow(arch_id=arch.arch_id, name=name, latency=found)
        self._take(row)
        first, third = found.first_quartile_s, found.third_quartile_s
        unsteady = third - first > _UNSTEADY * found.median_s
        self._say(
            f"latency of {name}: {1e3 * found.median_s:.4g} ms (quartiles {1e3 * first:.4g} and "
            f"{1e3 * third:.4g}, {found.repeats} passes)"
            + ("; unsteady: does something else run on this machine?" if unsteady else "")
        )
        return row

    def _take(self, row: LatencyRow) -> None:
        self._check_alike(row)
        self._rows[row.arch_id] = row
        if self._keeps:
            self._append(row)

    def _append(self, row: LatencyRow) -> None:
        with SealedLog(self._folder / LATENCIES_FILE) as log:
            log.append_line(row.model_dump_json().encode(), durable=True)

    def _check_alike(self, row: LatencyRow) -> None:
        then = row.latency.conditions
        differences = [
            f"{key} {then[key]} then, {now} now"
            for key, now in self.here.items()
            if then[key] != now
        ]
        if differences:
            raise IncomparableError(
                f"study {self._folder.name!r}: its latencies were measured under other conditions "
                f"({'; '.join(differences)}) and don't compare; go on where it began, or choose "
                "another --study"
            )


def open_latencies(
    space: Space, budget: Budget, folder: Path, say: Callable[[str], None]
) -> Latencies | None:
    """Return the latencies of a study; None where neither objectives, limits nor settings ask.

    Raises:
        UserError: trials that run on a cluster; else as `Latencies`.
    """
    settings = budget.latency
    if settings is None and space.limits.latency is not None:
        settings = LatencySettings().filled(budget.training)
    if settings is None:
        return None
    if budget.execution.runner != "local":
        raise UserError(
            f"latency: got the runner {budget.execution.runner!r} with latencies to measure; "
            "expected runner local: they hold for the machine that searches, while none of its "
            "trials run"
        )
    return Latencies(settings, folder, say)


def read_rows(file: Path) -> list[LatencyRow]:
    """Return the rows of a latencies.jsonl, up to where it was damaged or cut off.

    Raises:
        RecordError: a line is no such row (file, line).
    """
    running, rows = RunningSum(), []
    content = file.read_bytes() if file.exists() else b""
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        body, right = running.check(line)
        if not right:
            break
        data = json_object(body, file, number)
        check_version(data, Where(str(file), number))
        rows.append(validated(data, LatencyRow, file, number))
    return rows
