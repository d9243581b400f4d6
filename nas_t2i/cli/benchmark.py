"""``nas-t2i benchmark``: tables of learning curves, and searches replayed on them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text
from typer.core import TyperGroup

from nas_t2i.cli.output.benchmark import print_benchmark, progress
from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import duration
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.errors import UserError, did_you_mean, named
from nas_t2i.files import write_atomically
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable

if TYPE_CHECKING:
    from nas_t2i.arch.limits import Limits
    from nas_t2i.benchmark.replay.run import Benchmark, Prepared

_PIPED_WIDTH = 160
_TEXTS = ("csv", "json")


class _RunsATable(TyperGroup):
    """A group in which a first word that is no command is a table to run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Put ``run`` before a table."""
        if args and args[0] not in self.commands:
            if not Path(args[0]).suffix and (hint := did_you_mean(args[0], self.commands)):
                known = ", ".join(self.commands)
                raise UserError(f"benchmark: got {args[0]!r}; expected {known} or a table; {hint}")
            args = ["run", *args]
        return super().resolve_command(ctx, args)


benchmark_app = typer.Typer(
    name="benchmark",
    cls=_RunsATable,
    help=(
        "Compare search algorithms on recorded learning curves, in seconds.\n\n"
        "\b\n"
        "  nas-t2i benchmark build STUDY -o table.npz      make a table of complete studies\n"
        "  nas-t2i benchmark show table.npz                what is in it\n"
        "  nas-t2i benchmark table.npz --samplers random,tpe --stoppers none,racing\n"
        "                                                  replay searches (`run` may be said)"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

TableArgument = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A file of `nas-t2i benchmark build`.")
]


@benchmark_app.command(short_help="Make a table of complete studies.")
def build(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="Names or folders of studies.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write (.npz).")],
    results_dir: ResultsDirOption = "results",
    name: Annotated[str, typer.Option(help="Name of the table. [default: the studies']")] = "",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="ARCH", help="An architecture not to take; may be repeated."),
    ] = None,
) -> None:
    """Put the trials of one study, or of several under one budget, into one file.

    Every architecture needs every seed, trained to the last rung; what is missing is named.
    Controls are left out.

    \b
    Examples:
      nas-t2i search table --sampler grid --seeds 3 --no-early-stopping
      nas-t2i benchmark build table-embedded -o table.npz
    """
    from nas_t2i.benchmark.build import build_table, table_name
    from nas_t2i.benchmark.coverage import with_coverage
    from nas_t2i.benchmark.form import write_table
    from nas_t2i.store import find_study, read_contents

    if output.suffix != ".npz":
        raise UserError(f"-o {output}: got {output.suffix or 'no ending'!r}; expected .npz")
    folders = dict.fromkeys(find_study(study, results_dir) for study in studies)
    contents = [read_contents(folder) for folder in folders]
    manifest, arrays = build_table(contents, name or table_name(contents), leave_out or ())
    manifest, lacking = with_coverage(manifest)
    size = write_table(output, manifest, arrays)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        Text(
            f"{output}: {len(manifest.architectures)} architectures, {len(manifest.seeds)} seeds, "
            f"{len(manifest.steps)} rungs, {len(manifest.metrics)} metrics; {size / 1e6:.2f} MB"
        )
    )
    if lacking:
        console.print(
            Text(
                f"the space has {len(lacking)} more that were not trained: {named(lacking)}; a "
                "replay that proposes one of them ends there"
            )
        )
    for entry in manifest.left_out:
        console.print(Text(f"left out: {entry.name} ({entry.why})"))


@benchmark_app.command(short_help="Say what is in a table.")
def show(table: TableArgument) -> None:
    """Print what a table holds: for its datasheet, and to see what can be asked."""
    from nas_t2i.benchmark.table import Table

    loaded = Table.load(table)
    manifest, console = loaded.manifest, Console(highlight=False, soft_wrap=True)
    environments = manifest.environments
    best = loaded.best()
    families = sorted({entry.family for entry in manifest.architectures})
    first = environments[0] if environments else None
    facts = {
        "table": f"{manifest.name}, {table.stat().st_size / 1e6:.2f} MB",
        "architectures": f"{len(manifest.architectures)} ({', '.join(families)})",
        "seeds": ", ".join(map(str, manifest.seeds)),
        "steps": ", ".join(map(str, manifest.steps))
        + f" (with {display_name(manifest.metric)}: {', '.join(map(str, manifest.full_steps))})",
        "metrics": ", ".join(loaded.metrics),
        "best": f"{best.architecture.name}, {display_name(manifest.metric)} {best.score:.4f}",
        "training": duration(float(loaded.values("seconds").sum()))
        + " and evaluation "
        + duration(float(loaded.values("evaluation_seconds").sum())),
        "budget": f"{manifest.budget.name}, {manifest.budget.budget_id}",
        "space": f"{manifest.space.name}, {manifest.space.space_id}",
        "studies": ", ".join(f"{s.study} ({s.created:%Y-%m-%d})" for s in manifest.studies),
    }
    if first is not None:
        versions = ", ".join(f"{name} {number}" for name, number in first.versions.items())
        facts["machine"] = f"{first.cores} cores of {first.cpu}, accelerator: {first.accelerator}"
        facts["versions"] = f"nas-t2i {first.nas_t2i}, Python {first.python}, {versions}"
        revisions = dict.fromkeys(one.git_revision for one in environments)
        facts["git revision"] = ", ".join(revisions)
    if manifest.left_out:
        facts["left out"] = ", ".join(entry.name for entry in manifest.left_out)
    for key, value in facts.items():
        console.print(Text(f"{key:14} {showable(value, console)}"))


@benchmark_app.command(short_help="Replay searches on a table (the word may be left out).")
def run(
    table: TableArgument,
    samplers: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="random, tpe, gp, nsga2, nsga3, front, qmc, grid; NAME[KEY=VALUE] sets an "
            "option of it.",
        ),
    ] = "random,tpe",
    stoppers: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="none, asha, median, racing, best_share, or module:Class beside where it runs; "
            "NAME[KEY=VALUE] sets a key of it.",
        ),
    ] = "none,racing",
    objectives: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Seek a front, as tifa,-gmacs (also -params, -compute): compared is by its "
            "hypervolume.",
        ),
    ] = "",
    workers: Annotated[
        str, typer.Option(metavar="LIST", help="Trials side by side; one or several numbers.")
    ] = "1",
    repeats: Annotated[int, typer.Option(min=1, help="Searches of each method.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Architectures a search tries. [default: all of the table]"),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds an architecture, but in a race: that takes all.")
    ] = 1,
    compute: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="What a search may spend, in trials of mean cost to the last rung. "
            "[default: half of all]",
        ),
    ] = None,
    max_params: Annotated[
        float | None, typer.Option(help="Only architectures of at most so many parameters.")
    ] = None,
    max_gmacs: Annotated[
        float | None, typer.Option(help="Only architectures of at most so many GMACs.")
    ] = None,
    included: Annotated[
        bool,
        typer.Option(
            "--included/--no-included",
            help="Try the space's named architectures first, as a real search does.",
        ),
    ] = False,
    close: Annotated[
        float, typer.Option(min=0.0, help="Regret that counts as having found the best.")
    ] = 0.01,
    points: Annotated[int, typer.Option(min=4, max=200, help="On the compute axis.")] = 24,
    export_as: Annotated[
        Literal["csv", "json"] | None,
        typer.Option("--export", help="Print all points in this format instead of a table."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write .csv, .json, or a figure .png .svg .pdf (extra `plots`); may be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Replay each method once and predict; print no results."),
    ] = False,
) -> None:
    """Replay searches on recorded curves, and say how soon each method finds the best.

    The driver, the sampler and the stopping rule are those of a real search; a trial's rungs come
    from the table, after their recorded seconds, on a simulated clock. Repeat r of every method
    draws alike. Regret is that of the architecture which the program's ranking has first.

    \b
    Examples:
      nas-t2i benchmark table.npz
      nas-t2i benchmark table.npz --samplers random,tpe,gp,nsga2,grid --stoppers none,racing
      nas-t2i benchmark table.npz --stoppers 'asha[eta=3,signal=heldout_loss]' --workers 1,4,16
      nas-t2i benchmark table.npz --objectives tifa,-gmacs --samplers random,tpe,gp,nsga2
      nas-t2i benchmark table.npz --max-gmacs 100 -o regret.png -o points.csv
    """
    from nas_t2i.benchmark.replay import method as read
    from nas_t2i.benchmark.replay.run import Plan, prepare
    from nas_t2i.benchmark.replay.run import run as replay
    from nas_t2i.benchmark.table import Table

    files = _checked(output or [])
    loaded = Table.load(table)
    plan = Plan(
        table=loaded,
        methods=read.methods(
            read.samplers(samplers), read.stoppers(stoppers), _numbers(workers, "--workers")
        ),
        repeats=repeats,
        seed=seed,
        trials=trials,
        seeds=seeds,
        compute=compute,
        limits=_limits(max_params, max_gmacs),
        included=included,
        points=points,
        objectives=tuple(objectives.split(",")) if objectives else (),
    )
    prepared = prepare(plan)
    if not prepared.replays.space.axes:
        print(
            f"nas-t2i: note: the space of {table} is a plain list: a search tries it in its order, "
            "whatever the sampler",
            file=sys.stderr,
        )
    if dry_run:
        _predict(prepared, Console(highlight=False, soft_wrap=True))
        return
    found = replay(prepared, progress(), lambda _: None)
    for file in files:
        _write(found, file)
    if export_as is not None:
        sys.stdout.write(_text(found, export_as))
    else:
        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        print_benchmark(found, close, Console(highlight=False, width=width))


def _checked(files: Sequence[Path]) -> Sequence[Path]:
    from nas_t2i.benchmark.replay.figure import check_suffix

    for file in files:
        if file.suffix.removeprefix(".") not in _TEXTS:
            check_suffix(file)
    return files


def _numbers(text: str, option: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 1000 for part in parts):
        raise UserError(f"{option}: got {text!r}; expected numbers from 1 to 1000, as 1,4,16")
    return list(dict.fromkeys(map(int, parts)))


def _limits(params: float | None, gmacs: float | None) -> Limits:
    from nas_t2i.benchmark.table import as_limits

    given = {"params": params, "gmacs": gmacs}
    return as_limits({name: {"max": most} for name, most in given.items() if most is not None})


def _predict(prepared: Prepared, console: Console) -> None:
    """Replay each method once, which finds what the table lacks, and say how long all takes."""
    begin = time.perf_counter()
    for method in prepared.plan.methods:
        prepared.replays.run(method, prepared.plan.seed, 0, lambda _: None)
    once = time.perf_counter() - begin
    table, conditions = prepared.plan.table, prepared.conditions
    for line in (
        f"table {table.name}: {len(prepared.truth.arch_ids)} architectures can be found",
        f"{len(prepared.plan.methods)} methods x {prepared.plan.repeats} repeats = "
        f"{prepared.searches} searches of at most {conditions.trials} architectures and "
        f"{conditions.compute:g} trials' compute",
        f"each method once took {once:.1f} s, so all take about "
        f"{duration(once * prepared.plan.repeats)}, and their rankings some more",
    ):
        console.print(Text(showable(line, console)))


def _write(found: Benchmark, file: Path) -> None:
    from nas_t2i.benchmark.replay.figure import draw

    kind = file.suffix.removeprefix(".")
    if kind in _TEXTS:
        write_atomically(file, _text(found, kind))
    else:
        draw(found, file)


def _text(found: Benchmark, kind: str) -> str:
    from nas_t2i.benchmark.replay.exports import to_csv, to_json

    return to_csv(found) if kind == "csv" else to_json(found)
