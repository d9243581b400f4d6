"""All figures of a ranking, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nas_t2i.results.figures.chart import Chart
from nas_t2i.results.figures.curves import curve
from nas_t2i.results.figures.element_types import element_types
from nas_t2i.results.figures.hypervolume import hypervolume_course
from nas_t2i.results.figures.importance import effects_chart, importance_chart, what_matters
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.rung_ranks import rung_rank_chart, rung_rankings
from nas_t2i.results.figures.tradeoff import tradeoff


def _importance(found: RankedStudies) -> Chart | None:
    fitted = what_matters(found)
    return importance_chart(found, fitted) if fitted else None


def _effects(found: RankedStudies) -> Chart | None:
    fitted = what_matters(found)
    return effects_chart(found, fitted) if fitted else None


KINDS: Mapping[str, Callable[[RankedStudies], Chart | None]] = MappingProxyType(
    {
        "gmacs": lambda found: tradeoff(found, "gmacs"),
        "params": lambda found: tradeoff(found, "params"),
        "compute": lambda found: tradeoff(found, "training_flops"),
        "latency": lambda found: tradeoff(found, "latency_s"),
        "hypervolume": hypervolume_course,
        "ranks": lambda found: rung_rank_chart(found, rung_rankings(found)),
        "types": element_types,
        "importance": _importance,
        "effects": _effects,
        "curves": lambda found: curve(found, found.metric),
    }
)
"""By kind; `curves` draws the ranked metric, others go by their own names."""
