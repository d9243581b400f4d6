"""A ranking on the screen and in files: a table of the terminal, JSON, CSV, Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from nas_t2i.errors import named, number_of
from nas_t2i.files import write_atomically
from nas_t2i.records import StudyRecord, TrialState
from nas_t2i.results.beyond import mark_beyond
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tabular import additional_metrics, parameter, parameters, to_csv, to_json
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
    On a console that is
    too narrow the least important columns are left out.
    """
    # Piped, a line stays one line: whoever reads it there wraps it or greps it.
    one_line = not console.is_terminal
    for line in _headings(rows, title):
        console.print(Text(showable(line, console), style="bold"), soft_wrap=one_line)
    console.print(Text("\n").join(_table(rows, console)), no_wrap=True, crop=False)
    for line in [*notes, *_notes(rows, study)]:
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
    lines = [f"**{markdown(line)}**\n" for line in _headings(rows, title)]
    lines.append("| " + " | ".join(markdown(column.title) for column in columns) + " |")
    lines.append("|" + "|".join("---:" if column.right else ":---" for column in columns) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    lines += [f"\n{markdown(line)}" for line in [*notes, *_notes(rows, study)]]
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
    unit, scale = _flops_unit(rows)
    front = next((row.front for row in rows if row.front), None)
    costs = front.costs if front else {}  # their columns stay
    metrics = [name for name in front.scores if name != _ranked_by(rows)] if front else []
    alike = [metric for metric in additional_metrics(rows) if _alike(rows, metric)]
    return [
        _Column("#", lambda row: str(row.rank)),
        _Column("name", lambda row: row.name, right=False),
        _Column(f"{_metric(rows)} ± SE", _score),
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


def _metric(rows: Sequence[LeaderboardRow]) -> str:
    return display_name(_ranked_by(rows))


def _ranked_by(rows: Sequence[LeaderboardRow]) -> str:
    return rows[0].metric if rows else ""


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


def _alike(rows: Sequence[LeaderboardRow], metric: str) -> bool:
    """Whether an additional metric was measured alike in every row that has it."""
    signatures = {row.additional[metric].signature for row in rows if metric in row.additional}
    return len(signatures) == 1 and "" not in signatures


def _gmacs(row: LeaderboardRow) -> str:
    return f"{row.gmacs:,.1f}" if row.gmacs < 100 else f"{row.gmacs:,.0f}"


def _count(number: int) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.2f} B"
    return f"{number / 1e6:.0f} M" if number >= 1e7 else f"{number / 1e6:.2f} M"


def _flops_unit(rows: Sequence[LeaderboardRow]) -> tuple[str, float]:
    largest = max((row.training_flops or 0.0 for row in rows), default=0.0)
    for unit, scale in (("EFLOPs", 1e18), ("PFLOPs", 1e15)):
        if largest >= scale:
            return unit, scale
    return "TFLOPs", 1e12


def _style(row: LeaderboardRow) -> str:
    if row.state in (TrialState.DIVERGED, TrialState.FAILED):
        return "red"
    if row.control:
        return "dim"
    return "bold green" if row.rank == 1 else ""


# --- the words around it ---------------------------------------------------------------------


def _headings(rows: Sequence[LeaderboardRow], title: str) -> list[str]:
    """Return the title with the chance level beside it: where there is one, scores need it."""
    names = ", ".join(dict.fromkeys(row.study for row in rows))
    chances = sorted({row.chance for row in rows if row.chance is not None})
    text = title or (f"Study {names}" if names else "No trials yet")
    if chances:
        levels = ", ".join(f"{chance:.3f}" for chance in chances)
        text += f" (chance level of {_metric(rows)}: {levels})"
    return [text]


def _notes(rows: Sequence[LeaderboardRow], study: StudyRecord | None) -> list[str]:
    """Return what a reader must know to read the table right, one note a line."""
    if not rows:
        return []
    unit, _ = _flops_unit(rows)
    proxied = any(row.trained_params != row.params for row in rows)
    trained = "smaller proxy that was trained" if proxied else "same architecture"
    note = study.note if study else ""
    notes = [
        note
        or f"params, GMACs and attn are of the full architecture, {unit} and s of the {trained}.",
        f"attn: attention's share of the GMACs. {unit}, s: training compute and seconds up to the "
        "step, one seed.",
    ]
    notes.append(
        f"expected: {_metric(rows)} at the last rung, over seeds, with its 95 % interval; ranked "
        f"by it; ~ predicted from earlier rungs, none measured there. {_seed_noise_text(rows)}"
    )
    notes.append(
        "P(best), ranks: probability of being the best, and the interval that holds a row's true "
        "rank with 95 %, each row for itself: not all at once. --export has the pairs that tie."
    )
    notes += _additional_notes(rows)
    budgets = ", ".join(dict.fromkeys(row.budget_id for row in rows))
    stopping = f"; early stopping: {study.stop_rule}" if study and study.stop_rule else ""
    notes.append(f"budget {budgets}; {_seeds_text(rows)}{stopping}")
    if reused := [row for row in rows if row.reused]:
        origins = named(study for row in reused for study in row.reused.values())
        trials = number_of(sum(len(row.reused) for row in reused), "trial")
        notes.append(
            f"* reused: {trials} trained in {origins}, not here; compute and s are theirs."
        )
    notes += [
        f"#{r.rank} {r.name}: beyond the soft {' and '.join(r.beyond)} limit"
        for r in rows
        if r.beyond
    ]
    notes += [f"#{row.rank} {row.name}: {_shortened(row.reason)}" for row in rows if _is_shown(row)]
    return notes


def _additional_notes(rows: Sequence[LeaderboardRow]) -> list[str]:
    metrics = additional_metrics(rows)
    shown = [display_name(metric) for metric in metrics if _alike(rows, metric)]
    notes = []
    if shown:
        notes.append(
            f"not ranked by: {', '.join(shown)}; measured at each row's step, in columns where "
            "there is room and in every export."
        )
    if counts := {row.additional["fid"].n for row in rows if "fid" in row.additional}:
        notes.append(
            "FID: smaller is better; the fewer the images, the more it is too high (here "
            f"{min(counts):,})."
        )
    for metric in metrics:
        if not _alike(rows, metric):
            notes.append(
                f"{display_name(metric)} is not shown: not measured alike in all rows (another "
                "model, reference or prompts); --export json has the values with their signatures."
            )
    return notes


def _is_shown(row: LeaderboardRow) -> bool:
    """Whether the reason of a row belongs under the table: that a trial was stopped is in it."""
    return bool(row.reason) and (row.state is not TrialState.STOPPED or "left out" in row.reason)


def _seed_noise_text(rows: Sequence[LeaderboardRow]) -> str:
    """Say what the seed noise in the intervals is known from."""
    repeats = sum(len(row.score_by_seed) - 1 for row in rows if row.score_by_seed)
    source = f"{repeats} repeats and a prior" if repeats else "a prior alone: nothing was repeated"
    early = any("heldout_loss" in row.additional for row in rows)
    weighed = "; few seeds are weighed against the early held-out loss" if early else ""
    return f"Seed noise is in it, from {source}{weighed}."


def _seeds_text(rows: Sequence[LeaderboardRow]) -> str:
    """Name the seeds, or how many a row has where the rows differ."""
    seeds = {tuple(row.seeds) for row in rows}
    if len(seeds) == 1:
        (only,) = seeds
        return f"seed{'s' * (len(only) > 1)} {', '.join(map(str, only))}"
    counts = sorted({len(some) for some in seeds})
    return f"{counts[0]} to {counts[-1]} seeds a row" if len(counts) > 1 else "seeds differ by row"


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
