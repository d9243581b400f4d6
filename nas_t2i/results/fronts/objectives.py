"""What a front is of: scores that are on record, and costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_t2i.errors import UserError
from nas_t2i.protocol.evaluation import Better
from nas_t2i.protocol.objectives import COSTS, ObjectiveOf, objectives_among
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import TrialRecord
from nas_t2i.results.entries import measured_signals, shared_metric
from nas_t2i.store import Study


def sought_alike(studies: Sequence[Study]) -> tuple[str, ...]:
    """Return the objectives of studies, in the names of their records: tifa, -gmacs.

    () where they differ, or have none.
    """
    plans = [study.record.budget.data.get("search", {}) for study in studies]
    first, *others = [tuple(plan.get("objectives", ())) for plan in plans]
    if not first or any(other != first for other in others):
        return ()
    measured = _measured(trial for study in studies for trial in study.trials)
    return tuple(_as_recorded(text, measured) for text in first)


def objectives_of(
    texts: Sequence[str], trials: Sequence[TrialRecord], place: str = "--objectives"
) -> tuple[ObjectiveOf, ...]:
    """Return what ``tifa``, ``-gmacs`` and the like mean in the records of trials, in their order.

    A budget's name of a metric stands for the score that it has on record: hps for hps_v2.1.

    Raises:
        UserError: as `nas_t2i.protocol.objectives.objectives_among`; it begins with `place`.
    """
    measured = _measured(trials)
    try:
        return objectives_among([_as_recorded(text, measured) for text in texts], measured, place)
    except ValueError as error:
        raise UserError(str(error)) from None


def ranked_against(costs: Iterable[str], trials: Sequence[TrialRecord]) -> tuple[ObjectiveOf, ...]:
    """Return the ranked metric of trials against costs; () where nothing has a score yet."""
    metric = shared_metric(trials)
    if not metric:
        return ()
    return (
        ObjectiveOf(metric, _measured(trials)[metric]),
        *(ObjectiveOf(cost, "smaller") for cost in costs),
    )


def _measured(trials: Iterable[TrialRecord]) -> dict[str, Better]:
    """Return which values are better of everything on record: scores, then signals."""
    trials = list(trials)
    scores = (named for t in trials for p in t.curve for named in p.scores.items())
    found: dict[str, Better] = {name: score.better for name, score in scores}
    return found | {name: SIGNALS[name].better for name in measured_signals(trials)}


def _as_recorded(text: str, measured: Iterable[str]) -> str:
    name = text.strip().removeprefix("-")
    if name in COSTS or name in (names := list(measured)):
        return text
    full = next((known for known in names if known.startswith(f"{name}_")), name)
    return text.replace(name, full)
