"""What a tracker keeps to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from nas_t2i.contracts import Check
from nas_t2i.tracking.tracker import NOTHING, Param, Row, Run, Tracker

_LAST = 80


def checks(tracker: Tracker) -> Iterator[Check]:
    """Check a tracker by sending it a run of its own, twice."""
    tracker.check()
    params: dict[str, Param] = {"gmacs": 99.5, "family": "unet", "transformer_depth[2]": 2}
    run = Run("c0" * 10, "contract seed 0", "nas-t2i contract", params, "scores/tifa")
    held = tracker.begin(run)
    known = held in (NOTHING, _LAST)
    yield Check("it says which step it holds", "" if known else f"got {held!r:.60}")
    sheet = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    rows = [
        Row(24, {"training/loss": 0.9, "tifa_by_type/unseen_pair": 0.25}),
        Row(_LAST, {"training/loss": math.nan, "scores/tifa": 0.5}, {"samples": sheet}),
    ]
    tracker.log(run, [row for row in rows if row.step > held])
    yield Check("it takes a loss that is no number, and an image")
    other = Run("c1" * 10, run.name, run.study, params, run.metric)
    tracker.begin(other)
    yield Check("two runs may be open")
    tracker.end(run, "stopped", "outside of the best half")
    again = tracker.begin(run)
    sound = again in (NOTHING, _LAST)
    yield Check("begun again, it holds all or nothing", "" if sound else f"got {again!r:.60}")
    tracker.log(run, [row for row in rows if row.step > again])
    tracker.end(run, "complete", "")
    tracker.close()
    yield Check("it closes with a run open")
