"""A study of a thousand architectures, made up: every rung and signal, and 64 prompts each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas_t2i.records import CurvePoint, TrialRecord, TrialState
from nas_t2i.store import Study
from tests.results.record_factory import point, signals_of, study, trial

RUNGS = (22, 40, 72, 130, 238, 324, 432)


def large_study(count: int = 1000) -> Study:
    generator = np.random.default_rng(0)
    return Study(
        Path("nowhere"), study("large"), [_trial(i, generator) for i in range(count)], [], False
    )


def _trial(number: int, generator: np.random.Generator) -> TrialRecord:
    channels = int(generator.choice([128, 192, 256, 320, 384]))
    depth = int(generator.choice([2, 4, 8, 10, 12, 14]))
    strength = channels / 1000 + generator.normal(0, 0.03)
    # As in a race: most are left early, one in three reaches a score.
    reached = 7 if number % 3 == 0 else int(generator.integers(1, 5))
    curve = [_point(step, strength, generator) for step in RUNGS[:reached]]
    made = trial(
        f"unet-C{channels}-m1.2.4-TD0.2.{depth}-n{number}",
        {},
        number=number,
        arch_id=f"unet-{number:012x}",
        params=channels * 3_000_000,
        gmacs=channels / 3,
        state=TrialState.COMPLETE if reached == 7 else TrialState.STOPPED,
        arch={
            "family": "unet", "channels": channels, "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 2, depth],
        },
        steps_done=RUNGS[reached - 1],
    )  # fmt: skip
    reason = "" if reached == 7 else "left by the race"
    return made.model_copy(update={"curve": curve, "reason": reason})


def _point(step: int, strength: float, generator: np.random.Generator) -> CurvePoint:
    share = strength * (0.3 + 0.7 * step / 432)
    prompts = np.clip(generator.normal(0.35 + share, 0.2, 64), 0, 1)
    made = point(step, [round(float(p), 4) for p in prompts])
    if step < 324:
        made = made.model_copy(update={"scores": {}})
    return made.model_copy(update={"signals": signals_of(1.2 - share - step / 1000)})
