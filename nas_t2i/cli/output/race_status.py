"""Where a race stands: how much of its compute is given away, and who leads."""

from __future__ import annotations

from nas_t2i.cli.output.numbers import duration
from nas_t2i.protocol.search import RacingRule
from nas_t2i.search.racing.known import EARLY_SHARE
from nas_t2i.search.racing.ledger import RACE_FILE, Piece, read_pieces
from nas_t2i.search.session import SearchRequest


class RaceStatus:
    """Follows the decisions of one race."""

    def __init__(self, request: SearchRequest, rule: RacingRule) -> None:
        rungs, self._parallel = request.budget.rungs, request.parallel
        self._first, self._last = rungs[0], rungs[-1]
        # The early rungs are gone through one by one; a piece after them ends at the last one.
        self._early = [rung for rung in rungs if rung <= EARLY_SHARE * rungs[-1]] or [rungs[0]]
        self._early_pieces = 0  # given, from one early rung to the next
        self._total = request.architectures
        self._compute, self._given, self._leader = rule.compute, 0, ""
        self._steps, self._seconds, self._pieces = 0, 0.0, 0  # trained by this process's trials
        self._keys: set[tuple[str, str]] = set()
        for piece in read_pieces(request.folder / RACE_FILE):
            self.decided(piece)

    def decided(self, piece: Piece) -> None:
        """Take one more decision in."""
        if piece.control:
            return
        self._keys.add(piece.key)
        self._given += piece.steps
        self._early_pieces += piece.begin > 0 and piece.step <= self._early[-1]
        if piece.table:
            first = max(piece.table, key=lambda standing: standing.best)
            self._leader = f", {first.name} is the best with {first.best:.0%}"
            members = [one.front for one in piece.table if one.front is not None]
            if members:
                self._leader = f", about {sum(members):.0f} of {len(members)} on the front"

    @property
    def begun(self) -> int:
        """How many architectures were given something."""
        return len(self._keys)

    def described(self) -> str:
        """Return how much is given away, in trials to the last rung, and who leads."""
        return f"{self._given / self._last:.1f} of {self._compute:g} trials given{self._leader}"

    def trained(self, steps: int, seconds: float) -> None:
        """Take in that a piece of so many steps took so many seconds of training."""
        self._steps, self._seconds = self._steps + steps, self._seconds + seconds
        self._pieces += 1

    def eta(self, elapsed: float, under_way: float) -> float | None:
        """Return the seconds left, from those `elapsed`; None before anything was trained.

        `under_way` are steps that were given and are still to be trained. Steps cost what steps
        did so far; each piece, besides, what starting, measuring and waiting did.
        """
        if not self._pieces:
            return None
        steps = max(0.0, self._compute * self._last - self._given) + under_way
        beside = max(0.0, elapsed * self._parallel - self._seconds) / self._pieces
        work = steps * self._seconds / self._steps + self._pieces_left(steps) * beside
        return work / self._parallel

    def _pieces_left(self, steps: float) -> float:
        """Guess how many pieces the steps that are left come in.

        In a race nearly everybody gets the early rungs, most of them before the long pieces to the
        last rung; who has not got them near the end will hardly do.
        """
        firsts = max(0, self._total - self.begun)
        all_early = self._total * (len(self._early) - 1)
        ways = self._early[-1] - self._first
        early_steps = ways / max(1, len(self._early) - 1)
        left = max(0.0, steps - firsts * self._first)
        beyond = max(1.0, self._compute * self._last - self._total * self._first)
        early_left = min(max(0.0, all_early - self._early_pieces), all_early * left / beyond)
        early_left = min(early_left, left / early_steps) if early_steps else 0.0
        long = self._last - self._early[-1]
        later = max(0.0, left - early_left * early_steps) / long if long else 0.0
        return firsts + early_left + later


def why(piece: Piece) -> str:
    """Say in a few words why a piece was given."""
    if piece.why != "race":
        return {"first": "", "finish": "leads", "control": "control"}[piece.why]
    own = next(standing for standing in piece.table if standing.name == piece.name)
    if own.front is not None:
        return f"on the front with {own.front:.0%}"
    return f"the best with {own.best:.0%}"


def line(piece: Piece, status: RaceStatus, elapsed: float) -> str:
    """Return the line that tells of a decision."""
    reason = f" ({why(piece)})" if why(piece) else ""
    return (
        f"{duration(elapsed):>7} {piece.name} seed {piece.seed}: to step {piece.step}{reason}; "
        f"{status.described()}"
    )
