"""The answer in three sentences, each with its uncertainty."""

from __future__ import annotations

from nas_t2i.errors import named, number_of
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import interval, percent, score
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name


def answer(found: RankedStudies) -> list[str]:
    """Return who is best, how sure that is, and what can't be told apart from it."""
    if not found.sound:
        return [_nothing_yet(found)]
    best = found.sound[0]
    return [_who(found, best), _how_sure(found, best), _what_ties(found, best)]


def _nothing_yet(found: RankedStudies) -> str:
    if not found.rows:
        return "No trial is on record yet, so there is nothing to rank."
    states = ", ".join(sorted({row.state.value for row in found.rows}))
    return (
        f"{number_of(len(found.rows), 'architecture')} on record, none with a score "
        f"({states}), so there is nothing to rank."
    )


def _who(found: RankedStudies, best: LeaderboardRow) -> str:
    metric, count = display_name(found.metric), len(found.sound)
    measured = (
        f"measured with {number_of(best.measured_seeds, 'seed')}"
        if best.measured_seeds
        else "predicted from earlier rungs"
    )
    expected = (
        f"expected {metric} at the last rung {score(best.expected_score)} "
        f"(95 % interval {interval(best.expected_low, best.expected_high)}), {measured}"
    )
    if count == 1:
        return f"{best.name} is the only architecture with a measurement: {expected}."
    return (
        f"{best.name} is the best of {count} architectures with probability "
        f"{percent(best.probability_best)}: {expected}."
    )


def _how_sure(found: RankedStudies, best: LeaderboardRow) -> str:
    ranks = (
        f"is {best.rank_low}"
        if best.rank_low == best.rank_high
        else f"lies between {best.rank_low} and {best.rank_high}"
    )
    sentence = f"Its true rank {ranks} with 95 %"
    if len(found.sound) > 1:
        second = found.sound[1]
        sentence += (
            f"; the next is {second.name}, the best with probability "
            f"{percent(second.probability_best)}, expected {score(second.expected_score)} "
            f"({interval(second.expected_low, second.expected_high)})"
        )
    return sentence + "."


def _what_ties(found: RankedStudies, best: LeaderboardRow) -> str:
    names = set(best.tied_with or ())
    tied = [row for row in found.sound if row.name in names]
    if len(found.sound) == 1:
        return "There is nothing to tell it apart from."
    if not tied:
        return (
            "Compared pair by pair, every other architecture can be told apart from it (of equal "
            "pairs 5 % are, by luck)."
        )
    sentence = (
        f"Compared pair by pair, {number_of(len(tied), 'architecture')} can't be told apart from "
        f"it: {named(row.name for row in tied)}"
    )
    cheapest = min(tied, key=lambda row: row.gmacs)
    if cheapest.gmacs < best.gmacs:
        share = cheapest.gmacs / best.gmacs
        sentence += f"; the cheapest of them, {cheapest.name}, takes {share:.2f} of its GMACs"
    return sentence + "."
