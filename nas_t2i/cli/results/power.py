"""``nas-t2i results power``: how many seeds and prompts tell two architectures apart."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.errors import UserError
from nas_t2i.records import TrialRecord
from nas_t2i.results.entries import shared_metric
from nas_t2i.results.metrics import display_name
from nas_t2i.results.power import PairNoise, pair_noise, power, seeds_needed
from nas_t2i.results.tables.exports import showable
from nas_t2i.statistics import FloatArray
from nas_t2i.store import find_study, read_trials

_ENOUGH = 0.8  # the usual aim of a power calculation


def power_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="STUDY_OR_TABLE", help="A study, or a table of `nas-t2i benchmark build`."
        ),
    ],
    difference: Annotated[
        float, typer.Option(min=1e-6, help="Of their true scores, in the metric's unit.")
    ] = 0.02,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="Seeds of each.")] = "1,2,3,4,6,8,12",
    prompts: Annotated[
        str, typer.Option(metavar="LIST", help="Prompts that both are scored on.")
    ] = "128,256,512,1024,2048,4096",
    level: Annotated[
        float | None,
        typer.Option(help="Their score. [default: the median of the better half on record]"),
    ] = None,
    results_dir: ResultsDirOption = "results",
    export_as: Annotated[
        Literal["json", "csv"] | None,
        typer.Option("--export", help="Print in this format instead of a table."),
    ] = None,
) -> None:
    """Say how likely two architectures are told apart that differ by so much.

    Seed noise and the variance between prompts, which the two share, are estimated from the records
    by the model of the ranking; a cell is the probability that the 95 % interval of the difference
    excludes 0 (see docs/benchmark.md).

    \b
    Examples:
      nas-t2i results power sdxl-exhaustive --difference 0.02
      nas-t2i results power table.npz --difference 0.05 --seeds 1,2,3 --prompts 512,4096
    """
    trials = _trials(source, results_dir)
    noise = pair_noise(trials)
    middle = noise.level if level is None else level
    seed_list, prompt_list = _numbers(seeds, "--seeds"), _numbers(prompts, "--prompts")
    floor = noise.scale.floor
    if floor is not None and not floor < middle - difference / 2 < middle + difference / 2 < 1:
        raise UserError(
            f"--difference: got {difference:g} around the level {middle:.3g}; expected scores "
            f"between {floor:.3g} and 1"
        )
    table = power(noise, difference, seed_list, prompt_list, level=middle)
    rows = [
        {"seeds": s, "prompts": p, "power": round(float(table[i, j]), 4)}
        for i, s in enumerate(seed_list)
        for j, p in enumerate(prompt_list)
    ]
    metric = shared_metric(trials)
    if export_as == "json":
        data = {"metric": metric, "difference": difference, "level": middle, "rows": rows}
        sys.stdout.write(json.dumps(data, indent=1) + "\n")
    elif export_as == "csv":
        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["seeds", "prompts", "power"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        sys.stdout.write(stream.getvalue())
    else:
        _print(table, seed_list, prompt_list, Console(highlight=False))
        console = Console(highlight=False)
        for line in _sentences(noise, metric, difference, middle, prompt_list):
            text = Text(showable(f"- {line}", console))
            console.print(text, soft_wrap=not console.is_terminal)


def _trials(source: str, results_dir: str) -> Sequence[TrialRecord]:
    if source.endswith(".npz"):
        from nas_t2i.benchmark.table import Table as Benchmark

        return Benchmark.load(source).trials()
    return read_trials(find_study(source, results_dir))


def _numbers(text: str, option: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 1_000_000 for part in parts):
        raise UserError(f"{option}: got {text!r}; expected whole numbers, as 1,2,4")
    return sorted({int(part) for part in parts})


def _print(
    found: FloatArray, seeds: Sequence[int], prompts: Sequence[int], console: Console
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("seeds", justify="right")
    for count in prompts:
        table.add_column(f"{count} prompts", justify="right")
    for count, row in zip(seeds, found, strict=True):
        table.add_row(str(count), *(f"{100 * value:.0f} %" for value in row))
    console.print(table)


def _sentences(
    noise: PairNoise,
    metric: str,
    difference: float,
    level: float,
    prompts: Sequence[int],
) -> list[str]:
    slope = float(noise.scale.slope(level))
    per_seed = noise.seeds.deviation / slope
    asked = math.sqrt((noise.lasting + noise.passing) / noise.prompts)
    needed = {
        count: seeds_needed(noise, difference, count, _ENOUGH, level=level) for count in prompts
    }
    enough = [f"{count} at {asked}" for asked, count in needed.items() if count is not None]
    return [
        f"the probability that two architectures whose {display_name(metric)} truly differs by "
        f"{difference:g}, around {level:.3f}, are told apart at 95 %; both have the same seeds and "
        "prompts",
        f"between seeds of one: standard deviation {per_seed:.4f} there ({noise.repeats} repeats "
        "and a prior)",
        f"of a difference on one seed, by {noise.prompts} prompts: standard error {asked:.4f} "
        f"({noise.pairs} pairs of neighbours); with more seeds, "
        f"{math.sqrt(noise.lasting / noise.prompts):.4f} of it stays",
        f"seeds for {_ENOUGH:.0%}, by prompts: {', '.join(enough) or 'thousands'}",
    ]
