"""What is compared: trials of studies, or result files of evaluations, read and brought level."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.errors import RecordError, UserError, Where, did_you_mean
from nas_t2i.files import check_version, json_object, read_bytes, record_error, validated
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import Score
from nas_t2i.results.entries import (
    SETTLED,
    Entry,
    check_metric,
    group_entries,
    measured_signals,
    with_one_metric,
)
from nas_t2i.results.leaderboard import unique_names
from nas_t2i.statistics import (
    FloatArray,
)
from nas_t2i.store import find_study, read_trials

# A trial's seed and step may follow its architecture's name.
_TRIAL = re.compile(r"(?P<place>.+?)(?:@(?P<seed>\d+))?(?::(?P<step>\d+))?", re.DOTALL)

# An answered question: its element type, and whether it was right (1 or 0).
Correct = Mapping[tuple[str, str], tuple[str, float]]


@dataclass(frozen=True)
class Repeats:
    """An architecture that was trained with several seeds."""

    seeds: tuple[int, ...]
    per_prompt: FloatArray
    """(seeds, prompts)"""


@dataclass(frozen=True)
class Result:
    """One metric of one model, prompt by prompt."""

    name: str
    score: Score
    """Of the first seed: metric, signature and number of prompts are those of all."""
    per_prompt: FloatArray
    """(seeds, prompts); NaN where a prompt was not scored."""
    prompts: tuple[str, ...] = ()
    """Ids of the prompts; none: all that the signature stands for, in its order."""
    by_type: Mapping[str, float] = field(default_factory=dict)
    """Accuracy by element type, mean over seeds."""
    correct: Correct = field(default_factory=dict)
    """Of single questions, by (prompt id, question); none where they are not on record."""
    seeds: tuple[int, ...] = ()
    """Seeds of training; none where it is not known."""
    budget: str = ""
    """Id of the budget of training; "" where it is not known."""
    step: int = 0
    """Training steps; 0 where it is not known."""
    repeats: Mapping[tuple[str, ...], Repeats] = field(default_factory=dict)
    """At the same step, of all that was trained with several seeds."""
    notes: tuple[str, ...] = ()


def load_results(
    first: str, second: str, root: str | Path = "results", metric: str = ""
) -> tuple[Result, Result]:
    """Read two results: each a JSON file of `nas-t2i evaluate`, or STUDY/NAME[@SEED][:STEP].

    NAME is an architecture as the study's leaderboard calls it, or its id; without a seed all are
    taken, without a step of either the last rung that both have. STUDY is a name under `root` or a
    folder.

    Raises:
        RecordError: no such file, study, architecture, seed or step, or nothing to compare in it.
        UserError: what was given is neither of the two, or holds several metrics.
    """
    one, other = (_read(text, root, metric) for text in (first, second))
    trials = [read for read in (one, other) if isinstance(read, _Trials)]
    # A step that only one was asked for at is meant for both.
    step = max((read.step for read in trials), default=0) or _last_common_step(trials)
    return tuple(  # type: ignore[return-value]  # two
        read.at(read.step or step) if isinstance(read, _Trials) else read for read in (one, other)
    )


def _last_common_step(trials: Sequence[_Trials]) -> int:
    """Return the last rung that all have, 0 for no trials."""
    if not trials:
        return 0
    common = set.intersection(*(set(read.entry.steps) for read in trials))
    if not common:
        steps = "; ".join(f"{r.name}: {', '.join(map(str, r.entry.steps))}" for r in trials)
        raise RecordError(f"no step at which both have a score; name one of each ({steps})")
    return max(common)


# --- result files ----------------------------------------------------------------------------


class _Question(BaseModel):
    model_config = ConfigDict(extra="ignore")

    element_type: str
    scores: float | None = None
    scored: bool = True


class _Scored(BaseModel):
    """The part of one metric's result that a comparison needs."""

    model_config = ConfigDict(extra="ignore")

    metric: str = ""  # as it was asked for
    score: Score | None = None
    better: Literal["larger", "smaller"] = "larger"
    prompts: list[str] = Field(default_factory=list)
    question_details: dict[str, dict[str, _Question]] = Field(default_factory=dict)


class _Evaluation(BaseModel):
    model_config = ConfigDict(extra="ignore")

    results: list[_Scored]


def _read_file(file: Path, metric: str) -> Result:
    data = json_object(read_bytes(file), file)
    check_version(data, Where(str(file)))
    if "results" in data:
        results = validated(data, _Evaluation, file).results
    elif "score" in data:
        results = [validated(data, _Scored, file)]
    else:
        raise record_error(
            str(file),
            "holds no score with a signature",
            expected="a result of `nas-t2i evaluate` (TIFA's own layout says not who answered)",
        )
    found = {
        result.score.metric: (result, result.score)
        for result in results
        if result.score is not None
        and result.score.per_prompt
        and result.score.better == result.better
    }
    if not found:
        raise RecordError(
            f"{file}: no metric with a score of each prompt (FID has one for all images)"
        )
    asked_as = {result.metric: name for name, (result, _) in found.items()}
    chosen, score = found[_choose(asked_as.get(metric, metric), found, str(file))]
    if chosen.prompts and len(chosen.prompts) != len(score.per_prompt):
        raise record_error(
            str(file),
            f"{len(chosen.prompts)} prompts, but scores of {len(score.per_prompt)}",
            expected="as many",
        )
    if not np.isfinite(score.per_prompt).all():
        place = int(np.flatnonzero(~np.isfinite(score.per_prompt))[0])
        raise record_error(
            f"{file}: score.per_prompt[{place}]",
            f"got {score.per_prompt[place]}",
            expected="a finite number",
        )
    return Result(
        name=str(file),
        score=score,
        per_prompt=np.array([score.per_prompt], dtype=np.float64),
        prompts=tuple(chosen.prompts),
        by_type=score.by_type,
        correct={
            (prompt, text): (question.element_type, question.scores)
            for prompt, questions in chosen.question_details.items()
            for text, question in questions.items()
            if question.scored and question.scores is not None
        },
    )


# --- trials ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trials:
    """The trials of one architecture that were asked for, and the study around them."""

    name: str
    folder: Path
    entry: Entry
    peers: list[Entry]  # of the whole study
    step: int  # 0: none was asked for

    def at(self, step: int) -> Result:
        """Return the scores at a rung."""
        if step not in self.entry.steps:
            known = ", ".join(map(str, self.entry.steps))
            raise RecordError(f"{self.name}: no score at step {step}; expected one of {known}")
        scores = self.entry.scores(step)
        per_prompt = self.entry.per_prompt(step)
        if not per_prompt.size:
            raise RecordError(f"{self.name}: no {self.entry.metric} of single prompts is on record")
        types = sorted(set.intersection(*(set(score.by_type) for score in scores)))
        return Result(
            name=f"{self.name}:{step}",
            score=scores[0],
            per_prompt=per_prompt,
            by_type={
                kind: float(np.mean([score.by_type[kind] for score in scores])) for kind in types
            },
            seeds=tuple(trial.seed for trial in self.entry.counted),
            budget=self.entry.first.budget_id,
            step=step,
            repeats={
                (str(self.folder.resolve()), peer.first.arch_id, peer.first.control, str(step)): (
                    Repeats(tuple(t.seed for t in peer.counted), peer.per_prompt(step))
                )
                for peer in self.peers
                if step in peer.steps and len(peer.counted) > 1
            },
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        return tuple(
            f"{self.name}: seed {trial.seed} {trial.state} at step {trial.steps_done}"
            + ("" if trial in self.entry.counted else ", left out")
            for trial in self.entry.trials
            if trial.state not in SETTLED
        )


def _read(text: str, root: str | Path, metric: str) -> Result | _Trials:
    path = Path(text)
    if path.is_file() or path.suffix == ".json":
        return _read_file(path, metric)
    match = _TRIAL.fullmatch(text)
    study, slash, name = (match["place"] if match else "").rpartition("/")
    if match is None or not slash or not study or not name:
        raise UserError(
            f"got {text!r}; expected STUDY/NAME[@SEED][:STEP] or a result file of "
            "`nas-t2i evaluate`"
        )
    folder = find_study(study, root)
    trials = read_trials(folder)
    metrics = [m for trial in trials for point in trial.curve for m in point.scores]
    if metric in SIGNALS:  # a signal is compared where it is asked for
        metrics += measured_signals(trials)
    if metrics:
        trials = with_one_metric(trials, _choose(metric, metrics, text))
    entries = group_entries(trials)
    entry = _find_entry(name, entries, folder)
    if match["seed"]:
        entry = _one_seed(entry, int(match["seed"]), text)
    if not entry.steps:
        raise RecordError(f"{text}: has no score yet")
    return _Trials(
        name=f"{folder.name}/{name}" + (f"@{match['seed']}" if match["seed"] else ""),
        folder=folder,
        entry=entry,
        peers=entries,
        step=int(match["step"] or 0),
    )


def _find_entry(name: str, entries: Sequence[Entry], folder: Path) -> Entry:
    names = dict(zip(unique_names(entries), entries, strict=True))
    ids = {entry.first.arch_id: entry for entry in entries if not entry.first.control}
    found = names.get(name) or ids.get(name)
    if found is None:
        hint = did_you_mean(name, names)
        raise RecordError(
            f"{folder.name}: no architecture {name!r}; expected one of {', '.join(names)}"
            + (f"; {hint}" if hint else "")
        )
    return found


def _one_seed(entry: Entry, seed: int, text: str) -> Entry:
    trials = tuple(trial for trial in entry.trials if trial.seed == seed)
    if not trials:
        known = ", ".join(str(trial.seed) for trial in entry.trials)
        raise RecordError(f"{text}: no such seed; expected one of {known}")
    return Entry(trials, entry.metric)


# --- what may be compared --------------------------------------------------------------------


def _choose(metric: str, found: Iterable[str], place: str) -> str:
    names = sorted(set(found))
    if metric:
        return check_metric(metric, names, place)
    if len(names) > 1:
        raise UserError(f"{place}: several metrics; name one with --metric: {', '.join(names)}")
    return names[0]
