"""Two results against each other, prompt by prompt: architectures of studies or result files.

Both were scored on the same prompts, and prompts differ far more than models do, so the difference
is taken on each prompt and resampled over prompts (a paired bootstrap). What training again with
another seed would change is added where the studies have enough repeats to tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.errors import IncomparableError, RecordError, UserError, Where, did_you_mean
from nas_t2i.files import check_version, json_object, read_bytes, record_error, validated
from nas_t2i.records import Score
from nas_t2i.results.entries import (
    SETTLED,
    Entry,
    check_metric,
    group_entries,
    with_one_metric,
)
from nas_t2i.results.leaderboard import unique_names
from nas_t2i.statistics import (
    MIN_SEED_DOF,
    Difference,
    FloatArray,
    SeedEffect,
    paired_bootstrap,
    paired_bootstrap_of_shares,
    seed_effect,
)
from nas_t2i.store import find_study, read_trials

# A trial's seed and step may follow its architecture's name.
_TRIAL = re.compile(r"(?P<place>.+?)(?:@(?P<seed>\d+))?(?::(?P<step>\d+))?", re.DOTALL)

# An answered question: its element type, and whether it was right (1 or 0).
Marks = Mapping[tuple[str, str], tuple[str, float]]


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
    marks: Marks = field(default_factory=dict)
    """Of single questions, by (prompt id, question); none where they are not on record."""
    seeds: tuple[int, ...] = ()
    """Seeds of training; none where it is not known."""
    budget: str = ""
    """Id of the budget of training; "" where it is not known."""
    step: int = 0
    """Training steps; 0 where it is not known."""
    repeats: Mapping[tuple[str, ...], FloatArray] = field(default_factory=dict)
    """Scores (seeds, prompts) at the same step of all that was trained with several seeds."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TypeDifference:
    """The difference within one element type of questions."""

    element_type: str
    first: float
    second: float
    difference: Difference
    """Its interval is unknown (NaN) where single questions are not on record."""
    questions: int | None
    """Questions compared; None where they are not on record."""


@dataclass(frozen=True)
class Comparison:
    """What two results say about each other. Scores are in the metric's unit; larger is better."""

    first: Result
    second: Result
    scores: tuple[float, float]
    """Means over the common prompts."""
    common: int
    left_out: tuple[int, int]
    """Prompts of each that the other has no score of, or that have none themselves."""
    difference: Difference
    """First minus second; the interval is over prompts."""
    seed_noise: SeedEffect | None
    """Between seeds of one architecture; None where nothing was repeated."""
    with_seeds: Difference | None
    """The difference with the noise between seeds in its interval; None where that isn't known."""
    by_type: list[TypeDifference]
    notes: list[str]

    @property
    def decisive(self) -> Difference:
        """The widest interval that could be had: the one to judge by."""
        return self.with_seeds or self.difference

    @property
    def verdict(self) -> str:
        """One sentence on which is better, or that nothing can be told."""
        where = "over prompts and seeds" if self.with_seeds else "over prompts"
        judged = self.decisive
        if math.isnan(judged.low):
            return "Can't be told apart: one common prompt gives no interval."
        if judged.includes_zero:
            return f"Can't be told apart: the 95 % interval {where} includes 0."
        better = self.first.name if judged.value > 0 else self.second.name
        return f"{better} is better: the 95 % interval {where} excludes 0."


def compare(first: Result, second: Result) -> Comparison:
    """Compare two results over the prompts that both have a score of.

    Raises:
        IncomparableError: other metrics or signatures (names what differs), or no common prompt.
    """
    _check_signatures(first, second)
    a, b = _paired(first, second)
    kept = ~np.isnan(np.concatenate([a, b])).any(axis=0)
    if not kept.any():
        raise IncomparableError(f"{first.name} and {second.name} have no scored prompt in common")
    a, b = a[:, kept], b[:, kept]
    means = a.mean(axis=0), b.mean(axis=0)
    repeats = {**first.repeats, **second.repeats}
    effect = seed_effect(list(repeats.values())) if repeats else None
    known = effect if effect is not None and effect.dof >= MIN_SEED_DOF else None
    counts = len(a), len(b)
    common = int(kept.sum())
    return Comparison(
        first=first,
        second=second,
        scores=(float(means[0].mean()), float(means[1].mean())),
        common=common,
        left_out=(first.per_prompt.shape[1] - common, second.per_prompt.shape[1] - common),
        difference=paired_bootstrap(*means),
        seed_noise=effect if effect is not None and effect.dof else None,
        with_seeds=paired_bootstrap(*means, seeds=counts, effect=known) if known else None,
        by_type=_by_type(first, second),
        notes=_notes(first, second, known),
    )


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
        told = "; ".join(f"{r.name}: {', '.join(map(str, r.entry.steps))}" for r in trials)
        raise RecordError(f"no step at which both have a score; name one of each ({told})")
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
        if result.score is not None and result.score.per_prompt and result.better == "larger"
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
    return Result(
        name=str(file),
        score=score,
        per_prompt=np.array([score.per_prompt], dtype=np.float64),
        prompts=tuple(chosen.prompts),
        by_type=score.by_type,
        marks={
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
                    peer.per_prompt(step)
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
    if metrics := [m for trial in trials for point in trial.curve for m in point.scores]:
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


def _check_signatures(first: Result, second: Result) -> None:
    one, other = first.score, second.score
    if one.metric != other.metric:
        raise IncomparableError(
            f"{first.name} is scored by {one.metric}, {second.name} by {other.metric}: "
            "no difference of the two means anything"
        )
    if one.signature != other.signature:
        raise IncomparableError(
            f"{first.name} and {second.name} were not measured alike: "
            + unlike_parts(one.signature, other.signature)
        )


def unlike_parts(first: str, second: str) -> str:
    """Say in which parts two signatures differ: "guidance=2 against guidance=4"."""
    one, other = (
        {part.partition("=")[0] if "=" in part else f"part {i}": part for i, part in enumerate(s)}
        for s in (first.split("|"), second.split("|"))
    )
    return ", ".join(
        f"{one.get(key, 'nothing')} against {other.get(key, 'nothing')}"
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    )


def _paired(first: Result, second: Result) -> tuple[FloatArray, FloatArray]:
    """Return the scores of both, (seeds, prompts) each, over the prompts that both name."""
    if first.prompts and second.prompts:
        places = {prompt: column for column, prompt in enumerate(second.prompts)}
        common = [(i, places[p]) for i, p in enumerate(first.prompts) if p in places]
        columns = np.array(common, dtype=np.intp).reshape(-1, 2)
        return first.per_prompt[:, columns[:, 0]], second.per_prompt[:, columns[:, 1]]
    if first.per_prompt.shape[1] != second.per_prompt.shape[1]:
        raise IncomparableError(
            f"{first.name} has scores of {first.per_prompt.shape[1]} prompts, {second.name} of "
            f"{second.per_prompt.shape[1]}, and not both say which"
        )
    return first.per_prompt, second.per_prompt


def _by_type(first: Result, second: Result) -> list[TypeDifference]:
    if not first.marks or not second.marks:
        return [
            TypeDifference(kind, a, b, Difference(a - b, math.nan, math.nan), None)
            for kind, a in sorted(first.by_type.items())
            if (b := second.by_type.get(kind)) is not None
        ]
    sums: dict[str, dict[str, list[float]]] = {}
    for key, (kind, mark) in first.marks.items():
        if key in second.marks:
            row = sums.setdefault(kind, {}).setdefault(key[0], [0.0, 0.0, 0.0])
            for place, value in enumerate((mark, second.marks[key][1], 1.0)):
                row[place] += value
    rows = []
    for kind in sorted(sums):
        a, b, counts = np.array(list(sums[kind].values())).T
        total = counts.sum()
        rows.append(
            TypeDifference(
                kind,
                float(a.sum() / total),
                float(b.sum() / total),
                paired_bootstrap_of_shares(a, b, counts),
                int(total),
            )
        )
    return rows


def _notes(first: Result, second: Result, known: SeedEffect | None) -> list[str]:
    notes = list(dict.fromkeys([*first.notes, *second.notes]))
    if first.budget and second.budget and first.budget != second.budget:
        notes.append(
            f"unlike budgets ({first.budget} and {second.budget}): the difference is that of "
            "architecture and budget together"
        )
    if first.step and second.step and first.step != second.step:
        notes.append(f"after unlike numbers of steps: {first.step} and {second.step}")
    if not known and (first.seeds or second.seeds):
        notes.append(
            "the interval holds no noise between seeds (that takes three repeats in the studies): "
            "training again may turn a small difference round"
        )
    return notes
