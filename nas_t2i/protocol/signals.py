"""Signals: what is measured at every rung besides the ranked metric, and what each is called."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from nas_t2i.protocol.evaluation import Better
from nas_t2i.protocol.part import Part


class SignalKind(NamedTuple):
    """What readers of records need to know of a signal."""

    display_name: str
    better: Better
    unit: str


SIGNAL_PASSES = 3  # forward passes of a pair: its caption, the empty one, another pair's

# By their names on record; how they are measured: nas_t2i.evaluation.signals.
SIGNALS = {
    "heldout_loss": SignalKind("held-out loss", "smaller", "weighted squared error"),
    "text_gain": SignalKind("text gain", "larger", "nats"),
    "caption_gain": SignalKind("caption gain", "larger", "nats"),
}


class SignalSettings(Part):
    """What the signals are measured on: held-out pairs that are the same for every trial."""

    pairs: int = Field(default=96, ge=8, description="held-out pairs; of fewer, all are taken")
    seed: int = Field(default=0, ge=0, description="of their noise, time steps and captions")
