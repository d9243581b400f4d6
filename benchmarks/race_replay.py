"""The race of the program itself, run again and again over a study that trained everything.

    python benchmarks/race_replay.py results/measured/sdxl-exhaustive [--rounds 100]

The study holds every architecture of a space with the same seeds, trained to the end. A round draws
some of them at random, as a search would propose them, and races them under the study's budget by
the rule, the beliefs and the ledger that `nas-t2i search` uses; only the training is looked up. So
what it finds can be held against what was there: the best of all that were drawn, by the mean over
its seeds. Beside it, at the same compute: random search (in order, one seed, to the end), and
plain successive halving by the held-out loss or by the text gain.

best: how often the best is picked; top 3: how often one of the best three; regret: TIFA of the best
less TIFA of the one picked, mean and standard error over rounds; full: trials that reached the last
rung. Of the race also: said, the mean probability of being the best that it gives to the one that
it picks (where it says the truth, it is `best`); ranks, how often the 95 % interval of a rank holds
it. The truth is itself a mean over few seeds, which are among those that the race saw.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import CurvePoint, EndEvent, Profile
from nas_t2i.search.racing.belief import draws
from nas_t2i.search.racing.known import known_entries
from nas_t2i.search.racing.ledger import Piece
from nas_t2i.search.stopping.race import Race
from nas_t2i.store import read_contents


@dataclass
class Recorded:
    """An architecture whose training is looked up: what a race reads of a candidate."""

    name: str
    key: tuple[str, str]
    profile: Profile
    points: dict[int, dict[int, CurvePoint]] = field(default_factory=dict)  # rung -> seed -> point
    control: str = ""
    ends: dict[int, EndEvent] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those on record."""
        return tuple(sorted(next(iter(self.points.values()))))

    def final(self, metric: str) -> float:
        """The mean over seeds at the last rung."""
        points = self.points[max(self.points)].values()
        return float(np.mean([point.scores[metric].value for point in points]))


class Found(NamedTuple):
    """What a search of some architectures ended with."""

    picked: int
    full: int
    said: float = math.nan  # P(best) of the one picked
    ranks_held: float = math.nan  # share of the architectures whose interval holds their rank


def load(folder: Path) -> tuple[Budget, list[Recorded]]:
    """Read a study's budget and all architectures that were trained to the end with all seeds."""
    contents = read_contents(folder)
    budget = recorded_budget(contents.record.budget.data, folder / "study.json")
    found: dict[str, Recorded] = {}
    for trial in contents.trials:
        if trial.control:
            continue
        made = Recorded(trial.name, (trial.arch_id, ""), trial.profile)
        recorded = found.setdefault(trial.arch_id, made)
        for point in trial.curve:
            recorded.points.setdefault(point.step, {})[trial.seed] = point
    last = budget.rungs[-1]
    most = max(len(r.points.get(last, {})) for r in found.values())
    return budget, [r for r in found.values() if len(r.points.get(last, {})) == most]


def race(
    budget: Budget, field_: Sequence[Recorded], compute: float, seed: int, ahead: int = 4
) -> Found:
    """Race by the program's own rule, as `search/racing/driver.py` decides."""
    rule = Race(rule="race", compute=compute, ahead=ahead)
    rungs, metric = budget.rungs, budget.evaluation.metric
    by_key = {recorded.key: recorded for recorded in field_}
    pieces: list[Piece] = []

    def give(recorded: Recorded, seed_: int, begin: int, step: int, why: str) -> None:
        pieces.append(
            Piece(
                number=len(pieces),
                name=recorded.name,
                arch_id=recorded.key[0],
                control="",
                seed=seed_,
                begin=begin,
                step=step,
                why=why,
                known=0,
                table=[],
            )
        )

    for recorded in field_:
        give(recorded, recorded.seeds[0], 0, rungs[0], "first")
    while True:
        chosen = None
        for known in range(max(0, len(pieces) - ahead), len(pieces) + 1):
            entries = known_entries(by_key, pieces, known)  # type: ignore[arg-type]
            contenders = [entry.contender(rungs) for entry in entries]
            if not any(contender.free for contender in contenders):
                continue
            if not all(entry.reached for entry in entries):
                continue
            chosen = rule.choose(contenders, draws(budget, entries, seed, len(pieces)))
            break
        if chosen is None:
            break
        following = entries[chosen].next_piece(rungs)
        assert following is not None
        spent = sum(entry.steps for entry in entries)
        if spent + following[2] - following[1] > compute * rungs[-1]:
            break
        give(field_[chosen], *following, "race")
    entries = known_entries(by_key, pieces, len(pieces))  # type: ignore[arg-type]
    drawn = draws(budget, entries, seed, len(pieces))
    best = np.bincount(np.argmax(drawn, axis=1), minlength=len(entries)) / len(drawn)
    picked = int(np.argmax(drawn.mean(axis=0)))
    order = np.argsort(-drawn, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(entries))[None], axis=1)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
    true = np.argsort(np.argsort([-recorded.final(metric) for recorded in field_]))
    return Found(
        picked,
        sum(rungs[-1] in entry.reached.values() for entry in entries),
        float(best[picked]),
        float(((low <= true) & (true <= high)).mean()),
    )


def random_search(budget: Budget, field_: Sequence[Recorded], compute: float, seed: int) -> Found:
    """Train in order, one seed each, to the end."""
    del seed
    seen = field_[: int(compute)]
    last, metric = budget.rungs[-1], budget.evaluation.metric
    values = [recorded.points[last][recorded.seeds[0]].scores[metric].value for recorded in seen]
    return Found(int(np.argmax(values)), len(seen))


def halving(signal: str) -> Callable[[Budget, Sequence[Recorded], float, int], Found]:
    """Return successive halving by a signal; at full rungs by the score."""
    sign = 1 if SIGNALS[signal].better == "larger" else -1

    def run(budget: Budget, field_: Sequence[Recorded], compute: float, seed: int) -> Found:
        del seed
        rungs, metric = budget.rungs, budget.evaluation.metric

        def price(keep: float) -> float:
            steps = np.diff((0, *rungs)) / rungs[-1]
            return float(sum(len(field_) * keep**r * s for r, s in enumerate(steps)))

        keep = max((k for k in np.arange(0.2, 1.0, 0.01) if price(k) <= compute), default=0.2)
        left = list(range(len(field_)))
        for number, rung in enumerate(rungs):

            def value(i: int, rung: int = rung) -> float:
                point = field_[i].points[rung][field_[i].seeds[0]]
                if metric in point.scores:
                    return point.scores[metric].value
                return sign * point.signals[signal].value

            left = sorted(left, key=value, reverse=True)
            if rung == rungs[-1]:
                return Found(left[0], len(left))
            left = left[: max(1, round(len(field_) * keep ** (number + 1)))]
        raise AssertionError

    return run


def main() -> None:
    """Print a line for each rule and compute."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--compute", type=float, nargs="+", default=[8.0, 12.0, 16.0])
    given = parser.parse_args()
    budget, everything = load(given.study)
    rules = {
        "race": race,
        "halving by held-out loss": halving("heldout_loss"),
        "halving by text gain": halving("text_gain"),
        "random search": random_search,
    }
    print(
        f"{len(everything)} architectures of {given.study.name} with {len(everything[0].seeds)} "
        f"seeds; {given.architectures} of them a round, {given.rounds} rounds; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':26}compute  best  top 3         regret  full  said  ranks")
    metric = budget.evaluation.metric
    for compute in given.compute:
        for name, rule in rules.items():
            rows = []
            for number in range(given.rounds):
                rng = np.random.default_rng(number)
                chosen = rng.choice(len(everything), given.architectures, replace=False)
                drawn = [replace(everything[i]) for i in chosen]
                finals = np.array([recorded.final(metric) for recorded in drawn])
                found = rule(budget, drawn, compute, number)
                rank = int((finals > finals[found.picked]).sum())
                regret = float(finals.max() - finals[found.picked])
                rows.append((rank == 0, rank < 3, regret, *found[1:]))
            values = np.array(rows, dtype=float)
            best, top, regret, full, said, ranks = values.mean(axis=0)
            error = values[:, 2].std(ddof=1) / math.sqrt(given.rounds)
            print(
                f"{name:26}{compute:7g}  {best:4.2f}  {top:5.2f}  {regret:.4f} ± {error:.4f}  "
                f"{full:4.1f}  {said:4.2f}  {ranks:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
