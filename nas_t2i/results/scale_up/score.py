"""What score a full-scale run may reach: only as far as laws of the study's own records carry."""

from __future__ import annotations

from nas_t2i.errors import MissingExtraError, RecordError, named
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.differences import EXECUTION, differing
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.laws.scaling import Law, scaling
from nas_t2i.results.metrics import display_name

_FREE = (*EXECUTION, ("proxy",), ("rungs",), ("training", "steps"), ("training", "precision"))
"""What may differ between the study and the run: how long, how large and how it is executed."""


def predicted_score(found: RankedStudies, studied: Budget, run: Budget, flops: float) -> list[str]:
    """Say in lines what the study's law in training compute predicts, or why nothing is.

    Args:
        found: the study, ranked.
        studied: its budget.
        run: the full-scale budget.
        flops: training compute of the full-scale run.
    """
    others = differing(studied, run, _FREE)
    if others:
        return [
            f"No score is predicted: the study differs from this run in {named(others)}, and a "
            "law holds under one setting only."
        ]
    try:
        laws = [scaling(found, "compute", floor=floor) for floor in (False, True)]
    except (RecordError, MissingExtraError) as error:
        return [f"No score is predicted: {error}"]
    lines = [_said(law, flops) for law in laws]
    low, high = laws[0].range
    if laws[0].is_outside(flops):
        lines.append(
            f"Warning: {flops:.3g} FLOPs are outside of {low:.3g} to {high:.3g}, where the law was "
            "fitted: how far it holds there, the study's records don't say."
        )
    if found.metric == "tifa" and any(law.predict(flops).high > 1 for law in laws):
        lines.append("Warning: no TIFA is more than 1; a power law does not know that.")
    if studied.proxy is not None:
        lines.append("Warning: the law is of proxies, which the run does not train.")
    return lines


def _said(law: Law, flops: float) -> str:
    found = law.predict(flops)
    form = "law with a floor" if law.with_floor else "plain power law"
    return (
        f"Predicted {display_name(law.metric)} of the Pareto front at this compute: "
        f"{found.value:.3f} (95 % {found.low:.3f} to {found.high:.3f}), {form} in training compute."
    )
