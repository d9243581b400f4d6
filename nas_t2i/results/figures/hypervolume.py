"""The hypervolume of a front against training, as it was believed on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nas_t2i.results.figures.chart import Chart, Role, Series
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import number, scaled
from nas_t2i.results.fronts.course import CoursePoint, course
from nas_t2i.results.fronts.wording import objective_names, reference_words, shown_factor

_MOST_POINTS, _LEAST_POINTS = 16, 4
_MOST_TRIALS = 16_000  # that are ranked for all points together
_CAPTION = (
    "What the front of {names} dominates, from {reference}: "
    "the median over the joint draws and the 95 % interval, of what the model "
    "of the ranking made of the records up to there, predictions included. The interval narrows as "
    "more is measured, and what disappoints takes the median down. A unit of training is one "
    "trial to the last rung; its order is that {order}. Controls are not counted."
)


def hypervolume_course(found: RankedStudies) -> Chart | None:
    """Return the hypervolume against training; None with fewer than two points.

    It is that of the objectives that the studies sought, else of the ranked metric against GMACs.

    Raises:
        RecordError: a log of decisions that was changed, or is damaged.
    """
    front = found.sought or found.front("gmacs")
    if front.place is None:
        return None
    count = max(_LEAST_POINTS, min(_MOST_POINTS, _MOST_TRIALS // len(found.trials)))
    known = course(front, found.studies, np.linspace(0, 1, count + 1)[1:].tolist())
    if len(known.points) < 2:
        return None
    names, points = objective_names(front), [_shown(p, shown_factor(front)) for p in known.points]
    return Chart(
        key="hypervolume",
        title="Hypervolume of the front against training",
        caption=_CAPTION.format(
            names=", ".join(names),
            reference=reference_words(front),
            order=known.order,
        ),
        x_title="training so far, in trials to the last rung",
        y_title=f"hypervolume, {' x '.join(names)}",
        series=(
            Series(
                name="median, 95 %",
                role=Role.BEST,
                x=tuple(point.trials for point in points),
                y=tuple(point.hypervolume for point in points),
                low=tuple(point.low for point in points),
                high=tuple(point.high for point in points),
                compute=tuple(point.training_flops for point in points),
                hover=tuple(map(_told, points)),
            ),
        ),
    )


def _shown(point: CoursePoint, factor: float) -> CoursePoint:
    volumes = (factor * value for value in (point.hypervolume, point.low, point.high))
    return replace(point, **dict(zip(("hypervolume", "low", "high"), volumes, strict=True)))


def _told(point: CoursePoint) -> str:
    return (
        f"{number(point.hypervolume)} ({number(point.low)} to {number(point.high)})\n"
        f"after {number(point.trials)} trials, {scaled(point.training_flops, 'FLOPs')}"
    )
