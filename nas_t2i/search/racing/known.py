"""A race as it is known after its first so many pieces: a function of the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nas_t2i.protocol.search import Contender
from nas_t2i.records import CurvePoint, TrialState
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.racing.ledger import Piece

# Of the steps; up to there a piece of training ends at the next rung. benchmarks/race_replay.py and
# racing_rules.py compare it with other ends.
EARLY_SHARE = 0.2
_DEAD = (TrialState.FAILED, TrialState.DIVERGED)


def is_dead(candidate: Candidate, seed: int) -> bool:
    """Whether a seed's trial broke: nothing more will come of it."""
    end = candidate.ends.get(seed)
    return end is not None and end.state in _DEAD


def is_done(candidate: Candidate, piece: Piece) -> bool:
    """Whether all that a piece can show is on record."""
    return piece.seed in candidate.points.get(piece.step, {}) or is_dead(candidate, piece.seed)


@dataclass
class Entry:
    """One architecture of a race."""

    candidate: Candidate
    given: dict[int, int] = field(default_factory=dict)  # seed -> the step it was given up to
    reached: dict[int, int] = field(default_factory=dict)  # seed -> the last rung that is known
    busy: bool = False  # a piece of it is not known yet
    out: bool = False

    @property
    def steps(self) -> int:
        """Steps given to it, all seeds together."""
        return sum(self.given.values())

    def curves(self) -> dict[int, list[CurvePoint]]:
        """Return for each seed what is known of it, by step."""
        points = self.candidate.points
        return {
            seed: [
                points[step][seed]
                for step in sorted(points)
                if step <= last and seed in points[step]
            ]
            for seed, last in sorted(self.reached.items())
        }

    def next_piece(self, rungs: Sequence[int]) -> tuple[int, int, int] | None:
        """Return (seed, where it stands, where it is to get): one seed to its end, then the next.

        The early rungs are gone through one by one; whoever is chosen after them is trained to the
        last one. Half-trained to a late rung, a trial has cost much and says little more.
        """
        if self.out:
            return None
        for seed in self.candidate.seeds:
            begin = self.given.get(seed, 0)
            if begin < rungs[-1]:
                following = next(rung for rung in rungs if rung > begin)
                early = following <= EARLY_SHARE * rungs[-1]
                return seed, begin, following if early else rungs[-1]
        return None

    def contender(self, rungs: Sequence[int], costs: tuple[float, ...] = ()) -> Contender:
        """Return what a racing rule sees of it."""
        free = not self.busy and self.next_piece(rungs) is not None
        return Contender(self.candidate.name, self.steps, free, costs)


def known_entries(
    candidates: dict[tuple[str, str], Candidate], pieces: Sequence[Piece], count: int
) -> list[Entry]:
    """Return the entries in order of their first piece; controls do not race.

    The first `count` pieces are known, and done; of later ones only that they were given.
    """
    entries: dict[tuple[str, str], Entry] = {}
    for piece in pieces:
        candidate = candidates[piece.key]
        if candidate.control:
            continue
        entry = entries.setdefault(candidate.key, Entry(candidate))
        entry.given[piece.seed] = max(piece.step, entry.given.get(piece.seed, 0))
        if piece.number >= count:
            entry.busy = True
        elif piece.seed in candidate.points.get(piece.step, {}):
            entry.reached[piece.seed] = piece.step
        else:
            entry.out = True
    return list(entries.values())
