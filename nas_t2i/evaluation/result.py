"""What a metric found on a set of images, with all that a result file says about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nas_t2i.errors import named, number_of
from nas_t2i.protocol.evaluation import Better
from nas_t2i.records import Score

Report = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much


@dataclass(frozen=True)
class MetricResult:
    """A metric's score and what it was made of."""

    metric: str  # as it was asked for
    score: Score | None  # None: no image could be scored
    better: Better
    signature: str  # of the score, also where there is none
    prompts: list[str] = field(default_factory=list)  # ids of `score.per_prompt`
    missing: dict[str, str] = field(default_factory=dict)  # prompts without a score: id -> reason
    notes: list[str] = field(default_factory=list)  # what to know when reading it, one line each
    more: dict[str, Any] = field(default_factory=dict)  # of this metric only, plain JSON

    @property
    def missing_by_reason(self) -> Counter[str]:
        """How many prompts have no score, by reason."""
        return Counter(self.missing.values())

    def plain(self) -> dict[str, Any]:
        """Return plain JSON data; ``score`` is a `nas_t2i.records.Score`, or null."""
        return {
            "metric": self.metric,
            # NaN as text, as in all records.
            "score": None if self.score is None else json.loads(self.score.model_dump_json()),
            "better": self.better,
            "prompts": self.prompts,
            "missing": {"by_reason": dict(self.missing_by_reason), "prompts": self.missing},
            "notes": self.notes,
            **self.more,
        }


def missing_notes(missing: dict[str, str], what: str = "prompt") -> list[str]:
    """Say which prompts have no score, a line a reason."""
    notes = []
    for reason, count in Counter(missing.values()).items():
        names = named(name for name, why in missing.items() if why == reason)
        notes.append(f"{number_of(count, what)} not scored, {reason}: {names}")
    if missing:
        notes.append("what is not scored is left out, not wrong: compare over common prompts only")
    return notes
