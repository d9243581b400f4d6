"""Scores by element type of the questions."""

from __future__ import annotations

from nas_t2i.results.figures.chart import Chart, Role, Series
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.metrics import display_name


def element_types(found: RankedStudies) -> Chart | None:
    """Return accuracy by element type: the best, the worst and controls; None without types."""
    scored = [row for row in found.rows if row.by_type and (row in found.sound or row.control)]
    furthest = max((row.step for row in scored), default=0)
    searched = [row for row in scored if not row.control and row.step == furthest]
    controls = [row for row in scored if row.control][:2]
    if not searched:
        return None
    rows = searched[:7] + searched[7:][-2:]
    values: dict[str, list[float]] = {}
    for row in rows:
        for kind, value in row.by_type.items():
            values.setdefault(kind, []).append(value)
    kinds = sorted(values, key=lambda kind: sum(values[kind]) / len(values[kind]))
    return Chart(
        key="element-types",
        title=f"{display_name(found.metric)} by element type",
        caption=(
            "The share of questions of each type that was answered as the caption demands, mean "
            "over seeds, of architectures measured at the last rung: the best, the two worst, "
            "and controls. Types are in order of difficulty, the hardest first. Single answers "
            "are not on record, so there are no intervals here."
        ),
        x_title="share answered as the caption demands",
        y_title="element type",
        categories=tuple(kinds),
        series=tuple(
            Series(
                name=row.name,
                role=Role.CONTROL if row.control else found.role(row),
                x=tuple(row.by_type[kind] for kind in kinds if kind in row.by_type),
                y=tuple(kind for kind in kinds if kind in row.by_type),
                hover=tuple(
                    f"{kind}: {row.by_type[kind]:.3f}" for kind in kinds if kind in row.by_type
                ),
                line=False,
                rank=row.rank,
            )
            for row in [*rows, *controls]
        ),
    )
