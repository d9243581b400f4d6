"""How the hypervolume of a front was believed while a study went on: against compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.ranking.front import hypervolume
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.entries import BROKEN
from nas_t2i.results.fronts.front import Front, reference_point
from nas_t2i.results.fronts.history import Stretch, history
from nas_t2i.results.fronts.joint import joint_of
from nas_t2i.results.fronts.latencies import Latencies
from nas_t2i.store import Study


@dataclass(frozen=True)
class CoursePoint:
    """What was believed when so much training was on record."""

    trials: float
    """Training of all but controls, in trials to the last rung: their steps over its step."""
    training_flops: float
    """The same in FLOPs."""
    hypervolume: float
    """Median over the draws, in units of all objectives multiplied."""
    low: float
    high: float
    """The 95 % interval."""


@dataclass(frozen=True)
class Course:
    """The hypervolume along the training of the studies of a front."""

    points: Sequence[CoursePoint]
    order: str
    """What order the training is in, in words that follow "in the order"."""


def course(
    front: Front,
    studies: Sequence[Study],
    shares: Sequence[float],
    *,
    latencies: Latencies | None = None,
) -> Course:
    """Return the hypervolume of a front when `shares` (ascending, to 1) of the training were done.

    Each is what the model of the ranking makes of the records up to there, and of no others, from
    the reference point and within the limits of the front. Where there was no score within them
    yet there is no point. Of several studies the older one is first.

    Raises:
        RecordError: as `history`.
    """
    place = front.place
    if place is None:
        return Course([], "")
    ordered = sorted(studies, key=lambda study: study.record.created)
    histories = [history(study) for study in ordered]
    stretches = [s for found in histories for s in found.stretches if not s.trial.control]
    steps = np.cumsum([_difference(s, "step") for s in stretches])
    flops = np.cumsum([_difference(s, "training_flops") for s in stretches])
    rungs = ordered[-1].record.rungs
    last = rungs[-1] if rungs else max(stretch.trial.curve[-1].step for stretch in stretches)
    point = reference_point(front.objectives, place.reference)
    counts = np.searchsorted(steps, np.asarray(shares) * steps[-1] * (1 + 1e-9), side="right")
    points = []
    for count in np.unique(counts[counts > 0]):
        known = joint_of(
            _known(stretches[:count]),
            front.objectives,
            limited=front.limits,
            latencies=latencies,
        )
        joint = known.within(front.limits) if known else None
        if joint is None or not joint.members:
            continue
        volumes = hypervolume(joint.scores, joint.prices, point)
        low, middle, high = np.quantile(volumes, [0.025, 0.5, 0.975])
        points.append(
            CoursePoint(
                trials=float(steps[count - 1]) / last,
                training_flops=float(flops[count - 1]),
                hypervolume=float(middle),
                low=float(low),
                high=float(high),
            )
        )
    return Course(points, " and ".join(dict.fromkeys(found.order for found in histories)))


def _difference(stretch: Stretch, quantity: str) -> float:
    curve = stretch.trial.curve
    before = getattr(curve[stretch.begin - 1], quantity) if stretch.begin else 0
    return float(getattr(curve[stretch.end - 1], quantity) - before)


def _known(stretches: Sequence[Stretch]) -> list[TrialRecord]:
    """Return trials as they were after these stretches; who broke later is left out already."""
    reached = {id(stretch.trial): stretch for stretch in stretches}
    known = []
    for stretch in reached.values():
        trial = stretch.trial
        changes: dict[str, object] = {"curve": trial.curve[: stretch.end]}
        if stretch.end < len(trial.curve) and trial.state not in BROKEN:
            changes["state"] = TrialState.RUNNING
        known.append(trial.model_copy(update=changes))
    return known
