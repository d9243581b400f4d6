"""``nas-t2i results``: rankings and curves of what was measured. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nas_t2i.cli.output.console import Console
from nas_t2i.errors import RecordError, UserError
from nas_t2i.files import write_atomically
from nas_t2i.results.exports import FORMATS, Format, export, render_leaderboard, to_markdown
from nas_t2i.results.leaderboard import (
    Cost,
    LeaderboardRow,
    pareto_rows,
    rank_trials,
    sort_rows,
)
from nas_t2i.store import Study, find_studies, find_study, read_contents, without_collection

results_app = typer.Typer(
    name="results",
    help="Rank, export and draw what studies have measured.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# A table on its way to a file or another program has no screen to fit.
_PIPED_WIDTH = 160

StudiesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="STUDY", help="Names or folders of studies."),
]
ResultsDirOption = Annotated[
    Path, typer.Option("--results-dir", help="The folder that holds the studies.")
]


@dataclass(frozen=True)
class _Table:
    """One ranking: the studies in it and its rows as they are to be shown."""

    studies: Sequence[Study]
    rows: Sequence[LeaderboardRow]


@results_app.command()
@without_collection()
def leaderboard(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = Path("results"),
    sort: Annotated[
        str,
        typer.Option(
            help="Any numeric column: score largest first, others smallest; -COLUMN turns."
        ),
    ] = "rank",
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Only the Pareto front of score against --cost.")
    ] = False,
    cost: Annotated[Cost, typer.Option(help="The cost of --pareto.")] = "gmacs",
    export_as: Annotated[
        Format | None,
        typer.Option("--export", help="Print the rows in this format instead of a table."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (.csv .json .md).")
    ] = None,
) -> None:
    """Rank the architectures of one study, or of several under the same budget.

    Named studies stand in one ranking and must share their budget. Without names every study under
    the results folder gets a table of its own, the newest last.
    """
    kind = _export_kind(export_as, output)
    sort_rows([], sort)  # a wrong column is refused before anything is printed
    folders = study_folders(studies, results_dir)
    problems: list[str] = []
    tables = []
    for group in [folders] if studies else [[folder] for folder in folders]:
        try:
            contents = [read_contents(folder) for folder in group]
            rows = rank_trials(trial for study in contents for trial in study.trials)
        except UserError as error:
            if len(folders) == 1 or studies:
                raise
            # One study that can't be read must not hide the others.
            problems.append(str(error))
            continue
        problems += torn_tails(contents)
        rows = pareto_rows(rows, cost) if pareto else rows
        tables.append(
            _Table(contents, rows if pareto and sort == "rank" else sort_rows(rows, sort))
        )
    if kind is None:
        _print_tables(tables)
    else:
        text = _export_tables(tables, kind)
        if output is None:
            sys.stdout.write(text)
        else:
            write_atomically(output, text)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RecordError(problems[0] + more)


@results_app.command()
def curves(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = Path("results"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The image to write (.png .svg .pdf).")
    ] = Path("curves.png"),
    metric: Annotated[
        str,
        typer.Option(help="Another metric, or a signal; default: the one ranked by."),
    ] = "",
) -> None:
    """Draw scores against steps and training compute (needs the extra `plots`).

    Without names the newest study is drawn; several must share their budget.
    """
    from nas_t2i.results.plots import plot_curves

    folders = study_folders(studies, results_dir)
    contents = [read_contents(folder) for folder in (folders if studies else folders[-1:])]
    names = ", ".join(study.record.study for study in contents)
    trials = [trial for study in contents for trial in study.trials]
    plot_curves(trials, output, title=f"Study {names}", metric=metric)
    if problems := torn_tails(contents):
        raise RecordError(problems[0])


def study_folders(studies: Sequence[str] | None, results_dir: Path) -> list[Path]:
    """Return the folders of the named studies, or of all. Raises RecordError: there is none."""
    if studies:
        return list(dict.fromkeys(find_study(name, results_dir) for name in studies))
    folders = find_studies(results_dir)
    if not folders:
        raise RecordError(f"no studies under {results_dir}/; `nas-t2i search` makes one")
    return folders


def _export_kind(export_as: Format | None, output: Path | None) -> Format | None:
    if export_as or output is None:
        return export_as
    for kind in FORMATS:
        if output.suffix == f".{kind}":
            return kind
    raise UserError(
        f"-o {output}: the ending names no format; expected one of {', '.join(FORMATS)}, "
        "or --export"
    )


def torn_tails(studies: Sequence[Study]) -> list[str]:
    """Say what interrupted writes left; in a study under way a line may just be on its way."""
    return [
        f"{tail} (an interrupted write); all before it is shown, searching on with --study "
        f"{study.folder.name} mends it"
        for study in studies
        if not study.running
        for tail in study.torn
    ]


def _print_tables(tables: Sequence[_Table]) -> None:
    console = Console(
        highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH, soft_wrap=False
    )
    for index, table in enumerate(tables):
        if index:
            console.print()
        render_leaderboard(table.rows, console, title=_title(table), study=table.studies[-1].record)


def _title(table: _Table) -> str:
    names = [
        study.record.study + (" (being searched now)" if study.running else "")
        for study in table.studies
    ]
    return ("Study " if len(names) == 1 else "Studies ") + ", ".join(names)


def _export_tables(tables: Sequence[_Table], kind: Format) -> str:
    """Return one list of rows (each names its study, budget, metric), or a Markdown table each."""
    if kind == "md":
        return "\n".join(
            to_markdown(table.rows, title=_title(table), study=table.studies[-1].record)
            for table in tables
        )
    return export([row for table in tables for row in table.rows], kind)
