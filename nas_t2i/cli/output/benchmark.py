"""A benchmark of search methods on the screen: how far it is, and what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import duration
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable

if TYPE_CHECKING:
    from nas_t2i.benchmark.replay.method import Method
    from nas_t2i.benchmark.replay.run import Benchmark, Result

_SECONDS_BETWEEN_LINES = 10.0


def progress() -> Callable[[int, int, Method], None]:
    """Return what tells how far it is, on standard error: on a line of its own, now and then."""
    begin = told = time.monotonic()
    live = sys.stderr.isatty()

    def tell(done: int, of: int, method: Method) -> None:
        nonlocal begin, told
        now = time.monotonic()
        if done <= 1:
            begin = now  # the first one imports, and says nothing of the others
        if now - told < (0.5 if live else _SECONDS_BETWEEN_LINES):
            return
        told = now
        left = duration((now - begin) / (done - 1) * (of - done)) if done > 1 else "?"
        line = f"{done} of {of} searches, {left} left ({method.label}, {method.workers} at a time)"
        print(f"\r\x1b[K{line}" if live else line, end="" if live else "\n", file=sys.stderr)
        if live and done + 1 == of:
            print("\r\x1b[K", end="", file=sys.stderr)

    return tell


def print_benchmark(found: Benchmark, close: float, console: Console) -> None:
    """Print a line a method; `close` is the regret that counts as having found the best."""
    name = display_name(found.table.metric)
    _say(
        f"Table {found.table.name}: {found.architectures} architectures; the best is {found.best} "
        f"({name} {found.best_score:.4f}, mean over {len(found.table.seeds)} seeds)",
        console,
    )
    screen = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    parts = [len(found.compute) // 4 - 1, len(found.compute) // 2 - 1, len(found.compute) - 1]
    titles = ["sampler", "stopper", "at once"]
    if found.conditions.objectives:
        titles += [f"front at {found.compute[part]:.3g}" for part in parts]
        titles += ["trained", "regret", "minutes", "spent"]
    else:
        titles += [f"regret at {found.compute[part]:.3g}" for part in parts]
        titles += ["P(best)", "hypervolume", "minutes", "spent", f"within {close:g}"]
    for i, title in enumerate(titles):
        screen.add_column(
            title, justify="left" if i < 2 else "right", no_wrap=i > 1, overflow="fold"
        )
    for result in found.results:
        screen.add_row(*(Text(showable(c, console)) for c in _cells(found, result, parts, close)))
    console.print(screen)
    flops, seconds = found.mean_trial
    trial = f"({flops:.3g} FLOPs, {seconds:.1f} s)"
    lines = _regret_lines(found, close, trial)
    for line in _front_lines(found, trial) if found.conditions.objectives else lines:
        _say(line, console)


def _regret_lines(found: Benchmark, close: float, trial: str) -> Sequence[str]:
    return (
        f"regret: {display_name(found.table.metric)} of the best less that of the one ranked "
        f"first, interquartile mean over {found.repeats} repeats and its 95 % interval; of one "
        f"drawn at random {found.guess:.4f}",
        f"compute is in trials to the last rung of mean cost {trial}; within: from there on the "
        f"regret is at most {close:g}; -: it is not",
        "P(best), hypervolume of (score, GMACs) as a share of all, minutes (simulated) at the end",
    )


def _front_lines(found: Benchmark, trial: str) -> Sequence[str]:
    sought = ", ".join(found.conditions.objectives)
    return (
        f"front: hypervolume of {sought}, true scores, of who is on the front of the expected "
        "scores at so much compute, as a share of all; interquartile mean over "
        f"{found.repeats} repeats and its 95 % interval",
        "trained: the same of who was trained to the end; reference point: the worst score and the "
        "largest cost of all",
        f"compute is in trials to the last rung of mean cost {trial}; regret, minutes (simulated) "
        "at the end",
    )


def _cells(found: Benchmark, result: Result, parts: Sequence[int], close: float) -> list[str]:
    method, regret = result.method, result.regret
    cells = [method.sampler.text, method.stopper.text, str(method.workers)]
    if found.conditions.objectives:
        front = result.front
        cells += [f"{front.value[part]:.3f}" for part in parts]
        if found.repeats > 1:
            cells[-1] += f" ({front.low[-1]:.3f}-{front.high[-1]:.3f})"
        cells += [f"{result.hypervolume.value[-1]:.3f}", f"{regret.value[-1]:.4f}"]
        return [*cells, f"{result.seconds[-1] / 60:.1f}", f"{result.spent:.1f}"]
    cells += [f"{regret.value[part]:.4f}" for part in parts]
    if found.repeats > 1:
        cells[-1] += f" ({regret.low[-1]:.4f}-{regret.high[-1]:.4f})"
    reached = result.reached(found.compute, close)
    cells += [
        f"{result.found.value[-1]:.2f}",
        f"{result.hypervolume.value[-1]:.3f}",
        f"{result.seconds[-1] / 60:.1f}",
        f"{result.spent:.1f}",
        "-" if reached is None else f"{reached:.3g}",
    ]
    return cells


def _say(line: str, console: Console) -> None:
    console.print(Text(showable(line, console)), soft_wrap=not console.is_terminal)
