"""Which records of other studies a study may use: listed once, when it begins.

A curve is decided by the budget's id, the architecture, the seed and the control, by what the
budget's paths held (the fingerprints in the record, the contents in its signatures) and by code
from outside. All of these must be the same. Versions of libraries and hardware change a curve by
rounding only and are free, as they are in a ranking of several studies: whoever uses a record is
told of those that differ, and one without differences is preferred.

The list keeps a search what it is whatever becomes of the other studies: a resumed one uses what
it would have used uninterrupted. A record that has changed or gone since is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nas_t2i import plugins
from nas_t2i.environment import cache_dir, describe_environment
from nas_t2i.errors import RecordError, named, number_of
from nas_t2i.evaluation.at_rung import contents
from nas_t2i.events import EVENTS_FILE
from nas_t2i.files import read_bytes, read_record, write_json
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Environment, Reused, TrialRecord, TrialState
from nas_t2i.search.trial_config import trial_key
from nas_t2i.store import TRIALS_FOLDER, find_studies, read_contents, read_study
from nas_t2i.training.feeds.inputs import input_fingerprints

USABLE_FILE = "reusable.json"
Say = Callable[[str], None]


class Usable(BaseModel):
    """A complete record of another study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="as trials' folders")
    folder: str = Field(description="name of the study's folder, where this one's is")
    digest: str = Field(description="of its events.jsonl, when this study began")
    origin: Reused = Field(description="where it was trained")

    @field_validator("folder")
    @classmethod
    def _is_a_name(cls, folder: str) -> str:
        if folder in ("", ".", "..") or Path(folder).name != folder:
            raise ValueError("expected the name of a folder")
        return folder


class UsableRecords(BaseModel):
    """``reusable.json``: what a study may use, and how each was when the study began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    records: list[Usable]


def list_usable(folder: Path, results: str | Path, budget: Budget, say: Say) -> None:
    """Write the list of a study that is about to begin in `folder`; none where there is nothing.

    `results` is where the other studies are, a folder or a URL.

    Raises:
        UserError: what the budget's trials are made of can't be used.
        StorageError: the list can't be written.
    """
    found = find_usable(folder, results, budget, say)
    if found:
        write_json(folder / USABLE_FILE, UsableRecords(records=found))
        say(described(found))


def described(found: Sequence[Usable]) -> str:
    """Say in a line what may be used."""
    studies = named(usable.folder for usable in found)
    return (
        f"{number_of(len(found), 'complete record')} under this budget in {studies}: used where "
        "this search would train the same; --no-reuse trains all"
    )


def read_usable(folder: Path) -> dict[str, Usable]:
    """Return what a study may use, by the trial's key. Raises RecordError."""
    file = folder / USABLE_FILE
    if not file.exists():
        return {}
    return {usable.key: usable for usable in read_record(file, UsableRecords).records}


def digest_of(content: bytes) -> str:
    """Return the digest of a file of events."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def unlike(record: TrialRecord, here: Environment) -> str:
    """Name what a record was trained with that is not `here`; "" for nothing."""
    there = record.environment
    if there is None:
        return "unknown versions"
    before = {"nas-t2i": there.nas_t2i, **there.versions}
    now = {"nas-t2i": here.nas_t2i, **here.versions}
    found = [
        f"{name} {before[name]} (here {now[name]})"
        for name in ("nas-t2i", "torch", "diffusers", "deepspeed", "numpy")
        if before.get(name, now[name]) != now[name]
    ]
    if there.accelerator != here.accelerator:  # the driver looks at none: trials do
        found.append(f"on {there.accelerator}")
    elif there.cpu != here.cpu:
        found.append(f"on {there.cpu} (here {here.cpu})")
    return ", ".join(found)


def find_usable(folder: Path, results: str | Path, budget: Budget, say: Say) -> list[Usable]:
    """Return what a study in `folder` may use of the others, one record a trial.

    Raises:
        UserError: what the budget's trials are made of can't be used.
    """
    return list(dict(_found(folder, results, budget, say)).values())


def _found(
    folder: Path, results: str | Path, budget: Budget, say: Say
) -> Iterator[tuple[str, Usable]]:
    """Yield the usable records by their keys, of equal keys the preferred one last."""
    trials = [
        (place, trial)
        for place in _places(folder, results, budget, say)
        for trial in _trials(place, say)
        if _is_whole(trial, budget)
    ]
    if not trials:
        return
    inputs, now = input_fingerprints(budget, cache_dir()), contents(budget)
    origins = sorted(origin.model_dump_json() for origin in plugins.used())
    alike = [
        (place, trial)
        for place, trial in trials
        if trial.inputs == inputs
        and sorted(origin.model_dump_json() for origin in trial.plugins) == origins
        and all(
            score.is_of(now[name].part)
            for point in trial.curve
            for name, score in point.scores.items()
            if name in now
        )
    ]
    if not alike:
        return
    # Of the signatures under one budget, which the versions of models tell apart, one can be
    # ranked: the latest is the likeliest to be what is measured now.
    latest = signature_of(alike[-1][1], budget)
    here = describe_environment(budget.training.threads)
    alike = [pair for pair in alike if signature_of(pair[1], budget) == latest]
    # Sorting is stable: among equals the record of the latest study counts.
    alike.sort(key=lambda pair: (pair[1].reused is None, not unlike(pair[1], here)))
    for place, trial in alike:
        key = trial_key(trial.arch_id, trial.seed, trial.control)
        origin = trial.reused or Reused(
            study=trial.study,
            path=f"{place.name}/{TRIALS_FOLDER}/{key}",
            git_revision=trial.environment.git_revision if trial.environment else "",
        )
        file = place / TRIALS_FOLDER / key / EVENTS_FILE
        if file.is_file():  # older releases named the folders otherwise
            digest = digest_of(read_bytes(file))
            yield key, Usable(key=key, folder=place.name, digest=digest, origin=origin)


def _places(folder: Path, results: str | Path, budget: Budget, say: Say) -> Iterator[Path]:
    for place in find_studies(results):
        try:
            if place.name != folder.name and read_study(place).budget_id == budget.budget_id:
                yield place
        except RecordError as error:
            say(f"nothing of {place.name} is reused: {error}")


def _trials(place: Path, say: Say) -> list[TrialRecord]:
    try:
        return read_contents(place).trials
    except RecordError as error:
        say(f"nothing of {place.name} is reused: {error}")
        return []


def _is_whole(trial: TrialRecord, budget: Budget) -> bool:
    """Whether a trial went to its end and was measured at every rung of the budget."""
    full = {point.step for point in trial.curve if budget.evaluation.metric in point.scores}
    return (
        trial.state is TrialState.COMPLETE
        and trial.budget_id == budget.budget_id
        and [point.step for point in trial.curve] == list(budget.rungs)
        and full == set(budget.full_rungs)
    )


def signature_of(trial: TrialRecord, budget: Budget) -> str:
    """Return the signature of the ranked metric in a complete record."""
    return trial.curve[-1].scores[budget.evaluation.metric].signature
