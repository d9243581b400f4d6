"""A ranking on the screen and in files: a table of the terminal, JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from nas_t2i.files import write_atomically
from nas_t2i.records import StudyRecord, TrialState
from nas_t2i.results.beyond import mark_beyond
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.notes import (
    flops_unit,
    headings,
    measured_alike,
    metric_of,
    notes_of,
    ranked_by,
)
from nas_t2i.results.tables.tabular import (
    additional_metrics,
    parameter,
    parameters,
    to_csv,
    to_json,
)
from nas_t2i.store import Study, read_contents, without_collection
from nas_t2i.untrusted.show import markdown, one_line

Format = Literal["csv", "json", "md"]
FORMATS: tuple[Format, ...] = ("csv", "json", "md")

# Widths of the column of names, in characters: at most, before columns are dropped, at least.
_NAME_WIDTH, _NAME_WIDTH_TIGHT, _NAME_WIDTH_LEAST = 40, 24, 12


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[LeaderboardRow], str]
    right: bool = True
    # On a narrow screen the columns with the highest number go first; 0 stays.
    drop: int = 0


def render_leaderboard(
    rows: Sequence[LeaderboardRow],
    console: Console,
    *,
    title: str = "",
    study: StudyRecord | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print a ranking as a table, what it means below it, and why trials broke.

    `study` adds what was trained, the budget and the rule of early stopping, `notes` stand first.
    On a console that is too narrow the least important columns are left out.
    """
    # Piped, a line stays one line: whoever reads it there wraps it or greps it.
    one_line = not console.is_terminal
    for line in headings(rows, title):
        console.print(Text(showable(line, console), style="bold"), soft_wrap=one_line)
    console.print(Text("\n").join(_table(rows, console)), no_wrap=True, crop=False)
    for line in [*notes, *notes_of(rows, study)]:
        console.print(Text(showable(line, console), style="dim"), soft_wrap=one_line)


@without_collection()
def write_leaderboard(folder: str | Path) -> list[LeaderboardRow]:
    """Rank a study's trials and write leaderboard.json, .csv and .md into its folder, each whole.

    Cheap enough to be called after every trial. Returns the rows.

    Raises:
        RecordError: the study can't be read.
        StorageError: a file can't be written.
    """
    study = read_contents(folder)
    rows = mark_beyond(rank_trials(study.trials), [study])
    for kind in FORMATS:
        write_atomically(study.folder / f"leaderboard.{kind}", export(rows, kind, studies=[study]))
    return rows


def export(rows: Sequence[LeaderboardRow], kind: Format, *, studies: Sequence[Study] = ()) -> str:
    """Return rows as the text of a file: a JSON list, CSV with a header line, or Markdown.

    `studies` adds the notes below a Markdown table: of one study, or none of several.
    """
    if kind == "json":
        return to_json(rows)
    if kind == "csv":
        return to_csv(rows)
    return to_markdown(rows, study=studies[0].record if len(studies) == 1 else None)


def to_markdown(
    rows: Sequence[LeaderboardRow],
    *,
    title: str = "",
    study: StudyRecord | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the table of the screen in Markdown, with the parameters, and its notes."""
    columns = [*_columns(rows), *map(_parameter_column, parameters(rows))]
    cells = [[markdown(column.cell(row)) for column in columns] for row in rows]
    lines = [f"**{markdown(line)}**\n" for line in headings(rows, title)]
    lines.append("| " + " | ".join(markdown(column.title) for column in columns) + " |")
    lines.append("|" + "|".join("---:" if column.right else ":---" for column in columns) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    lines += [f"\n{markdown(line)}" for line in [*notes, *notes_of(rows, study)]]
    return "\n".join(lines) + "\n"


def showable(text: str, console: Console) -> str:
    """Return text on one line as the console can show it: some can only do ASCII."""
    return _shown(text, console.options.ascii_only)


def _shown(text: str, only_ascii: bool) -> str:
    text = one_line(text)
    if not only_ascii:
        return text
    return text.replace("±", "+/-").replace("²", "^2").encode("ascii", "replace").decode()


# --- the table -------------------------------------------------------------------------------


def _table(rows: Sequence[LeaderboardRow], console: Console) -> list[Text]:
    """Lay the table out for the console's width, a text a line.

    Where it is short of space, first the gaps shrink, then the names, then columns go. (A table of
    rich's looks the same, and takes ten times as long over thousands of rows.)
    """
    columns = _columns(rows)
    only_ascii = console.options.ascii_only
    cells = {
        column.title: [_shown(column.title, only_ascii)]
        + [_shown(column.cell(row), only_ascii) for row in rows]
        for column in columns
    }
    widths = {title: max(map(cell_len, texts)) for title, texts in cells.items()}
    widths["name"] = min(widths["name"], _NAME_WIDTH)
    gap = 2
    while (over := _table_width(columns, widths, gap) - console.width) > 0:
        droppable = [column for column in columns if column.drop]
        if gap > 1:
            gap = 1
        elif widths["name"] - over >= _NAME_WIDTH_TIGHT or not droppable:
            widths["name"] = max(_NAME_WIDTH_LEAST, widths["name"] - over)
            break
        else:
            columns.remove(max(droppable, key=lambda column: column.drop))

    padded = [_padded(cells[c.title], widths[c.title], right=c.right) for c in columns]
    head, *body = [(" " * gap).join(row).rstrip() for row in zip(*padded, strict=True)]
    rule = ("-" if only_ascii else "\N{BOX DRAWINGS LIGHT HORIZONTAL}") * _table_width(
        columns, widths, gap
    )
    return [
        Text(head, style="bold"),
        Text(rule),
        *(Text(line, style=_style(row)) for line, row in zip(body, rows, strict=True)),
    ]


def _padded(texts: Sequence[str], width: int, *, right: bool) -> list[str]:
    """Bring texts to a width in cells of a terminal; of those that are longer the end is cut."""
    padded = []
    for text in texts:
        size = cell_len(text)
        if size > width:
            text, size = set_cell_size(text, width - 2) + "..", width
        space = " " * (width - size)
        padded.append(space + text if right else text + space)
    return padded


def _table_width(columns: Sequence[_Column], widths: Mapping[str, int], gap: int) -> int:
    return sum(widths[column.title] for column in columns) + gap * (len(columns) - 1)


def _columns(rows: Sequence[LeaderboardRow]) -> list[_Column]:
    unit, scale = flops_unit(rows)
    front = next((row.front for row in rows if row.front), None)
    costs = front.costs if front else {}  # their columns stay
    metrics = [name for name in front.scores if name != ranked_by(rows)] if front else []
    alike = [metric for metric in additional_metrics(rows) if measured_alike(rows, metric)]
    return [
        _Column("#", lambda row: str(row.rank)),
        _Column("name", lambda row: row.name, right=False),
        _Column(f"{metric_of(rows)} ± SE", _score),
        *map(_additional_column, alike),
        _Column("expected (95 %)", _expected, drop=1),
        _Column("P(best)", lambda row: _share(row.probability_best), drop=3),
        *map(_front_column, metrics),
        *([_Column("P(front)", _on_front)] if front else []),
        _Column("ranks", _ranks, drop=3),
        _Column("params", lambda row: _count(row.params), drop=3 * ("params" not in costs)),
        _Column("GMACs", _gmacs, drop=2 * ("gmacs" not in costs)),
        *(
            [_Column("ms/pass", _latency, drop="latency" not in costs)]
            if any(row.latency_s for row in rows)
            else []
        ),
        _Column("attn", lambda row: f"{row.attention_share:.0%}", drop=7),
        _Column(
            unit,
            lambda row: "" if row.training_flops is None else f"{row.training_flops / scale:,.2f}",
            drop=6,
        ),
        _Column("s", lambda row: "" if row.seconds is None else f"{row.seconds:,.0f}", drop=8),
        _Column("step", lambda row: str(row.step or row.steps_done), drop=5),
        _Column("state", lambda row: str(row.state) + "*" * bool(row.reused), right=False),
    ]


def _parameter_column(name: str) -> _Column:
    return _Column(name, lambda row: str(parameter(row.arch[name])) if name in row.arch else "")


def _expected(row: LeaderboardRow) -> str:
    """Write what is ranked by, with "~" where no seed was measured at the last rung."""
    if row.expected_score is None or row.expected_low is None or row.expected_high is None:
        return "-"
    about = "~" if row.predicted else ""
    return about + _with_interval(row.expected_score, row.expected_low, row.expected_high)


def _with_interval(value: float, low: float, high: float) -> str:
    digits = 3 if abs(value) < 10 else 2
    return f"{value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _front_column(metric: str) -> _Column:
    """Return what is expected by a metric of the front that is not ranked by."""

    def cell(row: LeaderboardRow) -> str:
        if row.front is None:
            return ""
        score = row.front.scores[metric]
        return _with_interval(score.expected, score.low, score.high)

    return _Column(f"expected {display_name(metric)}", cell)


def _on_front(row: LeaderboardRow) -> str:
    return _share(row.front.probability if row.front else None)


def _latency(row: LeaderboardRow) -> str:
    ms = 1e3 * (row.latency_s or 0)
    return "" if not ms else f"{ms:,.3g}" if ms < 1000 else f"{ms:,.0f}"


def _share(probability: float | None) -> str:
    if probability is None:
        return ""
    return "<1%" if probability < 0.01 else f"{probability:.0%}"


def _ranks(row: LeaderboardRow) -> str:
    if row.rank_low is None:
        return ""
    return str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}-{row.rank_high}"


def _score(row: LeaderboardRow) -> str:
    return "-" if row.score is None else _with_error(row.score, row.score_stderr)


def _with_error(value: float, stderr: float | None) -> str:
    digits = 3 if abs(value) < 10 else 2
    return f"{value:.{digits}f}" + ("" if stderr is None else f" ± {stderr:.{digits}f}")


def _additional_column(metric: str) -> _Column:
    def cell(row: LeaderboardRow) -> str:
        found = row.additional.get(metric)
        if found is None:
            return ""
        return "not finite" if found.value is None else _with_error(found.value, found.stderr)

    return _Column(f"{display_name(metric)} ± SE", cell, drop=4)


def _gmacs(row: LeaderboardRow) -> str:
    return f"{row.gmacs:,.1f}" if row.gmacs < 100 else f"{row.gmacs:,.0f}"


def _count(number: int) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.2f} B"
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.2f} M"


def _style(row: LeaderboardRow) -> str:
    if row.state in (TrialState.DIVERGED, TrialState.FAILED):
        return "red"
    if row.control:
        return "dim"
    return "bold green" if row.rank == 1 else ""
