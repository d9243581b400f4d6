"""What a candidate is worth under several objectives."""

from __future__ import annotations

import math

from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.evaluation import Better
from nas_t2i.records import CurvePoint, Score, Signal
from nas_t2i.search.candidates import Candidate
from nas_t2i.training.flops import training_flops


def directions(budget: Budget) -> Better | list[Better]:
    """Return which values are better: of each objective, or of the ranked metric alone."""
    sought = budget.objectives
    return [objective.better for objective in sought] if sought else budget.evaluation.BETTER


def exact_cost(budget: Budget, candidate: Candidate, name: str) -> float:
    """Return a cost that is known before training, one of `protocol.objectives.COSTS`."""
    if name == "latency":
        assert candidate.latency is not None
        return candidate.latency.median_s
    if name == "compute":
        images = budget.training.steps * budget.training.batch
        return training_flops(candidate.trained_profile.gmacs, images)
    return float(getattr(candidate.profile, name))


def exact_costs(budget: Budget, candidate: Candidate) -> tuple[float, ...]:
    """Return the exact ones of the objectives, in their order; smaller is better."""
    return tuple(exact_cost(budget, candidate, o.name) for o in budget.objectives if o.exact)


def values_of(budget: Budget, candidate: Candidate) -> tuple[float, ...] | None:
    """Return a value for each objective: measured ones are means over seeds at the last rung.

    None: something was not measured there, or is no finite number.
    """
    values = []
    for objective in budget.objectives:
        if objective.exact:
            values.append(exact_cost(budget, candidate, objective.name))
        else:
            points = candidate.points.get(budget.rungs[-1], {}).values()
            found = [measured_at(point, objective.name) for point in points]
            known = [math.nan if one is None else one.value for one in found]
            values.append(sum(known) / len(known) if known else math.nan)
    return tuple(values) if all(map(math.isfinite, values)) else None


def measured_at(point: CurvePoint, name: str) -> Score | Signal | None:
    """Return what is on record of a measured objective at a rung; None: it was not measured."""
    if name in point.signals:
        return point.signals[name]
    # A metric may have several scores, which are named after it: clip_score, hps_v2.1.
    named = (n for n in point.scores if n == name or n.startswith(f"{name}_"))
    return next((point.scores[n] for n in named), None)
