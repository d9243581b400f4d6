"""A study under way, seen from another terminal: who runs, who leads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import compact
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.figures.ranked import RankedStudies, read_ranked
from nas_t2i.results.figures.wording import interval, percent, score
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable

_SHOWN = 10  # leading rows
_SHARE = 20  # reading and ranking take a 20th of the time at most


def watch(
    look: Callable[[], Path],
    console: Console,
    every: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a study until it is searched no longer: on a terminal anew, elsewhere a line a change.

    `look` returns its folder, as it is now.

    Raises:
        RecordError: the study can't be read.
    """
    found, took = _read(look)
    if not console.is_terminal:
        _print_changes(look, found, took, console, every, sleep)
        return
    with Live(image(found, console), console=console, auto_refresh=False) as live:
        while _is_running(found):
            sleep(max(every, _SHARE * took))
            found, took = _read(look)
            live.update(image(found, console), refresh=True)


def _print_changes(
    look: Callable[[], Path],
    found: RankedStudies,
    took: float,
    console: Console,
    every: float,
    sleep: Callable[[float], None],
) -> None:
    said = ""
    while True:
        line = showable(status(found), console)
        if line != said:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
            said = line
        if not _is_running(found):
            return
        sleep(max(every, _SHARE * took))
        found, took = _read(look)


def _read(look: Callable[[], Path]) -> tuple[RankedStudies, float]:
    begin = time.monotonic()
    return read_ranked([look()]), time.monotonic() - begin


def _is_running(found: RankedStudies) -> bool:
    return any(study.running for study in found.studies)


def status(found: RankedStudies) -> str:
    """Return one line: how many trials stand how, and who leads."""
    states = Counter(trial.state for trial in found.trials)
    told = ", ".join(f"{states[state]} {state.value}" for state in TrialState if states[state])
    line = f"study {found.title}: {told or 'no trial yet'}"
    if not _is_running(found):
        line += "; it is not being searched"
    if found.sound:
        best = found.sound[0]
        line += (
            f"; {best.name} leads, expected {display_name(found.metric)} "
            f"{score(best.expected_score)} ({interval(best.expected_low, best.expected_high)}), "
            f"the best with {percent(best.probability_best)}"
        )
    return line


def image(found: RankedStudies, console: Console) -> RenderableType:
    """Return the status, the trials under way, and the leading rows."""
    parts: list[RenderableType] = [Text(showable(status(found), console), style="bold")]
    running = [trial for trial in found.trials if trial.state is TrialState.RUNNING]
    if running:
        parts += [Text(), _trials(running, found, console)]
    if found.rows:
        parts += [Text(), _leaders(found, console)]
    return Group(*parts)


def _trials(running: Sequence[TrialRecord], found: RankedStudies, console: Console) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("under way", "seed", "step", "last measured"):
        table.add_column(title, justify="right" if title in ("seed", "step") else "left")
    last = found.studies[0].record.rungs[-1]
    for trial in running:
        points = [p.scores[found.metric] for p in trial.curve if found.metric in p.scores]
        measured = f"{points[-1].value:.3f} ± {points[-1].stderr:.3f}" if points else ""
        cells = (trial.name, str(trial.seed), f"{trial.steps_done}/{last}", measured)
        table.add_row(*(Text(showable(cell, console)) for cell in cells))
    return table


def _leaders(found: RankedStudies, console: Console) -> Table:
    table = Table(box=None, pad_edge=False)
    titles = ("#", "name", f"{display_name(found.metric)}", "expected (95 %)", "P(best)", "params")
    for title in titles:
        table.add_column(showable(title, console), justify="left" if title == "name" else "right")
    for row in found.rows[:_SHOWN]:
        predicted = "~" if row.predicted else ""
        expected = (
            "-"
            if row.expected_score is None
            else f"{predicted}{score(row.expected_score)} "
            f"({interval(row.expected_low, row.expected_high)})"
        )
        cells = (
            str(row.rank),
            row.name,
            score(row.score),
            expected,
            percent(row.probability_best),
            compact(row.params),
        )
        table.add_row(*(Text(showable(cell, console)) for cell in cells))
    return table
