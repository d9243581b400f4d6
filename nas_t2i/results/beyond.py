"""Which rows of a ranking are beyond a soft limit of the space that they were searched in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from nas_t2i.arch.limits import Limits
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.store import Study


def mark_beyond(rows: Sequence[LeaderboardRow], studies: Iterable[Study]) -> list[LeaderboardRow]:
    """Return the rows, each with the names of the soft limits of its study that it exceeds."""
    limits = {study.record.study: _limits(study) for study in studies}
    if not any(list(one.soft()) for one in limits.values()):
        return list(rows)
    return [
        row.model_copy(
            update={
                "beyond": sorted(
                    {
                        name
                        for study in row.study.split(", ")
                        for name, excess in limits.get(study, Limits())
                        .excess(row, latency=row.latency_s)
                        .items()
                        if excess > 0
                    }
                )
            }
        )
        for row in rows
    ]


def _limits(study: Study) -> Limits:
    try:
        return Limits.model_validate(study.record.space.data.get("limits") or {})
    except ValidationError:  # of a record made by hand: its ranking is worth more than its limits
        return Limits()
