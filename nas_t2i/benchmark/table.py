"""A tabular benchmark in memory: learning curves that are looked up instead of trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from nas_t2i.arch.limits import Limits
from nas_t2i.benchmark.form import ArchitectureEntry, Arrays, Manifest, read_table
from nas_t2i.benchmark.points import Points
from nas_t2i.errors import MissingExtraError, RecordError, UserError, did_you_mean, named
from nas_t2i.protocol.evaluation import Better
from nas_t2i.records import CurvePoint, Environment, TrialRecord, TrialState
from nas_t2i.statistics import FloatArray

if TYPE_CHECKING:
    import pandas


class Measurement(NamedTuple):
    """One number of a table and its standard error; NaN: none is known."""

    value: float
    stderr: float


class Best(NamedTuple):
    """The best architecture within limits, by the mean over all recorded seeds."""

    architecture: ArchitectureEntry
    score: float


class Table:
    """Everything that was measured of a space's architectures under one budget.

    Architectures go by their names or their ids. Wherever one, a step, a metric or a seed is not in
    the table, RecordError names the nearest one that is.
    """

    def __init__(self, manifest: Manifest, arrays: Arrays, file: str = "table") -> None:
        self.manifest, self.arrays = manifest, arrays
        self._file = file
        self._value, self._stderr = arrays["value"], arrays["stderr"]
        self._codes, self._codebook = arrays["prompt_codes"], arrays["prompt_values"]
        self._environment = arrays["environment"]
        entries = manifest.architectures
        self._arch = {entry.name: i for i, entry in enumerate(entries)}
        self._arch |= {entry.arch_id: i for i, entry in enumerate(entries)}
        self._seed = {seed: i for i, seed in enumerate(manifest.seeds)}
        self._step = {step: i for i, step in enumerate(manifest.steps)}
        self._metric = {metric.name: i for i, metric in enumerate(manifest.metrics)}
        self._full = {step: i for i, step in enumerate(manifest.full_steps)}
        self._points = Points(manifest, arrays)

    @classmethod
    def load(cls, file: str | Path) -> Table:
        """Read a table file.

        Raises:
            RecordError: missing, cut, damaged, of a newer release, or no table.
        """
        return cls(*read_table(Path(file)), file=str(file))

    @property
    def name(self) -> str:
        """The table's name."""
        return self.manifest.name

    @property
    def architectures(self) -> tuple[str, ...]:
        """The names of the architectures, in the order of the file."""
        return tuple(entry.name for entry in self.manifest.architectures)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The recorded seeds."""
        return tuple(self.manifest.seeds)

    @property
    def steps(self) -> tuple[int, ...]:
        """The training steps at which something was measured, ascending; the last is the end."""
        return tuple(self.manifest.steps)

    @property
    def full_steps(self) -> tuple[int, ...]:
        """Those at which the ranked metric was measured."""
        return tuple(self.manifest.full_steps)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what was measured: scores, signals, their parts, and costs."""
        return tuple(metric.name for metric in self.manifest.metrics)

    @property
    def metric(self) -> str:
        """The score that architectures are ranked by."""
        return self.manifest.metric

    @property
    def better(self) -> Better:
        """Which values of the ranked metric are better."""
        return self.manifest.metrics[self._metric[self.metric]].better

    def query(self, arch: str, step: int, metric: str, seed: int) -> Measurement:
        """Return one number, in the metric's unit, with its standard error over prompts or pairs.

        It takes about a microsecond.

        Raises:
            RecordError: the table has no such architecture, step, metric or seed, or the metric
                was not measured at the step.
        """
        try:
            cell = (self._arch[arch], self._seed[seed], self._step[step], self._metric[metric])
        except (KeyError, TypeError):
            raise self._unknown(arch, step, metric, seed) from None
        value = self._value.item(cell)
        if value != value:
            raise self._not_measured(arch, step, metric, seed)
        return Measurement(value, self._stderr.item(cell))

    def values(self, metric: str, step: int | None = None) -> FloatArray:
        """Return (architectures, seeds) of a metric at a step, the last one unless said.

        Raises:
            RecordError: as `query`.
        """
        at = self.steps[-1] if step is None else step
        if metric not in self._metric or at not in self._step:
            raise self._unknown(self.architectures[0], at, metric, self.seeds[0])
        found: FloatArray = self._value[:, :, self._step[at], self._metric[metric]]
        lacking = np.argwhere(np.isnan(found))
        if len(lacking):
            arch, seed = (int(i) for i in lacking[0])
            raise self._not_measured(self.architectures[arch], at, metric, self.seeds[seed])
        return found

    def mean(self, arch: str, metric: str = "", step: int | None = None) -> float:
        """Return a metric's mean over all recorded seeds; by default the final ranked score."""
        at = self.steps[-1] if step is None else step
        return float(
            np.mean(
                [self.query(arch, at, metric or self.metric, seed).value for seed in self.seeds]
            )
        )

    def best(self, limits: Limits | Mapping[str, Any] | None = None) -> Best:
        """Return the best architecture whose full profile is within limits.

        `limits` are those of a search space, such as ``{"params": {"max": 3e8}}``.

        Raises:
            UserError: limits that are none, or that no architecture of the table meets.
        """
        bounds = as_limits(limits)
        scores = self.values(self.metric).mean(axis=1)
        sign = 1 if self.better == "larger" else -1
        inside = [
            i
            for i, entry in enumerate(self.manifest.architectures)
            if bounds.check(entry.profile) is None
        ]
        if not inside:
            raise UserError(f"{self._file}: no architecture of the table is within the limits")
        best = max(inside, key=lambda i: sign * scores[i])
        return Best(self.manifest.architectures[best], float(scores[best]))

    def architecture(self, arch: str) -> ArchitectureEntry:
        """Return what is known of an architecture: its form, profile, and what was trained."""
        if arch not in self._arch:
            raise self._unknown(arch, self.steps[0], self.metric, self.seeds[0])
        return self.manifest.architectures[self._arch[arch]]

    def environment(self, arch: str, seed: int) -> Environment:
        """Return where and with what versions a trial ran."""
        if arch not in self._arch or seed not in self._seed:
            raise self._unknown(arch, self.steps[0], self.metric, seed)
        place = int(self._environment[self._arch[arch], self._seed[seed]])
        return self.manifest.environments[place]

    def prompts(self, arch: str, step: int, seed: int) -> FloatArray:
        """Return the ranked score of each prompt at a full step, (prompts,).

        Raises:
            RecordError: as `query`; or single prompts are not on record.
        """
        self.query(arch, step, self.metric, seed)
        codes = self._codes[self._arch[arch], self._seed[seed], self._full[step]]
        if not codes.size:
            raise RecordError(f"{self._file}: scores of single prompts are not in the table")
        found: FloatArray = self._codebook[codes]
        return found

    def point(self, arch: str, step: int, seed: int) -> CurvePoint:
        """Return a curve point as a trial would have reported it. Raises as `query`.

        The same object each time; treat it as read-only.
        """
        try:
            key = self._arch[arch], self._seed[seed], self._step[step]
        except (KeyError, TypeError):
            raise self._unknown(arch, step, self.metric, seed) from None
        return self._points.at(*key)

    def trials(self) -> list[TrialRecord]:
        """Return all trials as records, with what the table holds of them."""
        manifest = self.manifest
        return [
            TrialRecord(
                study=manifest.name,
                number=number,
                name=entry.name,
                arch=entry.arch,
                arch_id=entry.arch_id,
                family=entry.family,
                trained_arch=entry.trained_arch,
                profile=entry.profile,
                trained_profile=entry.trained_profile,
                budget_id=manifest.budget.budget_id,
                seed=seed,
                state=TrialState.COMPLETE,
                steps_done=self.steps[-1],
                curve=[self.point(entry.arch_id, step, seed) for step in self.steps],
                environment=self.environment(entry.arch_id, seed),
                inputs=manifest.inputs,
            )
            for number, (entry, seed) in enumerate(product(manifest.architectures, self.seeds))
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row for each architecture, seed and step, and a column for each metric.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("a data frame", "pandas") from None
        entries, seeds, steps = self.manifest.architectures, self.seeds, self.steps
        each = len(seeds) * len(steps)
        columns: dict[str, Any] = {
            name: np.repeat([getattr(entry, name) for entry in entries], each)
            for name in ("name", "arch_id", "family")
        }
        for name in ("params", "gmacs", "attention_share"):
            columns[name] = np.repeat([getattr(entry.profile, name) for entry in entries], each)
        columns["seed"] = np.tile(np.repeat(seeds, len(steps)), len(entries))
        columns["step"] = np.tile(steps, len(entries) * len(seeds))
        flat = self._value.reshape(-1, len(self.metrics))
        errors = self._stderr.reshape(-1, len(self.metrics))
        for i, metric in enumerate(self.metrics):
            columns[metric] = flat[:, i]
            if not np.isnan(errors[:, i]).all():
                columns[f"{metric} SE"] = errors[:, i]
        return pandas.DataFrame(columns)

    def _unknown(self, arch: object, step: object, metric: object, seed: object) -> RecordError:
        asked: tuple[tuple[str, object, Iterable[Any]], ...] = (
            ("architecture", arch, self.architectures),
            ("step", step, self.steps),
            ("metric", metric, self.metrics),
            ("seed", seed, self.seeds),
        )
        known: list[Mapping[Any, int]] = [self._arch, self._step, self._metric, self._seed]
        for (what, given, valid), index in zip(asked, known, strict=True):
            if isinstance(given, (str, int)) and given in index:
                continue
            if isinstance(given, int) and what in ("step", "seed"):
                hint = f"the nearest is {min(valid, key=lambda v: abs(v - given))}"
            else:
                hint = did_you_mean(str(given), [str(name) for name in valid])
            text = f"{self._file}: no {what} {given!r}; expected one of {named(map(str, valid))}"
            return RecordError(text + (f"; {hint}" if hint else ""))
        raise AssertionError

    def _not_measured(self, arch: str, step: int, metric: str, seed: int) -> RecordError:
        place = self._metric[metric]
        measured = ~np.isnan(self._value[self._arch[arch], self._seed[seed], :, place])
        steps = [str(s) for s, there in zip(self.steps, measured, strict=True) if there]
        return RecordError(
            f"{self._file}: {metric} of {arch} seed {seed} was not measured at step {step}; "
            f"expected one of the steps {', '.join(steps) or '(none)'}"
        )

    def __repr__(self) -> str:
        return (
            f"<Table {self.name}: {len(self.architectures)} architectures x {len(self.seeds)} "
            f"seeds x {len(self.steps)} steps>"
        )


def as_limits(limits: Limits | Mapping[str, Any] | None) -> Limits:
    """Return limits of plain data, as in a space file. Raises UserError."""
    try:
        found = (
            limits
            if isinstance(limits, Limits)
            else Limits.model_validate(dict(limits or {}), strict=False)
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"limits: {place}: got {first['input']!r}; {first['msg']}") from None
    if found.latency is not None:
        raise UserError("limits.latency: a table records no latencies; expected other limits")
    return found
