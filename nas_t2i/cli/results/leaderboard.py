"""``nas-t2i results leaderboard``: rankings of what was measured. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nas_t2i.cli.output.console import Console
from nas_t2i.errors import RecordError, UserError
from nas_t2i.files import write_atomically
from nas_t2i.results.beyond import mark_beyond
from nas_t2i.results.fronts.course import course
from nas_t2i.results.fronts.front import read_costs, read_limits, read_reference, with_front
from nas_t2i.results.fronts.latencies import Latencies, read_latencies
from nas_t2i.results.fronts.objectives import objectives_of, ranked_against, sought_alike
from nas_t2i.results.fronts.wording import course_note, front_notes, sought_note
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials, sort_rows
from nas_t2i.results.tables.exports import FORMATS, Format, export, render_leaderboard, to_markdown
from nas_t2i.store import Study, find_studies, find_study, read_contents, without_collection

results_app = typer.Typer(
    name="results",
    help="Rank, export and draw what studies have measured.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# A table on its way to a file or another program has no screen to fit.
_PIPED_WIDTH = 160
# Shares of the training after which --pareto says what the hypervolume was believed to be.
_ON_THE_WAY = (0.25, 0.5, 0.75)

StudiesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="STUDY", help="Names or folders of studies."),
]
ResultsDirOption = Annotated[
    str,
    typer.Option(
        "--results-dir",
        metavar="FOLDER|URL",
        help="What holds the studies: a folder, or a URL such as s3://bucket/path.",
    ),
]


@dataclass(frozen=True)
class _Table:
    """One ranking: the studies in it and its rows as they are to be shown."""

    studies: Sequence[Study]
    rows: Sequence[LeaderboardRow]
    notes: Sequence[str] = ()
    """Of its front."""


@dataclass(frozen=True)
class _Asked:
    """What was asked about the front."""

    only_front: bool
    costs: Sequence[str]
    """Of the ranked metric's front; () for what the studies sought, or GMACs."""
    objectives: Sequence[str]
    """Instead of them."""
    limits: Mapping[str, float]
    reference: Sequence[float] | None
    latencies: Latencies | None


@results_app.command()
@without_collection()
def leaderboard(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = "results",
    sort: Annotated[
        str,
        typer.Option(
            help="Any numeric column: score largest first, others smallest; -COLUMN turns."
        ),
    ] = "rank",
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="Only who is on the front with 5 % or more: of the objectives that the study "
            "sought; else of the expected score against GMACs.",
        ),
    ] = False,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COST",
            help="The front of the expected score against gmacs, params, compute (also called "
            "training_flops) or latency; may be repeated.",
            show_default=False,
        ),
    ] = None,
    objectives: Annotated[
        str,
        typer.Option(
            metavar="[-]NAME,...",
            help="The front of these: metrics and signals on record, and costs, as `nas-t2i search "
            "--objectives` takes them.",
            show_default=False,
        ),
    ] = "",
    under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COST=NUMBER",
            help="Only architectures that cost at most so much, and the best of them; params in "
            "ones, compute in FLOPs, latency in seconds; may be repeated.",
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            metavar="SCORE,COST",
            help="The reference point of the hypervolume, a number for each objective. [default: "
            "chance or the worst, the largest cost]",
            show_default=False,
        ),
    ] = "",
    latencies: Annotated[
        Path | None,
        typer.Option(
            help="What `nas-t2i profile --latency --format json` printed, a file; instead of what "
            "the study measured."
        ),
    ] = None,
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

    \b
    Examples:
      nas-t2i results leaderboard sdxl-embedded
      nas-t2i results leaderboard sdxl-embedded --pareto --cost params
      nas-t2i results leaderboard sdxl-embedded --pareto --cost gmacs --cost params
      nas-t2i results leaderboard sdxl-embedded --pareto --objectives tifa,-heldout_loss,-gmacs
      nas-t2i results leaderboard sdxl-embedded --pareto --under gmacs=100
      nas-t2i results leaderboard sdxl-embedded --under params=1e9 --under gmacs=100
      nas-t2i results leaderboard fast --pareto --cost latency --under latency=0.05
      nas-t2i results leaderboard sdxl-embedded --pareto --cost latency --latencies a100.json
    """
    asked = _asked(pareto, (cost or [], objectives), under or [], reference, latencies)
    kind = _export_kind(export_as, output)
    sort_rows([], sort)  # a wrong column is refused before anything is printed
    folders = study_folders(studies, results_dir)
    problems: list[str] = []
    tables = []
    for group in [folders] if studies else [[folder] for folder in folders]:
        try:
            contents = [read_contents(folder) for folder in group]
            table = _table(contents, sort, asked)
        except UserError as error:
            if len(folders) == 1 or studies:
                raise
            # One study that can't be read must not hide the others.
            problems.append(str(error))
            continue
        problems += torn_tails(contents)
        tables.append(table)
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


@results_app.command(
    hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
def curves() -> None:
    """Name the command that took its place."""
    raise UserError(
        "results curves: got a command that is gone; expected `nas-t2i results plot curves`, or "
        "`results plot METRIC`"
    )


def study_folders(
    studies: Sequence[str] | None, results_dir: str, *, images: bool = False
) -> list[Path]:
    """Return the folders of the named studies, or of all; of those at a URL copies.

    Raises:
        RecordError: there is none.
    """
    if studies:
        return list(dict.fromkeys(find_study(name, results_dir, images=images) for name in studies))
    folders = find_studies(results_dir, images=images)
    if not folders:
        raise RecordError(
            f"no studies under {results_dir.rstrip('/')}/; `nas-t2i search` makes one"
        )
    return folders


def _asked(
    pareto: bool,
    of: tuple[Sequence[str], str],
    under: Sequence[str],
    reference: str,
    latencies: Path | None,
) -> _Asked | None:
    """Return what was asked about a front of costs, or objectives; None for nothing.

    Raises UserError.
    """
    costs, objectives = of
    if not (pareto or under):
        if reference or latencies is not None or costs or objectives:
            raise UserError(
                "--cost, --objectives, --reference, --latencies: expected them with --pareto or "
                "--under"
            )
        return None
    if costs and objectives:
        raise UserError(
            f"--cost {costs[0]} --objectives {objectives}: got both; expected one of them: --cost "
            "is for the ranked metric's front"
        )
    return _Asked(
        pareto,
        read_costs(costs),
        objectives.split(",") if objectives else (),
        read_limits(under),
        read_reference(reference) if reference else None,
        None if latencies is None else read_latencies(latencies),
    )


def _table(studies: Sequence[Study], sort: str, asked: _Asked | None) -> _Table:
    """Rank studies; with a front its probable members, or all that is within the limits."""
    trials = [trial for study in studies for trial in study.trials]
    rows = mark_beyond(rank_trials(trials), studies)
    if asked is None:
        note = sought_note(sought_alike(studies), rows[0].metric if rows else "", None)
        return _Table(studies, sort_rows(rows, sort), [note] if note else [])
    sought = sought_alike(studies)
    if asked.objectives:
        objectives = objectives_of(asked.objectives, trials)
    elif sought and not asked.costs and any(row.metric for row in rows):
        objectives = objectives_of(sought, trials)
    else:
        objectives = ranked_against(asked.costs or ["gmacs"], trials)
    front = with_front(
        rows,
        trials,
        objectives,
        limits=asked.limits,
        reference=asked.reference,
        latencies=asked.latencies,
    )
    notes = front_notes(front)
    if notes and (note := sought_note(sought, rows[0].metric, front)):
        notes.append(note)
    if asked.only_front:
        known = course(front, studies, _ON_THE_WAY, latencies=asked.latencies)
        notes += [note] if (note := course_note(front, known)) else []
    if not asked.only_front:
        within = [row for row in front.rows if row.front is not None]
        return _Table(studies, sort_rows(within, sort), notes)
    shown = front.shown
    return _Table(studies, shown if sort == "rank" else sort_rows(shown, sort), notes)


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
        render_leaderboard(
            table.rows,
            console,
            title=_title(table),
            study=table.studies[-1].record,
            notes=table.notes,
        )


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
            to_markdown(
                table.rows,
                title=_title(table),
                study=table.studies[-1].record,
                notes=table.notes,
            )
            for table in tables
        )
    return export([row for table in tables for row in table.rows], kind)
