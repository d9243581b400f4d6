"""Signals of a trained denoiser, for ``nas-t2i evaluate``: as at a rung of its trial."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from nas_t2i.errors import ConfigError, number_of
from nas_t2i.evaluation.metric import Resources
from nas_t2i.evaluation.result import MetricResult
from nas_t2i.evaluation.sampling.checkpoint import CheckpointSource, Trained
from nas_t2i.evaluation.signals import Kept, Signals
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import Score, Signal
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks


def check_signals(names: Sequence[str], source: Path, checkpoint: CheckpointSource | None) -> str:
    """Check that signals can be measured on a source; return on what they are, in words.

    Raises:
        ConfigError: it is no denoiser, or its budget holds no pairs out.
    """
    if checkpoint is None:
        raise ConfigError(
            str(source),
            f"holds images, and {names[0]} is measured on a denoiser",
            expected="a trial, one of its checkpoints, or a diffusers model with --budget",
        )
    budget = checkpoint.budget
    if not budget.signal_pairs:
        why = "signals: null" if budget.signals is None else "no pairs that are held out"
        raise ConfigError(
            str(source),
            f"its budget {budget.name!r} has {why}, and {names[0]} needs held-out pairs",
            expected="a budget with signals" if budget.signals is None else "data.held_out in it",
        )
    assert budget.signals is not None
    pairs = number_of(budget.signal_pairs, "held-out pair")
    return f"{', '.join(names)}: {pairs} of the budget {budget.name}, seed {budget.signals.seed}"


def measure_signals(
    names: Sequence[str], trained: Trained, cache: Path, resources: Resources
) -> dict[str, MetricResult]:
    """Measure signals of a denoiser; errors that the log has are not measured again.

    Raises:
        UserError: the budget's pairs or encoders can't be used; the log can't be written.
    """
    model = hashlib.sha256(json.dumps(trained.facts, sort_keys=True).encode()).hexdigest()[:20]
    inputs = Inputs(trained.budget, cache, device=trained.device)
    found = Signals(trained.budget, inputs).measure(
        trained.denoiser,
        Ranks.alone(trained.device),
        Kept(resources.log, model, resources.report),
    )
    return {name: _result(found[name]) for name in names}


def _result(signal: Signal) -> MetricResult:
    kind = SIGNALS[signal.name]
    return MetricResult(
        metric=signal.name,
        score=Score(
            metric=signal.name,
            value=signal.value,
            stderr=signal.stderr,
            n=signal.n,
            signature=signal.signature,
            better=kind.better,
            per_prompt=signal.per_pair,
        ),
        better=kind.better,
        signature=signal.signature,
        more={
            "unit": kind.unit,
            "by_noise": {level: at.model_dump() for level, at in signal.by_noise.items()},
        },
    )
