"""A study's folder that is written as a search writes it, event by event."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas_t2i.evaluation.sampling.contact_sheet import save_sheet
from nas_t2i.evaluation.sampling.sheet_layout import sheet_name
from nas_t2i.events import EventLog
from nas_t2i.records import RungEvent, StartEvent, TrialEvent, TrialRecord, TrialState
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.store import write_study
from tests.results.record_factory import study

# A tracker of one's own, whose file holds [run, step or null, values or state] a line.
LINES = """
import json
from pathlib import Path
from nas_t2i.tracking.tracker import NOTHING, Tracker
class Lines(Tracker):
    def tell(self, *what):
        with open(self.where, "a") as file:
            print(json.dumps(what), file=file)
    def begin(self, run):
        told = Path(self.where).read_text() if Path(self.where).exists() else ""
        held = [json.loads(line) for line in told.splitlines()]
        steps = [step for name, step, _ in held if name == run.name and step is not None]
        return max(steps, default=NOTHING)
    def log(self, run, rows):
        for row in rows:
            self.tell(run.name, row.step, dict(row.values))
    def end(self, run, state, reason):
        self.tell(run.name, None, state)
"""


def start(record: TrialRecord) -> StartEvent:
    return StartEvent(record=record.model_copy(update={"curve": [], "state": TrialState.RUNNING}))


class WrittenStudy:
    """A study whose trials have begun."""

    def __init__(self, folder: Path, *trials: TrialRecord) -> None:
        self.folder = folder
        write_study(folder, study("demo"))
        for record in trials:
            self.append(record, start(record))

    def place(self, record: TrialRecord) -> Path:
        return self.folder / "trials" / f"{record.arch_id}-s{record.seed}"

    def append(self, record: TrialRecord, *events: TrialEvent) -> None:
        with EventLog(self.place(record) / "events.jsonl") as log:
            for event in events:
                log.append(event)

    def reach(self, record: TrialRecord, step: int) -> None:
        """Put a rung on record: its sheet, its event, and what the search saw of it."""
        (point,) = [p for p in record.curve if p.step == step]
        images = np.full((2, 12, 12, 3), step % 256, np.uint8)
        save_sheet(self.place(record) / sheet_name(step), images, ["a circle", "a square"])
        self.append(record, RungEvent(point=point))
        with RungLog(self.folder) as log:
            log.see(record.arch_id, record.seed, step, point.scores["tifa"].value)
