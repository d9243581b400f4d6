"""Whether a race's predictions hold: its intervals against the same space, trained to the end.

    cd results/measured && python ../../benchmarks/predictions_held.py sdxl-embedded sdxl-exhaustive

An architecture is found in the second study by what was trained of it: where a proxy stands for
several architectures, any of them. Its final score there is the mean over that study's seeds, and
its rank there is among the architectures of the race. Trials that are the same in both studies
agree by themselves: of scores those that the race predicted are counted, of ranks all.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.errors import UserError
from nas_t2i.results.figures.ranked import ranked
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.statistics import spearman
from nas_t2i.store import read_contents


@dataclass(frozen=True)
class Outcome:
    """One architecture: what the race said, and what became of it when trained to the end."""

    row: LeaderboardRow
    score: float
    """Mean over the seeds of the exhaustive study, at its last rung."""
    rank: int
    """By that, among the architectures of the race."""

    @property
    def score_held(self) -> bool:
        """Whether the score is inside the race's interval."""
        low, high = self.row.expected_low, self.row.expected_high
        return low is not None and high is not None and low <= self.score <= high

    @property
    def rank_held(self) -> bool:
        """Whether the rank is inside the race's interval."""
        low, high = self.row.rank_low, self.row.rank_high
        return low is not None and high is not None and low <= self.rank <= high


def outcomes(race: Path, exhaustive: Path) -> list[Outcome]:
    """Return what became of every architecture of a race, in the order of its ranking.

    Raises:
        UserError: two budgets, or an architecture that was not trained to the end.
    """
    first, second = (ranked([read_contents(folder)]) for folder in (race, exhaustive))
    records = first.studies[0].record, second.studies[0].record
    if records[0].budget_id != records[1].budget_id:
        raise UserError(
            f"{race}: got the budget {records[0].budget_id}; expected that of {exhaustive}, "
            f"{records[1].budget_id}"
        )
    trained = {t.arch_id: t.trained_profile.arch_id for t in (*first.trials, *second.trials)}
    last = records[1].rungs[-1]
    final = {
        trained[row.arch_id]: row.score
        for row in second.rows
        if not row.control and row.score is not None and row.step == last
    }
    for row in first.sound:
        if trained[row.arch_id] not in final:
            raise UserError(
                f"{exhaustive}: nothing like {row.name} of {race} at step {last}; expected every "
                "architecture of the race, trained to the end"
            )
    scores = [final[trained[row.arch_id]] for row in first.sound]
    sign = -1 if second.smaller_is_better else 1
    ranks = [1 + sum(sign * (other - score) > 0 for other in scores) for score in scores]
    return [Outcome(*found) for found in zip(first.sound, scores, ranks, strict=True)]


def main(race: Path, exhaustive: Path) -> None:
    """Print one row an architecture, then how many intervals hold."""
    found = outcomes(race, exhaustive)
    print(f"{'':34}{'the race said':22}{'':7}{'trained to the end':>20}")
    for one in found:
        row = one.row
        said = f"{row.expected_score:.3f} ({row.expected_low:.3f}-{row.expected_high:.3f})"
        ranks = f"{row.rank_low}-{row.rank_high}"
        held = {"score": one.score_held, "rank": one.rank_held}
        missed = [name for name, inside in held.items() if not inside]
        print(
            f"{row.name:34}{'~' if row.predicted else ' '}{said:21}{ranks:>7}"
            f"{one.score:14.3f}{one.rank:6}" + (f"  outside: {', '.join(missed)}" if missed else "")
        )
    predicted = [one for one in found if one.row.predicted]
    agreement = spearman([one.row.expected_score for one in found], [one.score for one in found])
    print(
        f"of {len(predicted)} predicted scores {sum(one.score_held for one in predicted)} lie in "
        f"their 95 % intervals; of {len(found)} ranks {sum(one.rank_held for one in found)} in "
        f"theirs; Spearman of expected and final scores {agreement:.2f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("race", type=Path, help="folder of the race's study")
    parser.add_argument("exhaustive", type=Path, help="folder of the study trained to the end")
    given = parser.parse_args()
    try:
        main(given.race, given.exhaustive)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
