"""``nas-t2i results report``, ``plot`` and ``watch``: a page, its figures, and the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_t2i.cli.results.leaderboard import (
    ResultsDirOption,
    StudiesArgument,
    study_folders,
    torn_tails,
)
from nas_t2i.errors import RecordError, UserError, did_you_mean
from nas_t2i.store import without_collection


@without_collection()
def report_command(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = "results",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write (.html).")
    ] = Path("report.html"),
) -> None:
    """Write one page: the answer, the leaderboard, figures, images, provenance.

    It needs no network and nothing beside it. Without names it is of the newest study; several
    stand in one ranking and must share their budget. A search writes its own at its end.

    \b
    Examples:
      nas-t2i results report sdxl-embedded
      nas-t2i results report sdxl-1 sdxl-2 -o both.html
    """
    from nas_t2i.files import write_atomically
    from nas_t2i.results.figures.ranked import read_ranked
    from nas_t2i.results.report.page import report

    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {output}: got the ending {output.suffix!r}; expected .html")
    found = read_ranked(chosen_folders(studies, results_dir))
    page = report(found)
    write_atomically(output, page)
    print(f"{output}: {len(page.encode()) / 1e6:.1f} MB, {len(found.rows)} rows")
    if problems := torn_tails(found.studies):
        raise RecordError(problems[0])


@without_collection()
def plot_command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="gmacs, params, compute, latency, hypervolume, curves, ranks, types, importance, "
            "effects, or the curves of a metric or signal by its name (heldout_loss).",
        ),
    ],
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = "results",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The image to write (.png .svg .pdf).")
    ] = Path("figure.png"),
    by_compute: Annotated[
        bool,
        typer.Option(
            "--by-compute", help="Curves and hypervolume against training compute (FLOPs)."
        ),
    ] = False,
) -> None:
    """Draw a figure of the report into a file (needs the extra `plots`).

    Without names it is of the newest study; several must share their budget.

    \b
    Examples:
      nas-t2i results plot gmacs sdxl-embedded -o gmacs.pdf
      nas-t2i results plot hypervolume sdxl-embedded -o hypervolume.png
      nas-t2i results plot curves sdxl-embedded -o curves.png
      nas-t2i results plot heldout_loss sdxl-embedded --by-compute -o loss.svg
    """
    from nas_t2i.results.figures.curves import curve
    from nas_t2i.results.figures.drawing import check_file, draw
    from nas_t2i.results.figures.every import KINDS
    from nas_t2i.results.figures.ranked import read_ranked

    check_file(output)
    found = read_ranked(chosen_folders(studies, results_dir))
    known = [*KINDS, *found.quantities]
    if kind not in known:
        hint = did_you_mean(kind, known)
        text = f"KIND: got {kind!r}; expected one of {', '.join(known)}"
        raise UserError(f"{text}; {hint}" if hint else text)
    chart = KINDS[kind](found) if kind in KINDS else curve(found, kind)
    if chart is None:
        raise RecordError(f"{found.title}: not enough on record for the figure {kind!r}")
    draw(chart, output, by_compute=by_compute)
    print(f"{output}: {chart.title}")
    if problems := torn_tails(found.studies):
        raise RecordError(problems[0])


def watch_command(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    results_dir: ResultsDirOption = "results",
    every: Annotated[
        float, typer.Option(min=0.2, help="Seconds between two looks; more where that takes long.")
    ] = 2.0,
) -> None:
    """Watch a study that is being searched, from another terminal, until the search ends.

    It reads the study's folder alone, so it may run anywhere that sees it, and can't disturb the
    search. At a URL it shows what was sent there, up to a minute late.
    """
    from nas_t2i.cli.output.console import Console
    from nas_t2i.cli.output.watching import watch
    from nas_t2i.store import find_study

    watch(lambda: find_study(study, results_dir), Console(highlight=False), every)


def chosen_folders(studies: list[str] | None, results_dir: str) -> list[Path]:
    """Return the folders of the named studies, or of the newest. Raises RecordError: none."""
    folders = study_folders(studies, results_dir, images=True)
    return folders if studies else folders[-1:]
