"""``nas-t2i results compare``: is one better than the other?"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.errors import number_of
from nas_t2i.results.comparands import Result, load_results
from nas_t2i.results.compare import Comparison, compare
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable
from nas_t2i.statistics import Difference
from nas_t2i.untrusted.show import spreadsheet

# A table on its way to a file or another program has no screen to fit.
_PIPED_WIDTH = 160
_HELP = "STUDY/NAME[@SEED][:STEP], or a result file of `nas-t2i evaluate`."


def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help=_HELP)],
    second: Annotated[str, typer.Argument(metavar="B", help=_HELP)],
    results_dir: ResultsDirOption = "results",
    metric: Annotated[str, typer.Option(help="Which metric, where there are several.")] = "",
    export_as: Annotated[
        Literal["json", "csv"] | None,
        typer.Option("--export", help="Print in this format instead of a table."),
    ] = None,
) -> None:
    """Compare two architectures, or two evaluated models, prompt by prompt.

    The difference is resampled over the prompts that both have a score of (a paired bootstrap).
    Without @SEED all seeds of an architecture count, by their mean on each prompt; without :STEP
    the last rung that both have. Results that were not measured alike (other questions, VQA model,
    sampling) are refused.

    \b
    Examples:
      nas-t2i results compare sdxl-embedded/SDXL-TD4_4 sdxl-embedded/SDXL-TD2
      nas-t2i results compare sdxl-embedded/SDXL-TD2@0:420 other-study/SDXL-TD2@0
      nas-t2i results compare old/tifa.json new/tifa.json --export json
    """
    found = compare(*load_results(first, second, results_dir, metric))
    if export_as == "json":
        sys.stdout.write(json.dumps(_plain(found), indent=2, allow_nan=False) + "\n")
    elif export_as == "csv":
        sys.stdout.write(_csv(found))
    else:
        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        _print(found, Console(highlight=False, width=width))


def _print(found: Comparison, console: Console) -> None:
    for letter, result in (("A", found.first), ("B", found.second)):
        _say(f"{letter}: {result.name}{_seeds(result)}", console)
    head = (display_name(found.first.score.metric), "A", "B", "A - B", "95 % interval", "of")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(head):
        table.add_column(showable(title, console), justify="right" if i else "left", no_wrap=True)
    for row in _rows(found):
        interval = "not known" if row["low"] is None else f"{row['low']:+.4f} .. {row['high']:+.4f}"
        table.add_row(
            str(row["what"]),
            f"{row['a']:.4f}",
            f"{row['b']:.4f}",
            f"{row['difference']:+.4f}",
            interval,
            f"{row['n']} {row['unit']}" if row["n"] else "",
        )
    console.print(table)
    for line in _sentences(found):
        _say(f"- {line}", console)
    _say(found.verdict, console)


def _say(line: str, console: Console) -> None:
    console.print(Text(showable(line, console)), soft_wrap=not console.is_terminal)


def _seeds(result: Result) -> str:
    if not result.seeds:
        return ""
    return f", seed{'s' * (len(result.seeds) > 1)} {', '.join(map(str, result.seeds))}"


def _rows(found: Comparison) -> list[dict[str, Any]]:
    """Return the difference over prompts, that with seeds, and that within each element type."""
    a, b = found.scores
    rows = [_row("all", a, b, found.difference, found.common, "prompts")]
    if found.seeds:
        whole = found.seeds.difference
        rows.append(_row("all + seed noise", a, b, whole, found.common, "prompts"))
    rows += [
        _row(t.element_type, t.first, t.second, t.difference, t.questions, "questions")
        for t in found.by_type
    ]
    return rows


def _row(
    what: str, a: float, b: float, difference: Difference, n: int | None, unit: str
) -> dict[str, Any]:
    known = not math.isnan(difference.low)
    return {
        "what": what,
        "a": a,
        "b": b,
        "difference": difference.value,
        "low": difference.low if known else None,
        "high": difference.high if known else None,
        "n": n,
        "unit": unit,
    }


def _sentences(found: Comparison) -> list[str]:
    lines = [f"{found.common} prompts in common"]
    if any(found.left_out):
        one, other = found.left_out
        whole = f"over all of their own: {found.first.score.value:.4f} and "
        lines[0] += f", left out {one} of A and {other} of B; {whole}{found.second.score.value:.4f}"
    if seeds := found.seeds:
        source = number_of(seeds.repeats, "repeat") if seeds.repeats else "assumed, no repeats yet"
        lines.append(
            f"between seeds of one architecture: standard deviation {seeds.deviation:.4f} "
            f"({source}, in the second interval)"
        )
    if found.by_type and found.by_type[0].questions is None:
        lines.append("no intervals by element type: single questions are not on record")
    return lines + found.notes


def _plain(found: Comparison) -> dict[str, Any]:
    seeds = found.seeds
    return {
        "metric": found.first.score.metric,
        "signature": found.first.score.signature,
        **{
            letter: {"name": result.name, "seeds": list(result.seeds), "left_out": left_out}
            for letter, result, left_out in (
                ("a", found.first, found.left_out[0]),
                ("b", found.second, found.left_out[1]),
            )
        },
        "common": found.common,
        "differences": _rows(found),
        "seed_noise": {"std": seeds.deviation, "repeats": seeds.repeats} if seeds else None,
        "notes": found.notes,
        "verdict": found.verdict,
    }


def _csv(found: Comparison) -> str:
    rows = _rows(found)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: spreadsheet(v) if isinstance(v, str) else v for k, v in row.items()})
    return stream.getvalue()
