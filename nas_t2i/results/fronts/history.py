"""In which order the training of a study came on record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nas_t2i.records import TrialRecord
from nas_t2i.search.racing.ledger import RACE_FILE, read_pieces
from nas_t2i.search.resume.rung_log import RUNGS_FILE, Seen, read_rungs
from nas_t2i.store import Study

_Key = tuple[str, str, int]


@dataclass(frozen=True)
class Stretch:
    """Points of one trial's curve, `begin` to `end`, that came on record together."""

    trial: TrialRecord
    begin: int
    end: int


@dataclass(frozen=True)
class History:
    """The stretches of a study in their order: every point of every curve once."""

    stretches: Sequence[Stretch]
    order: str
    """What the order is known from, in words that follow "in the order"."""


def history(study: Study) -> History:
    """Return the order of a study's training, as far as its records tell.

    Records hold no times. A race has the order of its decisions, other searches the one in which
    full rungs were reached. What neither tells of, such as trials that ended before a full rung,
    stands before the first of the trials that began later.

    Raises:
        RecordError: a log of decisions that was changed, or is damaged (file, line).
    """
    trials = {(t.arch_id, t.control, t.seed): t for t in study.trials}
    logged, order = list(_pieces(study)), "in which the race gave it away"
    if not logged:
        logged, order = list(_seen(study, trials)), "in which full rungs were reached"
    stretches: list[Stretch] = []
    told = dict.fromkeys(trials, 0)
    last: dict[_Key, int] = {}
    for key, step in logged:
        if key not in trials:
            continue
        trial, begin = trials[key], told[key]
        end = sum(point.step <= step for point in trial.curve)
        if end > begin:
            told[key], last[key] = end, len(stretches)
            stretches.append(Stretch(trial, begin, end))
    # The first place of a trial with that number or a later one.
    firsts: list[tuple[int, int]] = []
    for place, stretch in enumerate(stretches):
        if not stretch.begin:
            firsts.append((stretch.trial.number, place))
    placed = [((place, 1, 0), stretch) for place, stretch in enumerate(stretches)]
    for key, trial in trials.items():
        if told[key] < len(trial.curve):
            later = [place for number, place in firsts if number > trial.number]
            place = max(last.get(key, -1) + 1, min(later, default=len(stretches)))
            rest = Stretch(trial, told[key], len(trial.curve))
            placed.append(((place, 0, trial.number), rest))
    placed.sort(key=lambda item: item[0])
    return History(
        [stretch for _, stretch in placed], order if stretches else "in which trials began"
    )


def _pieces(study: Study) -> Iterator[tuple[_Key, int]]:
    for piece in read_pieces(study.folder / RACE_FILE, repair=False):
        yield (piece.arch_id, piece.control, piece.seed), piece.step


def _seen(study: Study, keys: Iterable[_Key]) -> Iterator[tuple[_Key, int]]:
    labels = {
        (a + (f"-{control}" if control else ""), s): (a, control, s) for a, control, s in keys
    }
    for event in read_rungs(study.folder / RUNGS_FILE):
        if isinstance(event, Seen) and (event.candidate, event.seed) in labels:
            yield labels[event.candidate, event.seed], event.rung
