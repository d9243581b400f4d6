"""``nas-t2i results agreement``: do studies of unlike budgets order architectures alike?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Annotated, Literal

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.results.agreement import (
    Agreement,
    Order,
    WithPaper,
    agreement,
    order_of,
    with_paper,
)
from nas_t2i.results.correlations import Correlation
from nas_t2i.results.tables.exports import showable
from nas_t2i.store import find_study, read_contents

_PAPER_GMACS = 0.936  # Spearman of TIFA at a fixed step with compute; Li et al., arXiv 2404.02883


def agreement_command(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="One study or more, by name or folder.")
    ],
    results_dir: ResultsDirOption = "results",
    export_as: Annotated[
        Literal["json"] | None,
        typer.Option("--export", help="Print in this format instead of tables."),
    ] = None,
) -> None:
    """Say whether studies order the same architectures alike, and as the paper does.

    For studies of unlike budgets, whose scores can't be compared: does a small proxy, or a shorter
    run, order what a larger one orders? Rank correlations have 95 % intervals over architectures.
    Pairs: those that each study tells apart by itself. Needs architectures trained to the end with
    every seed.

    \b
    Examples:
      nas-t2i search sizes --seeds 2 --no-early-stopping
      nas-t2i search sizes --budget embedded_wide --seeds 2 --no-early-stopping
      nas-t2i results agreement sizes-embedded sizes-embedded_wide
    """
    orders = [order_of(read_contents(find_study(name, results_dir))) for name in studies]
    pairs = [agreement(one, other) for one, other in combinations(orders, 2)]
    papers = [with_paper(order) for order in orders]
    if export_as == "json":
        data = {
            "studies": [_of_study(order) for order in orders],
            "pairs": [asdict(pair) for pair in pairs],
            "paper": [asdict(paper) for paper in papers],
        }
        # A correlation that is undefined (no spread) is null: NaN is no JSON.
        plain = json.loads(json.dumps(data), parse_constant=lambda _: None)
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
        return
    console = Console(highlight=False)
    _print([_study_row(number, order) for number, order in enumerate(orders, 1)], console)
    numbers = list(combinations(range(1, len(orders) + 1), 2))
    if pairs:
        _print([_pair_row(*row) for row in zip(numbers, pairs, strict=True)], console)
    if any(paper.pairs for paper in papers):
        _print([_paper_row(number, paper) for number, paper in enumerate(papers, 1)], console)
    for line in _sentences(list(zip(numbers, pairs, strict=True)), papers):
        text = Text(showable(f"- {line}", console))
        console.print(text, soft_wrap=not console.is_terminal)


def _of_study(order: Order) -> dict[str, object]:
    return {
        "study": order.study,
        "budget": order.budget,
        "metric": order.metric,
        "seeds": order.seeds,
        "between_seeds": order.between_seeds,
        "expected": dict(zip(order.names.values(), order.expected.tolist(), strict=True)),
    }


def _study_row(number: int, order: Order) -> dict[str, str]:
    best = list(order.names.values())[int(order.expected.argmax())]
    return {
        "": str(number),
        "study": order.study,
        "budget": order.budget,
        "archs": str(len(order.names)),
        "seeds": str(order.seeds),
        "one seed\nwith another": "-" if order.seeds < 2 else f"{order.between_seeds:.2f}",
        "best": best,
    }


def _pair_row(numbers: tuple[int, int], pair: Agreement) -> dict[str, str]:
    return {
        "studies": f"{numbers[0]}, {numbers[1]}",
        "archs\nin both": str(pair.architectures),
        "Spearman (95 %)": _interval(pair.spearman),
        "pairs told\napart by both": str(pair.told_apart),
        "the same\nway": str(pair.same_way),
        "regret": f"{pair.regret:.3f}",
    }


def _paper_row(number: int, paper: WithPaper) -> dict[str, str]:
    told = [pair for pair in paper.pairs if pair.apart]
    return {
        "study": str(number),
        "pairs that\nthe paper orders": str(len(paper.pairs)),
        "as the\npaper": str(sum(pair.difference > 0 for pair in paper.pairs)),
        "told\napart": str(len(told)),
        "of these as\nthe paper": str(sum(pair.difference > 0 for pair in told)),
        "score with GMACs\nSpearman (95 %)": _interval(paper.gmacs),
    }


def _sentences(
    pairs: Sequence[tuple[tuple[int, int], Agreement]], papers: Sequence[WithPaper]
) -> list[str]:
    lines = [
        f"study {first} tells {better} from {worse} as the better, study {second} the other way"
        for (first, second), pair in pairs
        for better, worse in pair.contradictions
    ]
    lines += [
        f"the paper has {one.order.better} over {one.order.worse} ({one.order.said}); study "
        f"{number} {'tells them apart the other way' if one.apart else 'leans the other way'} "
        f"({one.difference:+.3f})"
        for number, paper in enumerate(papers, 1)
        for one in paper.pairs
        if one.difference < 0
    ]
    if pairs:
        lines.append(
            "regret: what the best of the first scores in the second, less than the best there"
        )
    lines.append(
        "score with GMACs: those of the full architectures; the paper reports "
        f"{_PAPER_GMACS} for its own set"
    )
    return lines


def _interval(found: Correlation) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _print(rows: Sequence[dict[str, str]], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        left = name in ("study", "budget", "best", "studies")
        gives_way = name in ("study", "budget", "best")
        table.add_column(name, justify="left" if left else "right", no_wrap=not gives_way)
    for row in rows:
        table.add_row(*(Text(showable(cell, console)) for cell in row.values()))
    console.print(table)
