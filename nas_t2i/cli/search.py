"""``nas-t2i search``: from a space and a budget to a ranked leaderboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.cli.results.track import (
    MlflowOption,
    TensorBoardOption,
    TrackOption,
    WandBOption,
    chosen_trackers,
)
from nas_t2i.errors import UserError
from nas_t2i.mirror.place import is_name, is_url
from nas_t2i.mirror.study import Mirror
from nas_t2i.shipped import find_file

if TYPE_CHECKING:
    from nas_t2i.search.session import SearchRequest


_TRACKING_SECONDS = 600.0  # what is left to be sent at the end may take, before it is left alone
_TRACKING_SECONDS_INTERRUPTED = 10.0


def search_command(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A search-space file, or a shipped space's name.")
    ],
    budget: Annotated[
        str, typer.Option("--budget", "-b", help="A budget file, or a shipped budget's name.")
    ] = "embedded",
    study: Annotated[
        str, typer.Option(help="Name of the study. [default: SPACE-BUDGET]", show_default=False)
    ] = "",
    trials: Annotated[
        int | None, typer.Option(min=1, help="Architectures to try, instead of the budget's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds per architecture, instead of the budget's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed of the study.")] = 0,
    storage: Annotated[
        str,
        typer.Option(
            help="URL of the Optuna storage. [default: a journal in the study's folder]",
            show_default=False,
        ),
    ] = "",
    sampler: Annotated[
        str | None,
        typer.Option(
            help="tpe, random, gp, nsga2, nsga3, qmc, front (knows costs; with --objectives) or "
            "grid (all of it), instead of the budget's."
        ),
    ] = None,
    sampler_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the sampler; may be repeated."),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Seek several things at once, as tifa,-gmacs: also -params, -compute, -latency, "
            "and what the budget measures.",
        ),
    ] = None,
    warm_start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STUDY",
            help="Begin with what a study under the same budget measured: the sampler knows it, "
            "and nobody of it is trained again.",
            show_default=False,
        ),
    ] = "",
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse/--no-reuse",
            help="Use complete records of other studies in the results folder, under the same "
            "budget, instead of training the same again; as the budget says.",
        ),
    ] = True,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials side by side. [default: one a core]")
    ] = None,
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping/--no-early-stopping", help="As the budget says.")
    ] = True,
    runner: Annotated[
        str,
        typer.Option(
            metavar="local|ray[:HOST:PORT]",
            help="What starts trials: this machine, or a Ray cluster (docs/cluster.md), instead "
            "of the budget's.",
        ),
    ] = "",
    controls: Annotated[
        bool, typer.Option("--controls", help="Also train the controls that must stay at chance.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials again that failed earlier.")
    ] = False,
    results_dir: ResultsDirOption = "results",
    tensorboard: TensorBoardOption = False,
    wandb: WandBOption = "",
    mlflow: MlflowOption = "",
    track: TrackOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, count, profile and predict; train nothing.")
    ] = False,
) -> None:
    """Train short runs of the space's architectures under one budget and rank them.

    Runs again with the same words, it continues where it was cut, or says that it is complete.

    \b
    Examples:
      nas-t2i search search_spaces/sdxl.yaml --dry-run
      nas-t2i search search_spaces/sdxl.yaml
      nas-t2i search sdxl --trials 24 --seed 1 --study sdxl-wide
      nas-t2i search sdxl --sampler grid --seeds 2 --no-early-stopping
      nas-t2i search sdxl --objectives tifa,-gmacs --study sdxl-front
      nas-t2i search sdxl --objectives tifa,-latency --study sdxl-fast
      nas-t2i search sdxl --from sdxl-embedded --study sdxl-more
      nas-t2i search sdxl --seed 1 --study sdxl-again --no-reuse
      nas-t2i search comparison --seeds 3 --controls --no-early-stopping
      nas-t2i search sdxl --tensorboard --mlflow sqlite:///mlflow.db
      nas-t2i search sdxl --runner ray
      nas-t2i search sdxl --results-dir s3://bucket/results
      nas-t2i search sdxl --storage postgresql+psycopg://user:password@host/optuna
    """
    from nas_t2i.arch.space import load_space
    from nas_t2i.protocol.budget import load_budget
    from nas_t2i.search.launch import with_plan, with_runner
    from nas_t2i.search.session import SearchRequest

    loaded_space = load_space(find_file(space, "search_spaces"))
    loaded_budget = load_budget(find_file(budget, "budgets"))
    if runner:
        loaded_budget = with_runner(loaded_budget, runner)
    changes: dict[str, Any] = {}
    if trials is not None:
        changes["trials"] = trials
    elif sampler == "grid":
        changes["trials"] = loaded_space.count()
    if seeds is not None:
        changes["seeds_per_architecture"] = seeds
    if parallel is not None:
        changes["parallel"] = parallel
    if sampler is not None:
        changes |= {"sampler": sampler, "sampler_options": {}}
    if sampler_option:
        changes["sampler_options"] = _options(sampler_option)
    if objectives is not None:
        changes["objectives"] = objectives.split(",")
    if not early_stopping:
        changes["early_stopping"] = None
    if not reuse:
        changes["reuse"] = False
    name = _study_name(study or f"{loaded_space.name}-{loaded_budget.name}")
    mirror = None
    if is_url(results_dir):
        by_nodes = loaded_budget.execution.runner != "local"
        mirror = Mirror(results_dir, name, nodes_write=by_nodes)
    request = SearchRequest(
        space=loaded_space,
        budget=with_plan(loaded_budget, changes),
        study=name,
        results_dir=Path(results_dir) if mirror is None else mirror.root,
        storage=storage,
        seed=seed,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        controls=controls,
        retry_failed=retry_failed,
        warm_start=warm_start,
        mirror=mirror,
    )
    chosen = chosen_trackers(request.folder, tensorboard, wandb, mlflow, track)
    if dry_run:
        _dry_run(request)
    else:
        raise typer.Exit(_search(request, [(name, tracker.where) for name, tracker in chosen]))


def _dry_run(request: SearchRequest) -> None:
    from nas_t2i.cli.output.plan import print_plan
    from nas_t2i.search.plan import plan_search

    print_plan(request, plan_search(request), Console())


def _search(request: SearchRequest, trackers: Sequence[tuple[str, str]]) -> int:
    """Run the search, wherever its results are; return the exit status."""
    if request.mirror is None:
        return _search_here(request, trackers)
    try:
        with request.mirror.open():
            status = _search_here(request, trackers)
    finally:
        if request.mirror.unsent:
            print(
                f"nas-t2i: error: {request.place}: could not be sent: {request.mirror.unsent}; "
                "the same command sends what is here",
                file=sys.stderr,
            )
    return status or int(bool(request.mirror.unsent))


def _search_here(request: SearchRequest, trackers: Sequence[tuple[str, str]]) -> int:
    """Run the search with a display, trackers beside it; return the exit status."""
    from nas_t2i.cli.output.progress import Progress
    from nas_t2i.records import TrialState
    from nas_t2i.results.beyond import mark_beyond
    from nas_t2i.results.fronts.front import with_front
    from nas_t2i.results.fronts.objectives import objectives_of
    from nas_t2i.results.fronts.wording import front_notes
    from nas_t2i.results.leaderboard import rank_trials
    from nas_t2i.results.tables.exports import render_leaderboard, write_leaderboard
    from nas_t2i.search.beforehand.factory import CandidateFactory
    from nas_t2i.search.candidates import Candidate
    from nas_t2i.search.driver import Listener
    from nas_t2i.search.leaving import TerminatedError
    from nas_t2i.search.session import run_search
    from nas_t2i.store import read_contents
    from nas_t2i.tracking.beside import Beside

    console, errors = Console(), Console(stderr=True, soft_wrap=True)
    progress: Progress | None = None
    tracking: Beside | None = None

    def listener(candidates: list[Candidate], _factory: CandidateFactory) -> Listener:
        nonlocal progress, tracking
        if trackers:  # not before the study is there
            tracking = Beside(request.folder, trackers, say)
        progress = Progress(request, candidates, console)
        progress.begin()
        return progress

    def say(text: str) -> None:
        # A live table owns the terminal: what is said beside it would tear it.
        shown_on = progress.console if progress is not None and progress.is_live else errors
        shown_on.print(f"nas-t2i: note: {text}", highlight=False, markup=False)

    if request.mirror is not None:
        request.mirror.say = say
    try:
        candidates = run_search(request, listener, say)
    except KeyboardInterrupt as interrupt:
        if progress is not None:
            progress.end()
        errors.print("nas-t2i: interrupted; the same command carries on", markup=False)
        if tracking is not None:
            tracking.finish(_TRACKING_SECONDS_INTERRUPTED)
        return 143 if isinstance(interrupt, TerminatedError) else 130
    finally:
        if progress is not None:
            progress.end()
            write_leaderboard(request.folder)
    study = read_contents(request.folder)
    trials = study.trials
    notes: list[str] = []
    rows = mark_beyond(rank_trials(trials), [study])
    sought = request.budget.search.objectives
    if sought and any(row.metric for row in rows):
        front = with_front(rows, trials, objectives_of(sought, trials, "search.objectives"))
        rows, notes = front.rows, front_notes(front)
    render_leaderboard(rows, console, study=study.record, notes=notes)
    _write_report(request, console)
    assert progress is not None
    console.print(progress.summary(), highlight=False, markup=False, soft_wrap=True)
    if tracking is not None:
        tracking.finish(_TRACKING_SECONDS)
    states = [end.state for candidate in candidates for end in candidate.ends.values()]
    return 0 if TrialState.COMPLETE in states or TrialState.STOPPED in states else 1


def _write_report(request: SearchRequest, console: Console) -> None:
    from nas_t2i.results.report.page import REPORT_FILE, write_report

    if request.mirror is not None:
        request.mirror.fetch_images()
    write_report([request.folder], request.folder / REPORT_FILE)
    line = f"Report: {request.place}/{REPORT_FILE}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _options(pairs: list[str]) -> dict[str, Any]:
    from nas_t2i.yaml_files import parse_document

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise UserError(f"--sampler-option: got {pair!r}; expected NAME=VALUE")
        options |= parse_document(f"{name}: {value}", f"--sampler-option {pair}").data
    return options


def _study_name(name: str) -> str:
    # It becomes the name of a folder.
    if not is_name(name):
        raise UserError(
            f"--study: got {name!r}; expected letters, digits, '.', '_' and '-', at most 100"
        )
    return name
