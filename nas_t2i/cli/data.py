"""``nas-t2i data``: look at a budget's own pairs, count them, encode them ahead of training."""

from __future__ import annotations

import shutil
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich import box
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import compact, duration
from nas_t2i.errors import ConfigError
from nas_t2i.files import Closing
from nas_t2i.untrusted.redact import redacted
from nas_t2i.untrusted.show import printable

if TYPE_CHECKING:
    from nas_t2i.data.index.build import Report
    from nas_t2i.data.index.pairs import PairIndex
    from nas_t2i.protocol.budget import Budget
    from nas_t2i.protocol.data import PairsData

data_app = typer.Typer(
    name="data",
    help="Check, count and encode the pairs of image and caption that a budget names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# A table on its way to a file or another program has no screen to fit.
_PIPED_WIDTH = 160
_SECONDS_BETWEEN_LINES = 30.0

BudgetArgument = Annotated[
    str, typer.Argument(metavar="BUDGET", help="A budget file whose data has `source: pairs`.")
]


class TableFormat(StrEnum):
    """How the data table is exported."""

    CSV = "csv"
    JSON = "json"


class Device(StrEnum):
    """Where the encoders run."""

    CPU = "cpu"
    CUDA = "cuda"


@data_app.command(short_help="Index the pairs; say what was dropped and why.")
def check(budget: BudgetArgument) -> None:
    """Read every sample's metadata and say what is kept, dropped and bad; encode nothing.

    The index is written beside the cache (or, without one, into the cache folder of nas-t2i), so
    that later commands find it. Images are decoded only for `duplicates: {hash: phash}`.

    \b
    Example:
      nas-t2i data check my_budget.yaml
    """
    index, data = _open(_load(budget))
    _print_report(index.report, data, _console())


@data_app.command(short_help="Pairs, captions and nouns, as in the paper's data table.")
def stats(
    budget: BudgetArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Draw words and nouns per caption into this file (.png .svg .pdf).",
        ),
    ] = None,
    export_as: Annotated[
        TableFormat | None,
        typer.Option(
            "--export",
            help="Print the data table in this format, under the paper's column names, and "
            "nothing else.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Count the pairs that a budget's rules keep, and the nouns of their captions.

    Once with the original captions (the first caption field of the budget), once with the other
    fields' captions too: of a list, the first so many that the budget draws from. Nouns need the
    extra `data`, the figure the extra `plots`.

    \b
    Examples:
      nas-t2i data stats my_budget.yaml
      nas-t2i data stats my_budget.yaml -o captions.png
      nas-t2i data stats my_budget.yaml --export csv > table.csv
    """
    import numpy as np

    from nas_t2i.data.noun_counts import store
    from nas_t2i.data.nouns import NounFinder
    from nas_t2i.data.stats import (
        check_figure,
        draw_histograms,
        export,
        measure,
        table_rows,
    )

    if output is not None:
        check_figure(output)
    loaded, finder = _load(budget), NounFinder()
    index, data = _open(loaded)
    begin = time.monotonic()
    with _Bars() as bars:
        nouns = np.zeros(len(index), dtype=np.int64)
        statistics = measure(index, data, finder, bars, nouns)
    seconds = time.monotonic() - begin
    store(index, nouns)  # trials put on record how many image-noun pairs they train on
    if output is not None:
        draw_histograms(statistics[-1], output)
    rows = table_rows(statistics)
    if export_as is not None:
        sys.stdout.write(export(rows, export_as.value))
        return
    console = _console()
    _print_report(index.report, data, console)
    console.print(_data_table(rows))
    captions = statistics[-1].with_synthetic.captions
    console.print(
        "pairs: image and caption. image-noun pairs: image and a noun that one of its captions "
        f"has. {captions:,} captions in {duration(seconds)}, {compact(captions / seconds)} a "
        "second.",
        soft_wrap=True,
    )


@data_app.command(short_help="Encode images and captions ahead of training.")
def prepare(
    budget: BudgetArgument,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say how many pairs there are and what they take."),
    ] = False,
    device: Annotated[
        Device | None,
        typer.Option(help="Where the encoders run; default: as the budget's training.device."),
    ] = None,
) -> None:
    """Fill the budget's cache (`data.cache`) with latents and text features.

    What is there already stays. Interrupted, the same command carries on; several of them, on one
    machine or on many that share the folder, divide the work.

    \b
    Examples:
      nas-t2i data prepare my_budget.yaml --dry-run
      nas-t2i data prepare my_budget.yaml
      nas-t2i data prepare my_budget.yaml --device cuda
    """
    loaded = _load(budget)
    if dry_run:
        _print_plan(loaded)
        return
    from nas_t2i.conditioning.prepare import prepare as fill

    with _Bars() as bars:
        fill(
            loaded,
            say=bars.say,
            progress=bars,
            device=device.value if device else loaded.training.device,
        )
    print(f"cache {_cache(loaded)}: complete")


# ---- what the commands have in common -----------------------------------------------------------


def _load(budget: str) -> Budget:
    """Read a budget file. Raises ConfigError, also for one whose data are not pairs."""
    from nas_t2i.protocol.budget import load_budget
    from nas_t2i.protocol.data import PairsData
    from nas_t2i.shipped import find_file

    file = find_file(budget, "budgets")
    loaded = load_budget(file)
    if not isinstance(loaded.data, PairsData):
        raise ConfigError(
            f"{file}: data.source",
            f"got {loaded.data.source!r}, which is rendered anew at each start",
            expected="'pairs' (docs/your-data.md)",
        )
    return loaded


def _open(budget: Budget) -> tuple[PairIndex, PairsData]:
    """Return the pairs of a budget, indexed where training looks for them."""
    from nas_t2i.data.index.pairs import open_index
    from nas_t2i.environment import cache_dir

    data = _pairs(budget)
    folder = cache_dir() / "pairs" if data.cache is None else _cache(budget) / "index"
    return open_index(data, folder, _say), data


def _cache(budget: Budget) -> Path:
    from nas_t2i.files import expand_path

    cache = _pairs(budget).cache
    assert cache is not None  # whoever fills it has checked
    return expand_path(cache, "data.cache")


def _pairs(budget: Budget) -> PairsData:
    from nas_t2i.protocol.data import PairsData

    assert isinstance(budget.data, PairsData)  # `_load` has checked
    return budget.data


def _console() -> Console:
    return Console(
        highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH
    )


def _say(text: str) -> None:
    print(redacted(printable(f"nas-t2i: note: {text}")), file=sys.stderr)


class _Bars(Closing):
    """Shows how far work is: bars on a terminal, elsewhere now and then a line. On stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begins: dict[str, tuple[float, int]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def close(self) -> None:
        """End the progress lines."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line for the log without tearing the bars."""
        self._progress.console.print(f"nas-t2i: note: {text}")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if not self._console.is_terminal:
            self._show_line(what, done, total)
            return
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, completed=done)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def _show_line(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        # What was done before this process came is no measure of its speed.
        begin, had = self._begins.setdefault(what, (now, done))
        if now - self._last_line < _SECONDS_BETWEEN_LINES or done == had:
            return
        self._last_line = now
        left = (now - begin) / (done - had) * (total - done)
        self._console.print(f"{what}: {done:,} of {total:,}, about {duration(left)} left")


# ---- screens ------------------------------------------------------------------------------------


def _print_report(report: Report, data: PairsData, console: Console) -> None:
    lines = [
        ("samples seen", report.seen),
        *((f"bad: {reason}", number) for reason, number in sorted(report.bad.items())),
        # In the order in which the rules are asked; one that drops nothing is shown too.
        *((f"dropped by {rule.keep}", report.dropped.get(rule.keep, 0)) for rule in data.filters),
        *([("dropped as duplicates", report.duplicates)] if data.duplicates else []),
        ("kept", report.kept),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, number in lines:
        share = f"{100 * number / report.seen:.1f} %" if report.seen else ""
        table.add_row(Text(name), f"{number:,}", share)
    console.print(table)


def _data_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("data", overflow="fold")
    table.add_column("captions")
    for header in (
        "image-caption\npairs",
        "mean aesthetic\nscore",
        "image-noun\npairs",
        "unique\nnouns",
        "nouns\nper image",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        score = row["avg_aesthetic_score"]
        table.add_row(
            Text(row["dataset"]),
            "with synthetic" if row["synthetic_captions"] else "original",
            f"{round(1e6 * row['image_text_pairs_m']):,}",
            "-" if score is None else f"{score:.2f}",
            f"{round(1e6 * row['image_noun_pairs_m']):,}",
            f"{round(1e6 * row['unique_nouns_m']):,}",
            f"{row['nouns_per_image']:.2f}",
        )
    return table


def _print_plan(budget: Budget) -> None:
    from nas_t2i.conditioning.prepare import plan

    found = plan(budget, say=_say)
    folder = _cache(budget)
    free = shutil.disk_usage(folder).free
    console = _console()
    console.print(
        f"{found.pairs:,} pairs, {found.captions:,} distinct captions\n"
        f"cache {folder}: {_bytes(found.latent_bytes)} of latents and at most "
        f"{_bytes(found.text_bytes)} of text features; {_bytes(free)} are free there",
        soft_wrap=True,
    )


def _bytes(number: int) -> str:
    return f"{compact(number).replace(' K', ' k').replace(' B', ' G')}B"
