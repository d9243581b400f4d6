"""What a search shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import compact, duration, gmacs_text
from nas_t2i.cli.output.race_status import RaceStatus, line
from nas_t2i.protocol.rungs import described
from nas_t2i.protocol.search import RacingRule
from nas_t2i.records import CurvePoint, EndEvent, ProgressEvent, Score, Signal, TrialState
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable, write_leaderboard
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.racing.ledger import Piece
from nas_t2i.search.session import SearchRequest

_SHOWN_SIGNALS = ("heldout_loss", "text_gain")
_RANKING_SHARE = 1 / 300  # of the search's time, at most, goes into rankings on the way
_GUESS_SECONDS = 90.0  # for a trial, before any has been seen


@dataclass
class _Row:
    """A trial under way."""

    candidate: Candidate
    seed: int
    since: float
    step: int = 0
    loss: float | None = None
    seconds: float = 0.0
    score: str = ""


class Progress:
    """Listens to the driver; keeps the leaderboard on disk current."""

    def __init__(
        self, request: SearchRequest, candidates: list[Candidate], console: Console
    ) -> None:
        self._request, self._candidates, self.console = request, candidates, console
        self._budget = request.budget
        self._metric = display_name(request.budget.evaluation.metric)
        self._total, self._parallel = request.architectures, request.parallel
        self._rows: dict[tuple[str, str, int], _Row] = {}
        self._begin = time.monotonic()
        self._rank_after = self._begin
        self._trial_seconds: list[float] = []  # of trials that ended here
        self._saved: dict[tuple[str, str, int], float] = {}  # of those reused: seconds not spent
        # Kept as trials start and end: to count them anew takes longer the more there are.
        self._ends = {c.key: len(c.ends) for c in candidates}
        self._finished = {c.key for c in candidates if c.finished and not c.control}
        self._controls = {c.key for c in candidates if c.control}
        self._had = self._ended = sum(self._ends.values())
        self._best: tuple[float, str] | None = None
        self._live: Live | None = None
        rule = request.budget.search.early_stopping
        self._race = RaceStatus(request, rule) if isinstance(rule, RacingRule) else None

    def begin(self) -> None:
        """Show the first line, and the live table on a terminal."""
        known = f", {len(self._candidates)} known from before" if self._candidates else ""
        self.console.print(
            f"study {self._request.study}: {self._total} architectures x "
            f"{'at most ' if self._race else ''}{len(self._request.seeds)} seed(s), "
            f"{described(self._budget.rungs)}, {self._parallel} side by side{known}",
            highlight=False,
            soft_wrap=True,
        )
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    @property
    def is_live(self) -> bool:
        """Whether the live table is on the screen."""
        return self._live is not None

    def end(self) -> None:
        """Take the live table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, candidate: Candidate, seed: int) -> None:
        """Show a new trial."""
        self._rows[(*candidate.key, seed)] = _Row(candidate, seed, time.monotonic())
        self._count(candidate)
        profile = candidate.profile
        size = f"{compact(profile.params)} params, {gmacs_text(profile.gmacs)} GMACs"
        self._log(candidate, seed, "start", size)

    def progress(self, candidate: Candidate, seed: int, event: ProgressEvent) -> None:
        """Move a trial's bar."""
        row = self._rows[(*candidate.key, seed)]
        row.step, row.loss, row.seconds = event.step, event.loss, event.seconds

    def reached_rung(self, candidate: Candidate, seed: int, point: CurvePoint) -> None:
        """Show a trial's score, or the signals of a rung without one."""
        row = self._rows[(*candidate.key, seed)]
        row.step, row.seconds = point.step, point.seconds
        if seed in candidate.reused:
            self._saved[(*candidate.key, seed)] = point.seconds + point.evaluation_seconds
        if self._race is not None:
            earlier = [by[seed] for by in candidate.points.values() if seed in by]
            earlier = [p for p in earlier if p.step < point.step]
            seconds = point.seconds - max((p.seconds for p in earlier), default=0.0)
            self._race.trained(
                point.step - max((p.step for p in earlier), default=0),
                0.0 if seed in candidate.reused else seconds,
            )
        shown = [point.signals[name] for name in _SHOWN_SIGNALS if name in point.signals]
        told = [f"{display_name(signal.name)} {_with_error(signal)}" for signal in shown]
        if not shown:
            told = [f"loss {point.loss:.4f}"]
        if point.scores:
            told = self._scores(candidate, row, point) + told
        self._log(
            candidate,
            seed,
            f"step {point.step}/{self._budget.training.steps}",
            ", ".join([*told, f"{point.seconds:.0f} s"]),
        )

    def _scores(self, candidate: Candidate, row: _Row, point: CurvePoint) -> list[str]:
        """Keep the score for the live table; return what the line says of all scores."""
        score = point.scores[self._budget.evaluation.metric]
        row.score = f"{score.value:.3f} ± {score.stderr:.3f}"
        if point.step == self._budget.rungs[-1] and not candidate.control:
            reached = (score.value, candidate.name)
            self._best = max(self._best or reached, reached)
        chance = "" if score.chance is None else f" (chance {score.chance:.2f})"
        others = [s for s in point.scores.values() if s is not score]
        additional = [f"{display_name(s.metric)} {_with_error(s)}" for s in others]
        return [f"{self._metric} {row.score}{chance}", *additional]

    def ended(self, candidate: Candidate, seed: int, end: EndEvent) -> None:
        """Take a trial's row away and rank anew."""
        row = self._rows.pop((*candidate.key, seed))
        self._count(candidate)
        origin = candidate.reused.get(seed)
        if end.state is not TrialState.INTERRUPTED:
            self._trial_seconds.append(time.monotonic() - row.since)
        told = (end.state.value, end.reason)
        if self._race is not None and end.state is TrialState.STOPPED:
            told = ("paused", "")  # it may be taken up again
        if origin is not None:
            told = (told[0], "; ".join(filter(None, (told[1], f"reused from {origin.study}"))))
        self._log(candidate, seed, *told)
        self._write_leaderboard()

    def _count(self, candidate: Candidate) -> None:
        ends = len(candidate.ends)
        self._ended += ends - self._ends.get(candidate.key, 0)
        self._ends[candidate.key] = ends
        if candidate.control:
            self._controls.add(candidate.key)
        elif candidate.finished:
            self._finished.add(candidate.key)
        else:
            self._finished.discard(candidate.key)

    def _write_leaderboard(self) -> None:
        """Rank anew, unless that takes more than a small share of the search's time.

        A ranking costs more the more there are to rank; the last one is written when the search
        ends, whatever it costs.
        """
        begin = time.monotonic()
        if begin >= self._rank_after:
            write_leaderboard(self._request.folder)
            took = time.monotonic() - begin
            self._rank_after = time.monotonic() + took / _RANKING_SHARE

    def decided(self, piece: Piece) -> None:
        """Say whom a race trains on, and why."""
        assert self._race is not None
        self._race.decided(piece)
        if piece.why in ("race", "finish"):
            self._print(line(piece, self._race, time.monotonic() - self._begin))

    def tick(self) -> None:
        """Redraw."""
        if self._live is not None:
            self._live.update(self._image())

    def summary(self) -> str:
        """Return the last line: what was done, how long it took, where it lies."""
        ran = self._ended - self._had
        done = f"{ran} trial{'s' * (ran != 1)} in {duration(time.monotonic() - self._begin)}"
        if self._saved:
            saved = duration(sum(self._saved.values()))
            done += f", {len(self._saved)} of them reused from other studies ({saved} saved)"
        if not ran:
            done = "the study was complete already; more --trials extend it"
        return f"{done}; leaderboard, curves and images in {self._request.place}/"

    def _log(self, candidate: Candidate, seed: int, what: str, more: str) -> None:
        clock = duration(time.monotonic() - self._begin)
        eta = f" | ETA {duration(self._eta())}" if what.startswith("step") else ""
        done = self._done()
        text = (
            f"{clock:>7} [{done}/{self._total}] {candidate.name} "
            f"seed {seed}: {what}" + (f", {more}" if more else "") + eta
        )
        self._print(text)

    def _print(self, text: str) -> None:
        text = showable(text, self.console)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _done(self) -> int:
        """Return how many architectures are finished; of a race, how many have begun."""
        if self._race is not None:
            return self._race.begun
        return len(self._finished)

    def _eta(self) -> float:
        """Estimate the seconds left: what runs, and what is still to come, side by side."""
        if self._race is not None:
            first = self._budget.rungs[0]  # about what a trial under way still has before it
            ahead = self._race.eta(time.monotonic() - self._begin, first * len(self._rows))
            return _GUESS_SECONDS * self._total / self._parallel if ahead is None else ahead
        seen = self._trial_seconds
        typical = sum(seen) / len(seen) if seen else _GUESS_SECONDS
        now = time.monotonic()
        left = sum(max(0.0, typical - (now - row.since)) for row in self._rows.values())
        known, seeds = len(self._candidates), len(self._request.seeds)
        waiting = known * seeds - self._ended - len(self._rows)
        to_come = max(0, self._total + len(self._controls) - known) * seeds
        left += typical * (max(0, waiting) + to_come)
        return left / self._parallel

    def _image(self) -> Group:
        done = self._done()
        race = f"  {self._race.described()}" if self._race is not None else ""
        best = f"  best {self._best[1]} {self._best[0]:.3f}" if self._best else ""
        head = Text(
            f"{done}/{self._total} architectures{' begun' if self._race else ''}  "
            f"elapsed {duration(time.monotonic() - self._begin)}  "
            f"ETA {duration(self._eta())}{best}{race}"
        )
        table = Table(box=None, pad_edge=False)
        score = showable(f"{self._metric} ± SE", self.console)
        for title in ("trial", "", "step", "loss", score, "params", "GMACs"):
            table.add_column(title, justify="left" if title in ("trial", "") else "right")
        total = self._budget.training.steps
        for row in self._rows.values():
            profile = row.candidate.profile
            table.add_row(
                f"{row.candidate.name} s{row.seed}",
                ProgressBar(total=total, completed=row.step, width=20),
                f"{row.step}/{total}",
                "" if row.loss is None else f"{row.loss:.4f}",
                showable(row.score, self.console),
                compact(profile.params),
                gmacs_text(profile.gmacs),
            )
        return Group(head, table)


def _with_error(score: Score | Signal) -> str:
    """Return value and standard error; FID of very few images has none."""
    error = f" ± {score.stderr:.2g}" if math.isfinite(score.stderr) else ""
    return f"{score.value:.4g}{error}"
