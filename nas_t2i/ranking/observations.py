"""What is on record of the architectures of one ranking, as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """One seed of one architecture at one rung: its score, or signals, or both.

    `score` is larger for better and None at a rung without one. `per_prompt` are its scores of
    single prompts, (prompts,), in the same order for all; where they are not on record `stderr`,
    the standard error over prompts, takes their place. `signals` are smooth quantities by name.
    Scores compare between all; signals only within a `kind`, which is the family: a transformer
    may have the larger loss of a UNet and the better images.
    """

    architecture: str
    seed: int
    step: int
    score: float | None = None
    stderr: float | None = None
    per_prompt: FloatArray | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""


def scores_by_step(observations: Iterable[Observation]) -> list[list[float]]:
    """Return the scores at each step that has any, the last step last."""
    found: dict[int, list[float]] = {}
    for o in observations:
        if o.score is not None:
            found.setdefault(o.step, []).append(o.score)
    return [found[step] for step in sorted(found)]
