"""The search loop of a race: pieces of training, one decision after another.

Decision number k is made on what the first k - `ahead` pieces showed and on nothing else, whatever
else is known by then. So it does not depend on who answers first, and up to `ahead` pieces are
under way at a time without anybody waiting. Where every architecture that may be chosen has a
piece under way, one more piece has to be known: a place may then be idle for as long as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nas_t2i.errors import StorageError
from nas_t2i.protocol.search import RacingRule
from nas_t2i.ranking.front import on_front
from nas_t2i.records import RungEvent, TrialEvent
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.driver import Driver, Run
from nas_t2i.search.objectives.values import exact_costs
from nas_t2i.search.racing.belief import draws, first_outcome
from nas_t2i.search.racing.known import Entry, is_done, known_entries
from nas_t2i.search.racing.ledger import RACE_FILE, Ledger, Piece, Standing
from nas_t2i.search.resume.outcome import attributes_of, measured

_VALUE_IS = (
    "how well it did at the first rung, larger is better; what became of it stands in the study's "
    "attributes"
)


@dataclass(kw_only=True)
class RaceDriver(Driver):
    """Runs a study as a race under its budget's racing rule."""

    rule: RacingRule
    ledger: Ledger
    seed: int
    _by_key: dict[tuple[str, str], Candidate] = field(default_factory=dict)
    _queued: list[Piece] = field(default_factory=list)
    _under_way: dict[tuple[str, str, int], Piece] = field(default_factory=dict)
    _told: set[tuple[str, str]] = field(default_factory=set)
    _all_begun: bool = False

    def _prepare(self) -> None:
        self._by_key = {candidate.key: candidate for candidate in self.candidates}
        pieces = self.ledger.pieces
        for piece in pieces:
            # Decided on, and killed before its trial said a word: it is among those to come.
            while piece.key not in self._by_key and self._next_candidate(planned_only=True):
                pass
            if piece.key not in self._by_key:
                raise StorageError(
                    f"study {self.study_name!r}: {RACE_FILE} tells of {piece.name}, which neither "
                    "the trials nor the space know; choose another --study"
                )
        latest = {(*piece.key, piece.seed): piece for piece in pieces}
        # A seed has one piece under way at most: its last one.
        self._queued = [
            piece
            for piece in pieces
            if latest[*piece.key, piece.seed] is piece and not self._settled(piece)
        ]

    def _start_what_fits(self) -> bool:
        """Decide on as many pieces as there are places; hand them out; return whether any was."""
        while len(self._under_way) + len(self._queued) < self._places:
            if self._hopeless() or (piece := self._decide_next()) is None:
                break
            self.ledger.append(piece)
            self.listener.decided(piece)
            self._queued.append(piece)
        given = sum([self._hand_out(piece) for piece in list(self._queued)])
        self._dismiss(len(self._running) + len(self._queued) - self._places)
        return given > 0

    def _hand_out(self, piece: Piece) -> bool:
        """Let a waiting trial go on, or start one where there is a place; return whether."""
        candidate = self._by_key[piece.key]
        run = self._run_of(candidate, piece.seed)
        if run is not None:
            if run.waits_at is None:  # on its way out: it is started again when it has gone
                return False
            first, run.waits_at = run.waits_at, None
        elif len(self._running) < self._places:
            first, run = 0, self._start(candidate, piece.seed)
        else:
            return False
        for rung in self.budget.rungs:
            if first <= rung < piece.step:
                run.trial.decide(rung, True)
        self._queued.remove(piece)
        self._under_way[*piece.key, piece.seed] = piece
        return True

    def _dismiss(self, places: int) -> None:
        """Send waiting trials to rest, so that others find a place: their checkpoints stay."""
        if not self._queued and not self._under_way:
            places = len(self._running)  # it is over
        for run in [run for run in self._running if run.waits_at is not None][: max(0, places)]:
            assert run.waits_at is not None
            rung, run.waits_at = run.waits_at, None
            run.trial.decide(rung, False)

    def _run_of(self, candidate: Candidate, seed: int) -> Run | None:
        runs = (r for r in self._running if r.candidate is candidate and r.seed == seed)
        return next(runs, None)

    def _handle(self, run: Run, event: TrialEvent) -> None:
        key = (*run.candidate.key, run.seed)
        super()._handle(run, event)
        run_piece = self._under_way.get(key)
        if run not in self._running:
            self._under_way.pop(key, None)
            last = self._last_piece(*key)
            if last not in self._queued and not self._settled(last):
                self._queued.insert(0, last)
        elif isinstance(event, RungEvent) and run_piece is not None:
            # A trial that begins again tells its old rungs, too, and waits at none of them.
            run.waits_at = None
            if event.point.step == run_piece.step:
                del self._under_way[key]
                if event.point.step < self.budget.rungs[-1]:
                    run.waits_at = event.point.step

    def _decide(self, run: Run) -> None:
        """Nothing: waiting trials are answered when the next piece is known."""

    def _tell(self, candidate: Candidate) -> None:
        """Note what is known by now; what the sampler learns, and when: `_tell_sampler`."""
        try:
            self.optuna.note(candidate.name, candidate.sizes | attributes_of(candidate))
        except StorageError:
            if not self._leaving:
                raise

    def _number_of(self, candidate: Candidate, seed: int) -> int:
        """Return the number of a trial's first piece, whoever was started first."""
        pieces = (p for p in self.ledger.pieces if p.key == candidate.key and p.seed == seed)
        return next(pieces).number

    def _done(self, piece: Piece) -> bool:
        return is_done(self._by_key[piece.key], piece)

    def _settled(self, piece: Piece) -> bool:
        """Whether a seed's last piece is done and its trial had its say: at rest, or at its end.

        One that was cut off while it waited, or after its last rung, is started once more for that.
        """
        return self._done(piece) and piece.seed in self._by_key[piece.key].ends

    def _last_piece(self, arch_id: str, control: str, seed: int) -> Piece:
        own = (arch_id, control, seed)
        return next(p for p in reversed(self.ledger.pieces) if (*p.key, p.seed) == own)

    # Decisions

    def _decide_next(self) -> Piece | None:
        """Return the next piece; None: the race is over, or it depends on what is under way."""
        pieces = self.ledger.pieces
        if not self._may_propose() and not self._all_begun:
            return None  # when all that runs waits, it is sent to rest
        for known in range(max(0, len(pieces) - self.rule.ahead), len(pieces) + 1):
            if not all(self._done(piece) for piece in pieces[:known]):
                return None
            self._tell_sampler(known)
            if (piece := self._first_piece(known)) is not None:
                return piece
            entries = known_entries(self._by_key, pieces, known)
            contenders = [entry.contender(self.budget.rungs) for entry in entries]
            if known < len(pieces) and not any(contender.free for contender in contenders):
                continue
            return self._choose(entries, known)
        return None

    def _first_piece(self, known: int) -> Piece | None:
        """Return the first piece of a new architecture, or all of a control, if there is one."""
        pieces = self.ledger.pieces
        begun = {piece.key for piece in pieces}
        # At most one: proposed by a process that was killed before it decided.
        waiting = [candidate for candidate in self.candidates if candidate.key not in begun]
        candidate = waiting[0] if waiting else None
        if candidate is None:
            if self._all_begun:
                return None
            candidate = self._next_candidate(planned_only=self._tried() >= self.trials)
            if candidate is None:
                self._all_begun = True
                return None
        rungs = self.budget.rungs
        if candidate.control:
            return self._piece(candidate, (candidate.seeds[0], 0, rungs[-1]), "control", known)
        return self._piece(candidate, (candidate.seeds[0], 0, rungs[0]), "first", known)

    def _next_candidate(self, *, planned_only: bool) -> Candidate | None:
        candidate = self.proposals.next(planned_only=planned_only)
        if candidate is not None:
            self.candidates.append(candidate)
            self._by_key[candidate.key] = candidate
        return candidate

    def _choose(self, entries: list[Entry], known: int) -> Piece | None:
        """Ask the rule; when it is done, or compute is spent, bring the leader to the last rung."""
        rungs, pieces = self.budget.rungs, self.ledger.pieces
        racing = [entry for entry in entries if not entry.out and entry.reached]
        if not racing:
            return None
        costs = [exact_costs(self.budget, entry.candidate) for entry in racing]
        contenders = [e.contender(rungs, own) for e, own in zip(racing, costs, strict=True)]
        drawn = draws(self.budget, racing, self.seed, len(pieces))
        ranked = drawn[..., self._ranked] if drawn.ndim == 3 else drawn
        best = np.bincount(np.argmax(ranked, axis=1), minlength=len(racing)) / len(drawn)
        front = on_front(drawn, np.array(costs)).mean(axis=0) if self.budget.objectives else None
        table = [
            Standing(
                name=entry.candidate.name,
                steps=entry.steps,
                reached=entry.reached,
                best=round(float(best[i]), 4),
                front=None if front is None else round(float(front[i]), 4),
            )
            for i, entry in enumerate(racing)
        ]
        if any(contender.free for contender in contenders):
            chosen = self.rule.choose(contenders, drawn)
            if chosen is not None:
                entry = racing[chosen]
                following = entry.next_piece(rungs)
                assert following is not None
                spent = sum(entry.steps for entry in entries)
                if spent + following[2] - following[1] <= self.rule.compute * rungs[-1]:
                    return self._piece(entry.candidate, following, "race", known, table)
        if known < len(pieces):
            # Whatever is still under way may change who leads: all of it has to be known.
            if not all(self._done(piece) for piece in pieces):
                return None
            everything = known_entries(self._by_key, pieces, len(pieces))
            return self._choose(everything, len(pieces))
        leader = racing[int(np.argmax(best))]
        if rungs[-1] in leader.reached.values():
            return None
        following = leader.next_piece(rungs)
        assert following is not None
        return self._piece(leader.candidate, following, "finish", known, table)

    @property
    def _ranked(self) -> int:
        """The place of the ranked metric among the measured objectives."""
        measured = [one.name for one in self.budget.objectives if not one.exact]
        return measured.index(self.budget.evaluation.metric)

    def _piece(
        self,
        candidate: Candidate,
        following: tuple[int, int, int],
        why: Literal["first", "race", "finish", "control"],
        known: int,
        table: list[Standing] | None = None,
    ) -> Piece:
        seed, begin, step = following
        return Piece(
            number=len(self.ledger.pieces),
            name=candidate.name,
            arch_id=candidate.arch.arch_id,
            control=candidate.control,
            seed=seed,
            begin=begin,
            step=step,
            why=why,
            known=known,
            table=table or [],
        )

    def _tell_sampler(self, known: int) -> None:
        """Let the sampler learn what every architecture showed at the first rung, in order."""
        for piece in self.ledger.pieces[:known]:
            candidate = self._by_key[piece.key]
            if piece.why != "first" or piece.key in self._told or candidate.optuna_number is None:
                continue
            self._told.add(piece.key)
            point = candidate.points.get(piece.step, {}).get(piece.seed)
            told = attributes_of(candidate)
            if point is not None:
                told = measured({piece.step: {piece.seed: point}})
                told["value_is"] = _VALUE_IS
            outcome = replace(first_outcome(self.budget, candidate, point), attributes=told)
            candidate.optuna_number = self.optuna.agree(candidate.optuna_number, outcome)
