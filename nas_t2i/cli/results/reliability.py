"""``nas-t2i results reliability``: how far the ranking of a study can be believed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.files import write_atomically
from nas_t2i.results.correlations import Correlation
from nas_t2i.results.early import LEAST_OF_A_FAMILY
from nas_t2i.results.metrics import display_name
from nas_t2i.results.reliability import ControlScore, Reliability, assess
from nas_t2i.results.tables.exports import showable
from nas_t2i.store import find_study, read_trials


def reliability_command(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    results_dir: ResultsDirOption = "results",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (.json or .md).")
    ] = None,
) -> None:
    """Compare architectures with seeds, rungs with the end, and controls with chance.

    A second table says how early a budget may stop: of the metric and every signal (held-out loss,
    text gain, caption gain), rung by rung, the rank correlations with the final score (Spearman's
    and Kendall's with 95 % intervals over architectures, Spearman's on one seed, among the better
    half, and given params and GMACs), and the spread between architectures over that between seeds.

    Where architectures are of several families, a third one has Spearman's correlation within each:
    signals order within a family alone.

    Where the metric has no chance level, controls are shown without a verdict.

    Needs a study whose architectures were all trained to the end with the same seeds:

    \b
      nas-t2i search comparison --seeds 3 --no-early-stopping --controls
      nas-t2i results reliability comparison-embedded
      nas-t2i results reliability comparison-embedded -o reliability.json
    """
    folder = find_study(study, results_dir)
    found = assess(read_trials(folder))
    if output is None:
        _print(found, Console(highlight=False))
    elif output.suffix == ".json":
        write_atomically(output, json.dumps(_plain(found), indent=1) + "\n")
    else:
        write_atomically(output, to_markdown(found, folder.name))


def to_markdown(found: Reliability, study: str) -> str:
    """Return the report as Markdown."""
    head, *rows = _score_rows(found)
    lines = [f"# How far study {study} can be believed", ""]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    for head, *rows in (_early_rows(found), *_family_rows(found)):
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *(f"- {sentence}" for sentence in _sentences(found)), ""]
    return "\n".join(lines)


def _print(found: Reliability, console: Console) -> None:
    between = "\n"
    for rows in (_score_rows(found), _early_rows(found, between), *_family_rows(found, between)):
        _print_table(rows, console)
    for sentence in _sentences(found):
        console.print(Text(showable(f"- {sentence}", console)), soft_wrap=True)


def _print_table(lines: list[list[str]], console: Console) -> None:
    head, *rows = lines
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(head):
        cells = "\n".join([title, *(row[i] for row in rows)])
        width = max(map(len, cells.split("\n"))) if i else None  # names give way first
        table.add_column(
            title,
            justify="right" if i else "left",
            no_wrap=True,
            min_width=width,
            overflow="crop" if console.options.ascii_only else "ellipsis",
        )
    for row in rows:
        shown = ("\n".join(showable(line, console) for line in cell.split("\n")) for cell in row)
        table.add_row(*map(Text, shown))
    console.print(table)


def _score_rows(found: Reliability) -> list[list[str]]:
    seeds = ", ".join(str(seed) for seed in found.seeds)
    head = ["architecture", *(f"step {step}" for step in found.steps), f"last, seeds {seeds}"]
    rows = [
        [
            name,
            *(f"{value:.3f}" for value in scores.mean(axis=0)),
            " ".join(f"{value:.3f}" for value in scores[:, -1]),
        ]
        for name, scores in zip(found.names, found.scores, strict=True)
    ]
    for control in found.controls:
        blank = [""] * (len(found.steps) - 1)
        rows.append([control.name, *blank, f"{control.score:.3f}", f"{control.seeds} seeds"])
    return [head, *rows]


def _early_rows(found: Reliability, between: str = " ") -> list[list[str]]:
    """Return the second table; `between` stands between words that may stand below each other."""

    titles = ["quantity", "step", "Spearman,|95 %", "Kendall,|95 %", "one|seed"]
    titles += ["half", "given|size", "spread", "half"]
    return [
        [title.replace("|", between) for title in titles],
        *(
            [
                display_name(row.quantity),
                str(row.step),
                _interval(row.spearman, between),
                _interval(row.kendall, between),
                _number(row.spearman_one_seed),
                _number(row.spearman_better_half),
                _number(row.given_size),
                _number(row.spread),
                _number(row.spread_better_half),
            ]
            for row in found.early
        ),
    ]


def _family_rows(found: Reliability, between: str = " ") -> list[list[list[str]]]:
    """Return the third table, if there are several families: Spearman of all, and within each."""
    if len(found.families) == 1:
        return []
    named = [name for name, count in found.families.items() if count >= LEAST_OF_A_FAMILY]
    titles = [f"all ({len(found.names)}),|95 %"]
    titles += [f"{name} ({found.families[name]}),|95 %" for name in named]
    head = ["Spearman with the final score", "step", *(t.replace("|", between) for t in titles)]
    rows = [
        [
            display_name(row.quantity),
            str(row.step),
            *(_interval(of, between) for of in (row.spearman, *(row.within[n] for n in named))),
        ]
        for row in found.early
    ]
    return [[head, *rows]]


def _interval(correlation: Correlation, between: str) -> str:
    low, high = _number(correlation.low), _number(correlation.high)
    return f"{_number(correlation.value)}{between}{low}..{high}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _sentences(found: Reliability) -> list[str]:
    spread, half, counts = found.spread, found.spread_better_half, {2, len(found.seeds)} - {1}
    ratios, ratios_of_half = (
        ", ".join(
            [
                f"ratio {of.ratio():.2f} on one seed",
                *(f"{of.ratio(n):.2f} on the mean of {n}" for n in sorted(counts)),
            ]
        )
        for of in (spread, half)
    )
    sentences = [
        f"scores: {display_name(found.metric)}, at a step the mean over seeds",
        f"spread: standard deviation between {spread.architectures} architectures "
        f"{spread.between:.4f}, between seeds of one {spread.within:.4f}: {ratios}",
        f"the better half ({half.architectures}): between {half.between:.4f}, seeds "
        f"{half.within:.4f}: {ratios_of_half}",
    ]
    sentences += [
        f"Spearman of step {a.step} with the last: {a.with_last:.2f} on seed means, "
        f"{a.with_last_one_seed:.2f} on one seed, {a.with_last_better_half:.2f} among the better "
        "half"
        for a in found.agreements
    ]
    between = ", ".join(f"{value:.2f}" for value in found.between_seeds)
    sentences.append(f"Spearman between seeds at the last rung: {between}")
    sentences += [_control_sentence(control, found.worst) for control in found.controls]
    states = ", ".join(f"{count} {state}" for state, count in found.state_counts.items())
    sentences.append(f"trials: {states}")
    return sentences


def _control_sentence(control: ControlScore, worst: float) -> str:
    line = f"control {control.name}: {control.score:.3f} ± {control.stderr:.3f}"
    if control.chance is None:  # no level that a control must end at: nothing to judge by
        return line
    below = "below" if control.score < worst else "NOT below"
    return f"{line}, chance {control.chance:.3f}, {below} the last architecture ({worst:.3f})"


def _plain(found: Reliability) -> dict[str, Any]:
    plain = asdict(found)
    plain["scores"] = np.round(found.scores, 6).tolist()
    # A correlation that is undefined (no spread) is null: NaN is no JSON.
    return json.loads(json.dumps(plain), parse_constant=lambda _: None)  # type: ignore[no-any-return]
