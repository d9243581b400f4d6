"""Early stopping at rungs: stop what is hopeless, and only what can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas_t2i.protocol.budget import EarlyStopping

PromptScores = npt.NDArray[np.float64]


def goes_on(
    candidate: str,
    at_rung: Mapping[str, Sequence[float]],
    rule: EarlyStopping | None,
    rung_index: int = 0,
) -> bool:
    """Decide whether `candidate` goes on past a rung, the `rung_index`-th of the budget.

    `at_rung` holds, for every candidate that has reached the rung so far (this one included), its
    score a prompt, the same prompts in the same order. The candidate goes on when it is among the
    best ``ceil(keep[rung_index] * n)``, or when its mean falls short of the last kept one by at
    most `margin` standard errors of the difference, paired over prompts.
    """
    if rule is None or len(at_rung) < rule.min_peers:
        return True
    scores = {name: np.asarray(values, dtype=np.float64) for name, values in at_rung.items()}
    ranked = sorted(scores, key=lambda name: -float(scores[name].mean()))
    kept = ranked[: math.ceil(rule.keep[rung_index] * len(ranked))]
    if candidate in kept:
        return True
    shortfall: PromptScores = scores[kept[-1]] - scores[candidate]
    stderr = float(shortfall.std(ddof=1)) / math.sqrt(len(shortfall))
    return float(shortfall.mean()) <= rule.margin * stderr
