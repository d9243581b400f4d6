"""What ``nas-t2i evaluate`` prints: progress while it runs, a table when it is done."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import duration
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable

if TYPE_CHECKING:
    from nas_t2i.evaluation.result import MetricResult
    from nas_t2i.evaluation.standalone.evaluate import Evaluation

_SECONDS = 10.0  # between two lines of progress where there is no terminal


@contextmanager
def progress(console: Console) -> Iterator[Any]:
    """Yield what to report progress to: a bar a stage on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)

        yield report


class _Lines:
    """Progress as lines: the first and the last of a stage, and one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        began, at = self._began.setdefault(what, (now, done))
        if done < of and now - self._last < _SECONDS:
            return
        self._last = now
        left = (now - began) / (done - at) * (of - done) if at < done < of else 0.0
        line = f"{what} {done}/{of}" + (f", ETA {duration(left)}" if left else "")
        self._console.print(line, soft_wrap=True)


def show(found: Evaluation, output: Path | None) -> None:
    """Print the scores and what to know when reading them."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("metric", "value ± SE", "chance", "n", "missing", "better"):
        right = title not in ("metric", "missing", "better")
        table.add_column(showable(title, console), justify="right" if right else "left")
    for result in found.results:
        for row in _rows(result):
            table.add_row(*(Text(showable(cell, console)) for cell in row))
    console.print(table)
    notes = found.notes + [note for result in found.results for note in result.notes]
    if "folder" in found.images:
        notes.insert(0, f"drawn images: {found.images['count']}, in {found.images['folder']}")
    if output is not None:
        notes.append(f"written: {output}")
    for note in dict.fromkeys(notes):
        console.print(Text(showable(f"- {note}", console)), soft_wrap=True)


def _rows(result: MetricResult) -> Iterator[list[str]]:
    missing = ", ".join(f"{count} {why}" for why, count in result.missing_by_reason.items()) or "0"
    score = result.score
    if score is None:
        yield [display_name(result.metric), "none", "", "0", missing, result.better]
        return
    chance = "" if score.chance is None else f"{score.chance:.3f}"
    error = "unknown" if math.isnan(score.stderr) else f"{score.stderr:.4f}"
    value = f"{score.value:.4f} ± {error}"
    yield [display_name(score.metric), value, chance, str(score.n), missing, result.better]
    for kind, accuracy in score.by_type.items():
        yield [f"  {kind}", f"{accuracy:.4f}", "", "", "", ""]
    for steps, at in result.more.get("by_noise", {}).items():
        error = "unknown" if at["stderr"] is None else f"{at['stderr']:.4f}"
        yield [f"  time steps {steps}", f"{at['value']:.4f} ± {error}", "", "", "", ""]
