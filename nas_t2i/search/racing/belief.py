"""What is believed of final scores while a race is on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.objectives import ObjectiveOf
from nas_t2i.ranking.observations import Observation, scores_by_step
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import scale_for
from nas_t2i.records import CurvePoint, Score, Signal
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.objectives.values import exact_cost, measured_at
from nas_t2i.search.racing.known import Entry
from nas_t2i.search.study import Outcome
from nas_t2i.streams import derive_seed

FloatArray = npt.NDArray[np.float64]
DRAWS = 1000
# Before there is any score: the deviation of one seed at the last rung, in units of the spread
# between architectures, and the power of the share of the steps by which it is wider before: .35 at
# the end, .8 at 5 %.
_LAST, _POWER = 0.35, -0.28
_EDGE = 1e-3


def first_value(budget: Budget, point: CurvePoint) -> float:
    """Return one number for how well a trial does at a rung, larger for better.

    It is the ranked metric where there is one, else minus the logarithm of the held-out loss.
    Numbers of one rung compare, those of two do not.
    """
    score = point.scores.get(budget.evaluation.metric)
    if score is not None:
        value = score.value if budget.evaluation.BETTER == "larger" else -score.value
        if score.chance is not None and budget.evaluation.BETTER == "larger":
            share = (value - score.chance) / (1 - score.chance)
            share = min(max(share, _EDGE), 1 - _EDGE)
            return math.log(share / (1 - share))
        return value
    loss = point.signals["heldout_loss"].value if "heldout_loss" in point.signals else point.loss
    return -math.log(loss) if loss > 0 else -loss


def first_outcome(budget: Budget, candidate: Candidate, point: CurvePoint | None) -> Outcome:
    """Return what the sampler learns of who showed `point` at the first rung; None: it broke.

    Of several objectives it is what the first rung has of each; for a metric that is not measured
    there stands what does for the ranked one.
    """
    if point is None:
        return Outcome("failed", None, {})
    value = first_value(budget, point)
    if not budget.objectives:
        return Outcome("complete", value if budget.evaluation.BETTER == "larger" else -value, {})
    values = []
    for one in budget.objectives:
        known = None if one.exact else measured_at(point, one.name)
        if one.exact:
            values.append(exact_cost(budget, candidate, one.name))
        elif known is None or one.name == budget.evaluation.metric:
            values.append(one.sign * value)
        else:
            values.append(known.value)
    finite = all(map(math.isfinite, values))
    return Outcome("complete" if finite else "failed", None, {}, tuple(values) if finite else ())


def draws(budget: Budget, entries: Sequence[Entry], seed: int, number: int) -> FloatArray:
    """Return joint draws (DRAWS, entries) of the final scores, larger for better.

    Of several measured objectives (DRAWS, entries, metrics), in their order, each metric drawn for
    itself. They are those of the ranking's model (`nas_t2i.ranking.posterior`) as soon as there is
    a score; until then those of `_of_signals`. A function of what the entries reached, the study's
    seed and the decision's number.
    """
    measured = [one for one in budget.objectives if not one.exact]
    if len(measured) < 2:
        ranked = ObjectiveOf(budget.evaluation.metric, budget.evaluation.BETTER)
        return _drawn(budget, entries, ranked, derive_seed(seed, "race", number))
    return np.stack(
        [
            _drawn(budget, entries, one, derive_seed(seed, f"race for {one.name}", number))
            for one in measured
        ],
        axis=-1,
    )


def _drawn(
    budget: Budget, entries: Sequence[Entry], objective: ObjectiveOf, derived: int
) -> FloatArray:
    observed = [
        _observation(objective, str(index), entry.candidate.profile.family, seed, point)
        for index, entry in enumerate(entries)
        for seed, curve in entry.curves().items()
        for point in curve
    ]
    if all(o.score is None for o in observed):
        return _of_signals(budget, entries, derived)
    chance = next(
        known.chance if isinstance(known, Score) else None
        for entry in entries
        for curve in entry.curves().values()
        for point in curve
        if (known := measured_at(point, objective.name)) is not None
    )
    scale = scale_for(scores_by_step(observed), chance, proportion=chance is not None)
    posterior = believe(observed, scale, draws=DRAWS, seed=derived)
    columns = [posterior.architectures.index(str(index)) for index in range(len(entries))]
    return posterior.draws[:, columns].astype(np.float64)


def _observation(
    objective: ObjectiveOf, name: str, kind: str, seed: int, point: CurvePoint
) -> Observation:
    score, sign = measured_at(point, objective.name), objective.sign
    single = score.per_pair if isinstance(score, Signal) else score.per_prompt if score else ()
    return Observation(
        architecture=name,
        seed=seed,
        step=point.step,
        score=None if score is None else sign * score.value,
        stderr=None if score is None else score.stderr,
        per_prompt=sign * np.asarray(single, dtype=np.float64) if single else None,
        signals={name: signal.value for name, signal in point.signals.items()},
        kind=kind,
    )


def _of_signals(budget: Budget, entries: Sequence[Entry], seed: int) -> FloatArray:
    """Return draws in units of the spread between architectures, from signals at cheap rungs.

    Signals compare within a family alone; how far apart families are, nobody knows yet.
    """
    kinds, kind = np.unique([e.candidate.profile.family for e in entries], return_inverse=True)
    precision, pull = np.ones(len(entries)), np.zeros(len(entries))
    for one in range(len(kinds)):
        own = [i for i in range(len(entries)) if kind[i] == one]
        runs = [(i, curve) for i in own for curve in entries[i].curves().values()]
        values = _equated(budget, [curve for _, curve in runs])
        for (index, curve), value in zip(runs, values, strict=True):
            weight = _deviation(budget, curve[-1].step) ** -2
            precision[index] += weight
            pull[index] += weight * value
    generator = np.random.default_rng(seed)
    found = pull / precision
    found = found + generator.standard_normal((DRAWS, len(entries))) / np.sqrt(precision)
    if len(kinds) > 1:
        found += generator.standard_normal((DRAWS, len(kinds)))[:, kind]
    return found


def _deviation(budget: Budget, step: int) -> float:
    return _LAST * math.pow(step / budget.rungs[-1], _POWER)


def _equated(budget: Budget, curves: Sequence[Sequence[CurvePoint]]) -> FloatArray:
    """Put runs that ended at different rungs on one scale: (runs,), by equating rung after rung.

    Those who went on are better than those who did not: at each rung, the values of the runs that
    reached it get the mean and the spread that were believed of these runs before.
    """
    believed = np.zeros(len(curves))
    deviation = 1.0  # of what is believed of one run
    slope = 0.0
    for rung in budget.rungs:
        found = {
            run: point for run, curve in enumerate(curves) for point in curve if point.step == rung
        }
        if not found:
            continue
        there = np.array(list(found))
        values = _shown(budget, list(found.values()))
        spread = float(values.std())
        if len(there) > 2 and spread > 0:
            slope = math.hypot(float(believed[there].std()), deviation) / spread
        z = believed[there].mean() + slope * (values - values.mean())
        noise = _deviation(budget, rung)
        # What an earlier rung said counts as much as its noise lets it.
        share = deviation**2 / (deviation**2 + noise**2)
        believed[there] += share * (z - believed[there])
        deviation = math.sqrt(deviation**2 * (1 - share))
    return believed


def _shown(budget: Budget, points: Sequence[CurvePoint]) -> FloatArray:
    """Return what runs showed at one rung, larger for better, in standard deviations: (runs,).

    Held-out loss and text gain count alike: the one tells widths and depths apart, the other what
    the text does.
    """
    values = _standard([first_value(budget, point) for point in points])
    gains = [point.signals.get("text_gain") for point in points]
    if any(point.scores for point in points) or None in gains:
        return values
    return values + _standard([gain.value for gain in gains if gain is not None])


def _standard(values: Sequence[float]) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    spread = float(array.std())
    return (array - array.mean()) / spread if spread > 0 else array * 0.0
